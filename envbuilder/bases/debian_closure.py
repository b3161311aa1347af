"""Which packages an image needs: the closure of its roots' dependencies, less what only maintainer scripts use.

Pure: works on a PackageIndex.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from envbuilder.bases.debian_index import Relation
from envbuilder.errors import BaseImageError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.bases.debian_index import Package, PackageIndex
    from envbuilder.errors import Source

PYTHON: Final = "python3-minimal"
"""Gives `/usr/bin/python3`; its version begins with the suite's Python version."""

ROOTS: Final = (
    PYTHON,
    "libpython3-stdlib",
    "base-files",
    "ca-certificates",
    "dash",
    "libc-bin",
    "libstdc++6",
    "media-types",
    "netbase",
    "tzdata",
)
"""What every base image has: Python, the library of C++, certificates, time zones, the C.UTF-8 locale, a shell."""

OPTIONAL_ROOTS: Final = ("python3-distutils",)
"""Taken where the suite has it: before 3.12 `distutils` is part of Python, but Debian packages it apart."""

EXCLUDED: Final[dict[str, str]] = {
    "awk": "only the maintainer scripts of base-files use it",
    "debconf": "asks questions for maintainer scripts",
    "debianutils": "only the maintainer scripts of dash use it",
    "dpkg": "installs packages; nothing is installed into an image",
    "install-info": "maintains the directory of info pages, which are left out",
    "openssl": "the program; ca-certificates needs it to hash names for its script",
    "perl-base": "interprets maintainer scripts",
    "perl:any": "interprets maintainer scripts",
    "python3": "its parts that matter are roots themselves; the rest are developer's tools and documentation",
}
"""Packages that stay out though others depend on them, with the reason."""


def resolve(index: PackageIndex, suite: str) -> tuple[Package, ...]:
    """Return the packages of the image, sorted by name.

    Raises BaseImageError when the suite has no Python, or with every dependency that cannot be satisfied.
    """
    if index.get(PYTHON) is None:
        raise BaseImageError(
            f"the suite `{suite}` provides no `{PYTHON}`",
            fix="use a suite with Python 3: any Debian since bullseye, any Ubuntu since focal",
        )
    closure = _Closure(index)
    for name in ROOTS:
        package = index.get(name)
        if package is None:
            closure.problems.append(Problem(what=f"the suite `{suite}` has no package `{name}`"))
        else:
            closure.add(package)
    for name in OPTIONAL_ROOTS:
        package = index.get(name)
        if package is not None:
            closure.add(package)
    closure.complete()
    if closure.problems:
        raise BaseImageError(tuple(closure.problems))
    return tuple(closure.chosen[name] for name in sorted(closure.chosen))


def addition(
    index: PackageIndex, suite: str, names: Mapping[str, Source | None], installed: Mapping[str, Package]
) -> tuple[Package, ...]:
    """Return the packages that `names` need beside, or in a newer version than, those that are installed; sorted.

    With each name comes where it is asked for; one that nobody asked for and the suite does not have is left out.
    Raises BaseImageError with every name that the suite does not have, or dependency that cannot be satisfied.
    """
    closure = _Closure(index, installed)
    for name, source in names.items():
        found = installed.get(name) or closure.available(Relation(name=name))
        if found is None:
            if source is None:
                continue
            closure.problems.append(
                Problem(
                    what=f"the suite `{suite}` has no package `{name}` in `main`",
                    where=source,
                    fix="correct the name, or choose a base image that has what is in it",
                )
            )
        elif name not in installed:
            closure.add(found)
    closure.complete()
    if closure.problems:
        raise BaseImageError(tuple(closure.problems))
    chosen = closure.chosen
    return tuple(chosen[name] for name in sorted(chosen) if chosen[name] != installed.get(name))


class _Closure:
    """The packages chosen so far, and those whose dependencies are still to be looked at."""

    def __init__(self, index: PackageIndex, installed: Mapping[str, Package] = MappingProxyType({})) -> None:
        self.chosen: dict[str, Package] = dict(installed)
        self.problems: list[Problem] = []
        self._index = index
        self._waiting: list[Package] = []

    def add(self, package: Package) -> None:
        if self.chosen.get(package.name) != package:
            self.chosen[package.name] = package
            self._waiting.append(package)

    def complete(self) -> None:
        while self._waiting:
            package = self._waiting.pop(0)
            for alternatives in package.needs:
                self._satisfy(package, alternatives)

    def _satisfy(self, package: Package, alternatives: tuple[Relation, ...]) -> None:
        if any(relation.name in EXCLUDED for relation in alternatives):
            return
        if any(chosen.satisfies(relation) for relation in alternatives for chosen in self._candidates(relation)):
            return
        for relation in alternatives:
            found = self.available(relation)
            if found is not None:
                self.add(found)
                return
        wanted = " | ".join(str(relation) for relation in alternatives)
        self.problems.append(
            Problem(
                what=f"`{package.name}` {package.version} needs `{wanted}`, which the suite does not have",
                fix="use a complete mirror, with the suite's updates and security pockets",
            )
        )

    def _candidates(self, relation: Relation) -> list[Package]:
        """Return the chosen packages that might satisfy the relation: its namesake first, for speed."""
        named = self.chosen.get(relation.name)
        return [named] if named is not None else list(self.chosen.values())

    def available(self, relation: Relation) -> Package | None:
        named = self._index.get(relation.name)
        if named is not None and relation.accepts(named.version):
            return named
        providers = self._index.providers(relation.name)
        return next((package for package in providers if package.satisfies(relation)), None)
