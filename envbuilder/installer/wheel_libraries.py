"""The shared objects in wheels and what they ask of the loader, read once from each wheel and kept by its digest."""

from __future__ import annotations

import json
import posixpath
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest, disk, shared_object, zip_directory
from envbuilder.errors import LockMismatchError, Source
from envbuilder.installer import wheels
from envbuilder.system_needs import Carried, WheelLibrary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envbuilder.locked import LockedPackage
    from envbuilder.machine import Machine

_VERSION: Final = 1
"""Raise it when the same wheel would give another answer."""

_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError)


def read(packages: Iterable[LockedPackage], machine: Machine, *, architecture: str) -> tuple[Carried, ...]:
    """Return the packages' shared objects for an architecture of images, fetching the wheels that nobody read yet.

    A wheel for any machine has none. Raises UnreachableError, and LockMismatchError for what is no wheel.
    """
    packages = tuple(packages)
    binary = [one for one in packages if not one.filename.endswith("-any.whl")]
    records = {one.name: _record(one, machine, architecture) for one in binary}
    unread = [one for one in binary if _recorded(records[one.name]) is None]
    wheels.fetch(unread, machine)
    for number, one in enumerate(unread, start=1):
        machine.reporter.progress("libraries", number, len(unread), "packages")
        found = _libraries(wheels.wheel_path(one, machine.wheels), one, shared_object.MACHINES[architecture])
        content = [[library.path, library.needed, library.search] for library in found]
        disk.write_file(records[one.name], json.dumps(content).encode())
    return tuple(
        Carried(name=one.name, libraries=_recorded(records[one.name]) or () if one.name in records else ())
        for one in packages
    )


def _record(package: LockedPackage, machine: Machine, architecture: str) -> Path:
    key = digest.of_json([_VERSION, package.sha256, architecture])
    return machine.probes / f"libraries-{digest.hex_of(key)}.json"


def _recorded(record: Path) -> tuple[WheelLibrary, ...] | None:
    try:
        value: list[Any] = json.loads(record.read_bytes())
        return tuple(
            WheelLibrary(path=path, needed=tuple(needed), search=tuple(search)) for path, needed, search in value
        )
    except (OSError, ValueError, TypeError):
        return None


def _libraries(path: Path, package: LockedPackage, machine_number: int) -> list[WheelLibrary]:
    found = []
    try:
        zip_directory.check(path)
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.infolist(), key=lambda one: one.filename):
                name = posixpath.basename(member.filename)
                if not (name.endswith(".so") or ".so." in name):
                    continue
                with archive.open(member) as stream:
                    read = shared_object.read(stream)
                if read is not None and read.machine == machine_number:
                    place = _installed(member.filename)
                    found.append(WheelLibrary(path=place, needed=read.needed, search=read.search))
    except _DAMAGE as cause:
        raise LockMismatchError(
            f"`{path.name}` is not a wheel that can be read ({cause})",
            where=Source(file=package.url),
            fix="lock another version of it, or tell its authors",
        ) from cause
    return found


def _installed(member: str) -> str:
    """Return where a member comes to lie, relative to the packages: `x.data/platlib/y` is `y`."""
    top, _, rest = member.partition("/")
    scheme, _, inner = rest.partition("/")
    return inner if top.endswith(".data") and scheme in ("purelib", "platlib") else member
