"""What a source asks for to be built: the `[build-system]` table of its pyproject.toml (PEP 517, 518). Pure."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import InvalidRequirement, Requirement

from envbuilder.errors import InvalidFileError
from envbuilder.problems import shown

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - an older Python
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.errors import Source

_LEGACY_REQUIRES: Final = ("setuptools>=40.8.0",)
_LEGACY_BACKEND: Final = "setuptools.build_meta:__legacy__"
_BACKEND: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
_MAX_CHARACTERS: Final = 20_000
_MAX_NAME: Final = 1000
_FIX: Final = "use another version of the package, or tell its authors"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """Who builds a source, and what must be installed for that."""

    requires: tuple[str, ...]
    """Requirement lines, in the spelling of `packaging`; none names a place."""

    backend: str
    """`module:object`."""

    path: tuple[str, ...] = ()
    """Directories of the source that the backend is imported from."""

    @classmethod
    def parse(cls, text: bytes | None, *, source: Source) -> BuildSystem:
        """Read a pyproject.toml, or None where there is none; raises InvalidFileError."""
        try:
            table = tomllib.loads(text.decode()).get("build-system") if text is not None else None
        except (ValueError, RecursionError) as cause:
            raise _error(f"it is not TOML ({shown(str(cause))})", source) from cause
        if table is None:
            return cls(requires=_LEGACY_REQUIRES, backend=_LEGACY_BACKEND)
        if not isinstance(table, dict):
            raise _error("`build-system` is not a table", source)
        if "requires" not in table:
            raise _error("`build-system` does not say what it `requires`", source)
        backend = table.get("build-backend", _LEGACY_BACKEND)
        if not isinstance(backend, str) or len(backend) > _MAX_NAME or not _BACKEND.fullmatch(backend):
            raise _error(f"`build-backend` is {shown(repr(backend))}, expected `module:object`", source)
        return cls(
            requires=requirement_lines(_strings(table, "requires", source), source=source.child("build-system")),
            backend=backend,
            path=tuple(_inside(path, source) for path in _strings(table, "backend-path", source)),
        )


def requirement_lines(lines: Iterable[str], *, source: Source) -> tuple[str, ...]:
    """Return the lines in one spelling; raises InvalidFileError for one that is no requirement, or names a place."""
    found = []
    lines = tuple(lines)
    if sum(map(len, lines)) > _MAX_CHARACTERS:
        raise _error("it requires more than any build does", source.child("requires"))
    for line in lines:
        try:
            requirement = Requirement(line)
        except (InvalidRequirement, RecursionError) as cause:
            raise _error(f"`{shown(line)}` is not a requirement", source.child("requires")) from cause
        if requirement.url is not None:
            raise _error(
                f"`{shown(requirement.name)}` is to be fetched from one place for the build, which is not done",
                source.child("requires"),
            )
        found.append(str(requirement))
    return tuple(found)


def _strings(table: dict[str, Any], key: str, source: Source) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _error(f"`{key}` is not a list of texts", source.child("build-system"))
    if sum(map(len, value)) > _MAX_CHARACTERS:
        raise _error(f"`{key}` is longer than any in use", source.child("build-system"))
    return value


def _inside(path: str, source: Source) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise _error(f"`backend-path` names `{shown(path)}`, which is outside the source", source.child("build-system"))
    return "/".join(parts)


def _error(what: str, source: Source) -> InvalidFileError:
    return InvalidFileError(f"the source cannot be built: {what}", where=source, fix=_FIX)
