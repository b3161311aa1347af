"""Which Debian package has a library, and which packages of Python open one unannounced: `system_packages.toml`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - an older Python
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTable:
    """What the table says."""

    libraries: Mapping[str, tuple[str, ...]]
    """Debian's package of each library; two names where it has another one since the 64 bit times."""

    opened: Mapping[str, tuple[str, ...]]
    """Libraries that packages of Python open by name."""

    instead: Mapping[str, tuple[str, ...]]
    """Packages of Python that bring what another one opens."""

    programs: Mapping[str, tuple[str, ...]]
    """Debian's packages of programs that packages of Python start."""

    optional: Mapping[str, tuple[str, ...]]
    """Libraries that a package of Python does without."""

    driver: tuple[str, ...]
    """Libraries that come with a GPU's driver, from the host."""

    @classmethod
    def parse(cls, text: str) -> SystemTable:
        """Read the table."""
        value = tomllib.loads(text)
        names = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in value["libraries"].items()}
        tables = {key: _lists(value[key]) for key in ("opened", "instead", "programs", "optional")}
        return cls(libraries=names, driver=_lists(value["driver"])["nvidia"], **tables)

    def package(self, library: str, *, time64: bool) -> str | None:
        """Return Debian's package of a library, None where the table knows none."""
        names = self.libraries.get(library, ())
        return names[-1 if time64 else 0] if names else None


def _lists(value: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(some) for name, some in value.items()}


@cache
def load() -> SystemTable:
    """Return the table that comes with envbuilder."""
    return SystemTable.parse(resources.files("envbuilder").joinpath("system_packages.toml").read_text(encoding="utf-8"))
