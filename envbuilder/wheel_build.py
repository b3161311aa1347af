"""Wheels built from source: once for each source, base and set of build tools, normalised, kept beside all others.

The same source gives the same bytes wherever its backend allows that: the place, the time, the order of hashes and
the build tools are fixed.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder import backend_call, digest, disk, uv, wheel_archive
from envbuilder.backend_call import BackendCall
from envbuilder.build_system import BuildSystem, requirement_lines
from envbuilder.errors import InvalidFileError, LockImpossibleError
from envbuilder.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.digest import Digest
    from envbuilder.engine import Engine
    from envbuilder.locked import LockedPackage
    from envbuilder.machine import Machine
    from envbuilder.package_index import PackageIndex
    from envbuilder.source_tree import SourceTree

LAYOUT_VERSION: Final = 1
"""Part of the cache key: raise it when the same source would give another wheel."""

_MAX_PYPROJECT: Final = 1 << 20
_ROUNDS: Final = 2
"""A backend may ask for more tools once; what it asks for then must be enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """A wheel that was built from source; it is in the wheel cache."""

    filename: str
    sha256: Digest
    name: str
    """Normalized."""

    version: str
    requires: tuple[str, ...]
    """The Requires-Dist lines of its METADATA."""

    requires_python: str
    tools: tuple[LockedPackage, ...]
    """What it was built with. Given to `build` again, the same tools build it anew on another machine."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """Where wheels are built, and where their tools come from."""

    base: BaseImage
    engine: Engine
    indexes: tuple[PackageIndex, ...]
    exclude_newer: str | None
    tools: tuple[LockedPackage, ...] | None
    machine: Machine

    @property
    def target(self) -> Target:
        return Target.of_image(self.base.interpreter, self.base.platform)

    def find(self, call: BackendCall, lines: tuple[str, ...]) -> BackendCall:
        """Return the call with the exact tools for the lines: the given ones, or what the indexes have."""
        if self.tools is not None:
            return replace(call, lines=lines, tools=self.tools)
        try:
            tools = uv.compile_lines(
                tuple(dict.fromkeys(requirement_lines(lines, source=call.tree.where))),
                indexes=self.indexes,
                exclude_newer=self.exclude_newer,
                python_version=self.base.interpreter.version,
                target=self.target,
                settings=self.machine.settings,
                reporter=self.machine.reporter,
            )
        except LockImpossibleError as cause:
            raise LockImpossibleError(
                f"`{call.called}` cannot be built from source: its build tools ({', '.join(lines)}) cannot be had as "
                f"wheels\n{cause.problems[0].what}",
                where=call.tree.where,
                fix="use another version of it, or offer a wheel of it, or of its build tools, in an index",
            ) from cause
        return replace(call, lines=lines, tools=tools)

    def key(self, call: BackendCall) -> str:
        """Return what the wheel is recorded under."""
        value = {
            "layout": LAYOUT_VERSION,
            "script": digest.of_file(backend_call.SCRIPT),
            "source": call.tree.digest,
            "subdirectory": call.tree.subdirectory,
            "system": asdict(call.system),
            "known": call.lines,
            "base": self.base.digest,
            "interpreter": asdict(self.base.interpreter),
            "platform": str(self.base.platform),
            "tools": sorted(tool.sha256 for tool in call.tools),
        }
        return digest.hex_of(digest.of_json(value))


def build(  # noqa: PLR0913 - what is expected, where it is built, what it may use
    tree: SourceTree,
    *,
    name: str | None,
    version: str | None,
    base: BaseImage,
    engine: Engine,
    machine: Machine,
    exclude_newer: str | None = None,
    indexes: tuple[PackageIndex, ...] = (),
    tools: tuple[LockedPackage, ...] | None = None,
) -> BuiltWheel:
    """Return the wheel of the source for the Python of `base`; builds it where nobody did.

    `name` and `version` are what it must turn out to be. `tools` are the exact build tools, e.g. those of an earlier
    build; else they are found in the indexes. Raises BuildFailedError when the backend fails or makes something else,
    InvalidFileError when the source cannot be read, LockImpossibleError when the tools cannot be had as wheels.
    """
    room = _Room(base=base, engine=engine, indexes=indexes, exclude_newer=exclude_newer, tools=tools, machine=machine)
    system = _system(tree)
    call = BackendCall(called=name or tree.where.file, tree=tree, system=system, lines=(), tools=())
    lines = system.requires
    for _ in range(_ROUNDS):
        call = room.find(call, lines)
        with _turn(room.key(call), machine) as record:
            found = _recorded(record, call, room) or _made(record, call, room)
        if isinstance(found, BuiltWheel):
            _check(found, name, version, call)
            return found
        lines = tuple(dict.fromkeys((*lines, *found)))
    raise call.wrong("its backend never has enough tools")


def _system(tree: SourceTree) -> BuildSystem:
    where = replace(tree.where, key=f"{tree.subdirectory}/pyproject.toml".lstrip("/"))
    file = tree.project / "pyproject.toml"
    if not file.is_file():
        if not (tree.project / "setup.py").is_file():
            raise InvalidFileError(
                "the source cannot be built: it has neither `pyproject.toml` nor `setup.py`",
                where=tree.where,
                fix="name the directory of the project after `#subdirectory=`, or another place",
            )
        return BuildSystem.parse(None, source=where)
    with file.open("rb") as stream:
        text = stream.read(_MAX_PYPROJECT + 1)
    if len(text) > _MAX_PYPROJECT:
        raise InvalidFileError(
            f"the source cannot be built: its pyproject.toml has more than {_MAX_PYPROJECT} bytes",
            where=where,
            fix="use another version of the package, or tell its authors",
        )
    return BuildSystem.parse(text, source=where)


@contextmanager
def _turn(key: str, machine: Machine) -> Iterator[Path]:
    """Give the path of the record once no other process builds for this key."""
    folder = machine.builds / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        machine.reporter.line("build", "another envbuilder builds this wheel; waiting for it")
        lock.acquire()
    try:
        yield machine.builds / f"{key}.json"
    finally:
        lock.release()


def _recorded(record: Path, call: BackendCall, room: _Room) -> BuiltWheel | tuple[str, ...] | None:
    """Return what the call was answered before: a wheel that is still there, or more requirement lines."""
    try:
        value = json.loads(record.read_bytes())
        if "requires" in value:
            return tuple(str(line) for line in value["requires"])
        path = room.machine.wheels / digest.hex_of(digest.parse(value["sha256"])) / str(value["filename"])
        return _built(path, call) if path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made(record: Path, call: BackendCall, room: _Room) -> BuiltWheel | tuple[str, ...]:
    """Call the backend and record its answer; a wheel goes into the cache, normalised."""
    wheels = room.machine.wheels
    with backend_call.answered(call, base=room.base, engine=room.engine, machine=room.machine) as answer:
        if answer.wheel is None:
            disk.write_file(record, json.dumps({"requires": answer.requires}).encode())
            return answer.requires
        where = call.tree.where
        metadata = wheel_archive.read(answer.wheel, where=where)
        if not metadata.tags & room.target.tags(room.base.interpreter.version).keys():
            raise call.wrong(f"its wheel `{metadata.filename}` does not fit the base's Python")
        with disk.temporary_directory(wheels) as work:
            new = work / metadata.filename
            wheel_archive.normalise(answer.wheel, new, where=where)
            place = wheels / digest.hex_of(digest.of_file(new)) / metadata.filename
            place.parent.mkdir(parents=True, exist_ok=True)
            new.replace(place)
    found = _built(place, call)
    disk.write_file(record, json.dumps({"filename": found.filename, "sha256": found.sha256}).encode())
    return found


def _built(path: Path, call: BackendCall) -> BuiltWheel:
    metadata = wheel_archive.read(path)
    return BuiltWheel(
        filename=metadata.filename,
        sha256=digest.of_hex(path.parent.name),
        name=metadata.name,
        version=metadata.version,
        requires=metadata.requires,
        requires_python=metadata.requires_python,
        tools=call.tools,
        path=path,
    )


def _check(found: BuiltWheel, name: str | None, version: str | None, call: BackendCall) -> None:
    is_named = name is None or found.name == canonicalize_name(name)
    is_versioned = version is None or Version(found.version) == Version(version)
    if not (is_named and is_versioned):
        expected = " ".join(text for text in (name, version) if text is not None)
        raise call.wrong(f"it is `{found.name} {found.version}`, expected `{expected}`")
