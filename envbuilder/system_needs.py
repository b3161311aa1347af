"""What an environment needs of the system below it: Debian packages, with who needs them and for what. Pure.

The loader's rules decide, as far as files can tell: a name that a wheel needs is there when the base has it, when a
search path of the wheel leads to it, or when its own package carries it (and loads it before). What is left is looked
up in the table.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envbuilder.base_system import BaseSystem
    from envbuilder.errors import Source
    from envbuilder.fields import Stated
    from envbuilder.system_table import SystemTable

_ORIGIN: Final = re.compile(r"\$(?:ORIGIN\b|\{ORIGIN\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelLibrary:
    """A shared object in a wheel."""

    path: str
    """Relative to where packages are, e.g. `lightgbm/lib/lib_lightgbm.so`."""

    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A package of Python and its shared objects."""

    name: str
    libraries: tuple[WheelLibrary, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPackage:
    """A Debian package that the image needs beside its base."""

    name: str
    needed_by: tuple[str, ...] = ()
    """Packages of Python; empty where somebody asked for it."""

    libraries: tuple[str, ...] = ()
    source: Source | None = None
    """Where it is asked for; None where it was found."""

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "name": self.name,
            "needed_by": list(self.needed_by),
            "libraries": list(self.libraries),
            "source": {"file": self.source.file, "key": self.source.key} if self.source is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownLibrary:
    """A library that is needed, and that nothing here has or knows."""

    name: str
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemNeeds:
    """All that is needed of the system."""

    packages: tuple[SystemPackage, ...] = ()
    """Sorted by name, each once."""

    unknown: tuple[UnknownLibrary, ...] = ()
    driven: tuple[str, ...] = ()
    """Packages of Python that need a GPU's driver, from the host."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the Debian packages."""
        return tuple(one.name for one in self.packages)


def find(
    carried: Iterable[Carried],
    base: BaseSystem,
    table: SystemTable,
    *,
    asked: Iterable[Stated[str]] = (),
    present: Iterable[str] = (),
) -> SystemNeeds:
    """Return what is needed; `present` are libraries that come into the environment otherwise, from conda packages.

    Of a base of which nothing is known, only what is asked for is.
    """
    wanted = _Wanted()
    carried = tuple(carried)
    if base.libraries:
        _find(carried, base, table, wanted, frozenset(present))
    sources = {one.value: one.source for one in asked}
    packages = tuple(
        SystemPackage(
            name=name,
            needed_by=tuple(sorted({who for who, _ in wanted.packages.get(name, ())})),
            libraries=tuple(sorted({what for _, what in wanted.packages.get(name, ()) if what})),
            source=sources.get(name),
        )
        for name in sorted({*sources, *wanted.packages})
    )
    unknown = tuple(
        UnknownLibrary(name=name, needed_by=tuple(sorted(who))) for name, who in sorted(wanted.unknown.items())
    )
    return SystemNeeds(packages=packages, unknown=unknown, driven=tuple(sorted(wanted.driven)))


class _Wanted:
    """What was found so far."""

    def __init__(self) -> None:
        self.packages: dict[str, set[tuple[str, str]]] = {}
        self.unknown: dict[str, set[str]] = {}
        self.driven: set[str] = set()

    def add(self, package: str, who: str, what: str) -> None:
        self.packages.setdefault(package, set()).add((who, what))


def _find(
    carried: tuple[Carried, ...], base: BaseSystem, table: SystemTable, wanted: _Wanted, present: frozenset[str]
) -> None:
    here = present.union(base.libraries)
    paths = {library.path for one in carried for library in one.libraries}
    names = {posixpath.basename(path) for path in paths}
    for one in carried:
        for library in sorted(set(_unresolved(one, paths, here)) - set(table.optional.get(one.name, ()))):
            package = table.package(library, time64=base.has_time64_names)
            if library in table.driver:
                wanted.driven.add(one.name)
            elif package is not None:
                wanted.add(package, one.name, library)
            elif library not in names:
                wanted.unknown.setdefault(library, set()).add(one.name)
        for library in _opened(one, carried, names, table, here):
            package = table.package(library, time64=base.has_time64_names)
            if package is not None:
                wanted.add(package, one.name, library)
        for package in table.programs.get(one.name, ()):
            wanted.add(package, one.name, "")


def _unresolved(one: Carried, paths: set[str], here: frozenset[str]) -> Iterator[str]:
    own = {posixpath.basename(library.path) for library in one.libraries}
    for library in one.libraries:
        folders = [
            posixpath.normpath(_ORIGIN.sub(lambda _, path=library.path: posixpath.dirname(path) or ".", folder))  # type: ignore[misc]
            for folder in library.search
            if _ORIGIN.match(folder)
        ]
        for name in library.needed:
            found = any(posixpath.normpath(f"{folder}/{name}") in paths for folder in folders)
            if not (found or name in here or name in own or "/" in name):
                yield name


def _opened(
    one: Carried, carried: tuple[Carried, ...], names: set[str], table: SystemTable, here: frozenset[str]
) -> list[str]:
    if {other.name for other in carried} & set(table.instead.get(one.name, ())):
        return []
    # Packages that carry it name the file after their taste: `libsndfile_x86_64.so`, `libmagic-1a2b.so.1`.
    return [
        library
        for library in table.opened.get(one.name, ())
        if library not in here and not any(name.startswith(library.partition(".so")[0]) for name in names)
    ]
