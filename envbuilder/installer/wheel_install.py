"""One wheel's files, as they lie in an environment: the binary distribution format, through pypa/installer.

Each file is given to a writer: one that writes it, or one that only keeps what it is. So what is installed and what
is expected when an environment is verified cannot differ.
"""

from __future__ import annotations

import hashlib
import posixpath
import zlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Protocol
from zipfile import BadZipFile

from installer import install as install_wheel
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import construct_record_file

from envbuilder.errors import BuildFailedError, LockMismatchError, Source
from envbuilder.file_state import FileState

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement
    from installer.utils import Scheme

    from envbuilder.locked import LockedPackage
    from envbuilder.prefix_layout import PrefixLayout

INSTALLER: Final = b"envbuilder\n"
"""What RECORD's neighbour says of who installed it."""


_LONGEST_SHEBANG: Final = 124


class Writer(Protocol):
    """Takes the files of a wheel."""

    def __call__(self, path: str, data: bytes, *, executable: bool) -> None:
        """Take a file; its path is relative to the prefix, with `/`."""


@dataclass
class DirectoryWriter:
    """Writes files below a directory."""

    root: Path
    _made: set[Path] = field(default_factory=set)

    def __call__(self, path: str, data: bytes, *, executable: bool) -> None:
        """Write a file in place of what is there."""
        target = self.root / path
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        target.write_bytes(data)
        if executable:
            target.chmod(0o755)


@dataclass
class StateWriter:
    """Keeps what the files are, and writes none."""

    states: dict[str, FileState] = field(default_factory=dict)

    def __call__(self, path: str, data: bytes, *, executable: bool) -> None:
        """Keep the state of a file."""
        self.states[path] = FileState.of_bytes(data, executable=executable)


InstalledBy = Literal["envbuilder", "uv"]
"""In whose words commands are written, and what INSTALLER says; the build of a Dockerfile installs with uv."""

_UV_SCRIPT: Final = """\
#!{executable}
# -*- coding: utf-8 -*-
import sys
from {module} import {name}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({attribute}())
"""


def install(
    package: LockedPackage, wheel: Path, *, layout: PrefixLayout, write: Writer, by: InstalledBy = "envbuilder"
) -> None:
    """Give each file of the wheel to `write`.

    Raises LockMismatchError for what is no wheel of the package, BuildFailedError for one that leaves its place.
    """
    destination = _Destination(name=package.name, layout=layout, write=write, by=by)
    installer = INSTALLER if by == "envbuilder" else b"uv"
    try:
        with _Wheel.open(wheel) as opened:
            install_wheel(opened, destination, {"INSTALLER": installer, "REQUESTED": b""})
    except (InstallerError, AssertionError, ValueError, KeyError, RuntimeError, BadZipFile, zlib.error) as cause:
        raise LockMismatchError(
            f"`{wheel.name}` is not a wheel that can be installed ({cause})",
            where=Source(file=package.url),
            fix="lock another version of it, or tell its authors",
        ) from cause


class _Wheel(WheelFile):
    """A wheel without the bytecode that some builds leave in it: ours is made by the environment's own Python."""

    def get_contents(self) -> Iterator[WheelContentElement]:
        for element in super().get_contents():
            if "__pycache__" not in element[0][0].split("/")[:-1]:
                yield element


class _Destination(WheelDestination):
    """Where a wheel's files go, as pypa/installer's protocol asks."""

    def __init__(self, *, name: str, layout: PrefixLayout, write: Writer, by: InstalledBy) -> None:
        self._by = by
        self._name = name
        self._layout = layout
        self._schemes = layout.schemes(name)
        self._write_file = write

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if self._by == "uv":
            text = _UV_SCRIPT.format(
                executable=self._layout.executable, module=module, name=attr.partition(".")[0], attribute=attr
            )
            return self._write("scripts", name, text.encode(), executable=True)
        script = Script(name, module, attr, section)
        script_name, data = script.generate(self._layout.executable, self._layout.launcher)
        return self._write("scripts", script_name, data, executable=True)

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,  # noqa: FBT001
    ) -> RecordEntry:
        data = stream.read()
        if scheme == "scripts" and data.startswith(b"#!python"):
            data = _shebang(self._layout.executable) + data.partition(b"\n")[2]
        # A wheel that was built on Windows has no executable bits.
        return self._write(scheme, str(path), data, executable=is_executable or scheme == "scripts")

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        base = self._schemes[scheme]

        def way_to(owner: Scheme) -> str | None:
            return None if owner == scheme else f"{posixpath.relpath(self._schemes[owner] or '.', base or '.')}/"

        with construct_record_file(records, way_to) as stream:
            self._write(scheme, record_file_path, stream.read(), executable=False)

    def _write(self, scheme: str, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        self._write_file(self._placed(self._schemes[scheme], path), data, executable=executable)
        checksum = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        return RecordEntry(path, Hash("sha256", checksum), len(data))

    def _placed(self, folder: str, path: str) -> str:
        """Return where the file goes; the wheel says so, and pip, too, keeps it below its scheme's place."""
        normal = posixpath.normpath(path)
        leaves = posixpath.isabs(normal) or normal.split("/")[0] in ("..", ".") or "\0" in path
        # On Windows more than one letter parts a path.
        if leaves or (self._layout.system == "win" and any(letter in path for letter in "\\:")):
            raise BuildFailedError(
                f"the wheel of `{self._name}` holds a path that leaves the environment: {path!r}",
                fix="do not use this package; tell whoever offers it",
            )
        return f"{folder}/{normal}" if folder else normal


def _shebang(executable: str) -> bytes:
    """Return the first line of a script; spaces, and longer paths than kernels read, go through a shell as with pip."""
    if " " not in executable and len(executable) <= _LONGEST_SHEBANG:
        return f"#!{executable}\n".encode()
    return f"#!/bin/sh\n'''exec' \"{executable}\" \"$0\" \"$@\"\n' '''\n".encode()
