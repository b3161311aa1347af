"""Where a host will call the server of an image: Azure's `inference_config`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from envbuilder.fields import get_mapping, get_text
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.errors import Source
    from envbuilder.problems import Problems
    from envbuilder.yaml_text import Node

RouteName = Literal["liveness", "readiness", "scoring"]
NAMES: Final[tuple[RouteName, ...]] = get_args(RouteName)

_PATH: Final = re.compile(r"/[A-Za-z0-9._~/%-]*")
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route."""

    name: RouteName
    port: int
    path: str
    source: Source

    @property
    def text(self) -> str:
        """What people see, e.g. `scoring :5001/score`."""
        return f"{self.name} :{self.port}{self.path}"


def read(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> tuple[Route, ...]:
    """Return the three routes of the mapping at `key`: all or, where it is absent, none."""
    members = get_mapping(mapping, key, source, problems)
    if members is None:
        return ()
    where = source.child(key)
    known = {f"{name}_route" for name in NAMES}
    for unknown in sorted(members.keys() - known):
        problems.add(f"`{shown(unknown)}` is not known here", where=where, fix=f"use {_listed(sorted(known))}")
    missing = sorted(known - members.keys())
    if missing:
        problems.add(
            f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            where=where,
            fix="give all three routes, or remove `inference_config`",
        )
    routes = (_route(members, name, where, problems) for name in NAMES if f"{name}_route" in members)
    return tuple(route for route in routes if route is not None)


def _route(members: Mapping[str, Node], name: RouteName, source: Source, problems: Problems) -> Route | None:
    key = f"{name}_route"
    route = get_mapping(members, key, source, problems)
    where = source.child(key)
    if route is None:
        if members[key] is None:
            problems.add("nothing is said here", where=where, fix="give `port` and `path`")
        return None
    port, path = get_text(route, "port", where, problems), get_text(route, "path", where, problems)
    for member, found in (("port", port), ("path", path)):
        if found is None and route.get(member) is None:
            problems.add(f"no `{member}`", where=where, fix="give `port` and `path`")
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port.value) and 0 < int(port.value) <= _MAX_PORT):
        problems.add(f"`{shown(port.value)}` is not a port", where=port.source, fix="write a number from 1 to 65535")
        port = None
    if path is not None and not _PATH.fullmatch(path.value):
        problems.add(f"`{shown(path.value)}` is not the path of a route", where=path.source, fix="write `/score`")
        path = None
    if port is None or path is None:
        return None
    return Route(name=name, port=int(port.value), path=path.value, source=where)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
