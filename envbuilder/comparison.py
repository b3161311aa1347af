"""What an environment holds against what its lock puts there: missing, extra, changed. Pure."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from envbuilder.expected_file import ExpectedFile
    from envbuilder.file_state import FileState
    from envbuilder.locked import Lock
    from envbuilder.prefix_layout import PrefixLayout

Kind = Literal["missing package", "extra package", "other version", "other python", "missing", "extra", "changed"]

_DIST_INFO: Final = re.compile(r"(?P<name>[^/]+?)-(?P<version>[^/-]+)\.(?:dist|egg)-info/(?:METADATA|PKG-INFO)\Z")
_CONDA_META: Final = re.compile(r"conda-meta/(?P<name>[^/]+)-(?P<version>[^/-]+)-[^/-]+\.json\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One way in which an environment is not what was locked."""

    kind: Kind
    package: str
    """Its name; empty where nobody knows."""

    path: str = ""
    """In the environment; empty for whole packages."""

    detail: str

    def to_dict(self) -> dict[str, str]:
        """Return it in the types of JSON."""
        return {"kind": self.kind, "package": self.package, "path": self.path, "detail": self.detail}


def compare(
    lock: Lock, expected: Mapping[str, ExpectedFile], found: Mapping[str, FileState], layout: PrefixLayout
) -> tuple[Deviation, ...]:
    """Return how the files found differ from those expected, packages first; bytecode is looked at elsewhere."""
    versions = {one.name: one.version for one in lock.conda_packages}
    versions |= {one.name: one.version for one in lock.packages}
    owned = Counter(one.owner for one in expected.values())
    missing = sorted(path for path in expected if path not in found)
    gone = {
        owner for owner, count in Counter(expected[path].owner for path in missing).items() if count == owned[owner]
    }
    extra = sorted(path for path in found if path not in expected and source_of(path, layout) not in expected)
    installed = dict(_packages(extra, layout))
    # A package of another version leaves what both versions have where it was.
    other = {name for name in installed if name in versions}
    deviations = [
        *(
            Deviation(
                kind="other version", package=name, detail=f"locked is {versions[name]}, here is {installed[name]}"
            )
            for name in sorted(other)
        ),
        *(
            Deviation(kind="missing package", package=name, detail=f"{versions.get(name, '')} is locked".strip())
            for name in sorted(gone - other)
        ),
        *(
            Deviation(kind="extra package", package=name, detail=f"{version} is not locked")
            for name, version in sorted(installed.items())
            if name not in other
        ),
        *(
            Deviation(kind="missing", package=expected[path].owner, path=path, detail="not there")
            for path in missing
            if expected[path].owner not in gone
        ),
        *_changed(expected, found),
        *_extra(extra),
    ]
    return tuple(deviations)


def source_of(path: str, layout: PrefixLayout) -> str | None:
    """Return the module that a file of bytecode is of, if this Python reads it for one; else None."""
    folder, name = posixpath.split(path)
    parent, cache = posixpath.split(folder)
    tag = f".cpython-{layout.minor.replace('.', '')}"
    stem = re.sub(r"(\.opt-[12])?\.pyc\Z", "", name)
    if cache != "__pycache__" or stem == name or not stem.endswith(tag):
        return None
    return posixpath.join(parent, f"{stem.removesuffix(tag)}.py")


def _packages(extra: Iterable[str], layout: PrefixLayout) -> Iterator[tuple[str, str]]:
    """Give name and version of each package that extra files are the record of."""
    for path in extra:
        inside = path.removeprefix(f"{layout.site_packages}/")
        match = _DIST_INFO.match(inside) if inside != path else _CONDA_META.match(path)
        if match is not None:
            yield canonicalize_name(match["name"]), match["version"]


def _changed(expected: Mapping[str, ExpectedFile], found: Mapping[str, FileState]) -> Iterator[Deviation]:
    for path in sorted(expected.keys() & found.keys()):
        wanted, state = expected[path], found[path]
        if wanted.states and state not in wanted.states:
            yield Deviation(
                kind="changed", package=wanted.owner, path=path, detail=_difference(wanted.states[-1], state)
            )


def _difference(wanted: FileState, state: FileState) -> str:
    if state.link is not None:
        return f"links to {state.link}" + (
            f", not to {wanted.link}" if wanted.link is not None else ", is to be a file"
        )
    if wanted.link is not None:
        return f"is to be a link to {wanted.link}"
    if state.sha256 is None:
        return "is neither file nor link"
    if state.sha256 != wanted.sha256:
        return f"has {state.sha256[:19]}, locked is {str(wanted.sha256)[:19]}"
    return "can be run, and is not to" if state.executable else "cannot be run, and is to"


def _extra(paths: Iterable[str]) -> Iterator[Deviation]:
    """Give the files that belong to nothing, those of one folder together."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(posixpath.dirname(path), []).append(path)
    for folder, inside in sorted(folders.items()):
        few = len(inside) <= _FEW
        for path in inside if few else ():
            yield Deviation(kind="extra", package="", path=path, detail="belongs to nothing that is locked")
        if not few:
            detail = f"{len(inside)} files that belong to nothing that is locked"
            yield Deviation(kind="extra", package="", path=f"{folder}/", detail=detail)


_FEW: Final = 3
"""From how many on the files of a folder are told one by one."""
