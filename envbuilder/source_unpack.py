"""Unpacking of archives that nobody vouches for: no path leaves the target, no links out, bounded size and time.

The result is the same for the same archive: modes are 755 or 644, all times are one, whatever the umask was.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Literal

from envbuilder import disk, zip_directory
from envbuilder.errors import InvalidFileError, Source
from envbuilder.source_tree import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_MEMBERS: Final = 200_000
MAX_BYTES: Final = 2 << 30
MAX_SECONDS: Final = 300
_MAX_HEADER: Final = 16 << 20
"""Of what tarfile reads at once; only headers are read so."""

_CHUNK: Final = 1 << 20
_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
)
_BAD_NAME: Final = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ)

Kind = Literal["directory", "file", "link", "hard link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""
    """Of a link."""

    stream: IO[bytes] | None = None
    """Of a file: readable until the next member is asked for."""


class _RefusedError(Exception):
    """Says what is wrong with an archive."""


def unpack(archive: Path, target: Path, *, where: Source) -> None:
    """Write the members of a tar (plain, gzip, bzip2, xz) or zip file below the empty directory `target`.

    Raises InvalidFileError naming what a trustworthy archive would not hold; `target` is to be thrown away then.
    """
    read: Callable[[Path], Iterator[_Member]] = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    try:
        with disk.full_disk_named(target):
            _Unpacking(target).write(read(archive))
    except _RefusedError as refused:
        raise _error(str(refused), where) from refused
    except (*_DAMAGE, OSError) as cause:
        # The decompressors also raise OSError for bad data; those of the system have a number.
        if isinstance(cause, OSError) and cause.errno is not None:
            if cause.errno not in _BAD_NAME:
                raise
            raise _error(f"it holds a name that cannot be written ({cause.strerror})", where) from cause
        raise _error(f"it is damaged ({type(cause).__name__}: {cause})", where) from cause


def _error(what: str, where: Source) -> InvalidFileError:
    return InvalidFileError(
        f"the source archive is not unpacked: {what}",
        where=where,
        fix="use another version of the package, or tell whoever offers it",
    )


class _Unpacking:
    """Writes members below `root`; links are made last, so nothing is ever written through one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: dict[Path, str] = {}
        self._count = self._bytes = 0
        self._end = time.monotonic() + MAX_SECONDS

    def write(self, members: Iterator[_Member]) -> None:
        for member in members:
            self._count += 1
            if self._count > MAX_MEMBERS:
                raise _RefusedError(f"it has more than {MAX_MEMBERS} members")
            self._check_time()
            path = self._path(member.name)
            if path is not None:
                self._add(member, path)
        self._make_links()
        _normalise(self._root)

    def _add(self, member: _Member, path: Path) -> None:
        self._take(member.size)
        if member.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "link":
            self._links[path] = member.target
        elif member.kind == "hard link":
            source = self._path(member.target)
            if source is None or not source.is_file():
                raise _RefusedError(f"`{member.name}` is a hard link to a file that is not there before it")
            self._take(source.stat().st_size)
            if source != path:
                shutil.copy(source, path)
        elif member.stream is not None:
            with path.open("wb") as stream:
                while chunk := member.stream.read(_CHUNK):
                    stream.write(chunk)
                    self._check_time()
            path.chmod(0o755 if member.executable else 0o644)

    def _take(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise _RefusedError(f"it unpacks to more than {MAX_BYTES} bytes")

    def _check_time(self) -> None:
        if time.monotonic() > self._end:
            raise _RefusedError(f"it takes longer than {MAX_SECONDS} s")

    def _path(self, name: str) -> Path | None:
        """Return where the member belongs; None for the root itself."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise _RefusedError(f"`{name!r}` is a path that leaves it")
        return self._root.joinpath(*parts) if parts else None

    def _make_links(self) -> None:
        for path, target in self._links.items():
            # What is below a link made it a directory.
            if os.path.lexists(path):
                raise _RefusedError(f"`{path.relative_to(self._root)}` is a link and something else as well")
            path.symlink_to(target)
        # Only now it shows where links lead that pass other links.
        root = self._root.resolve()
        for path in self._links:
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise _RefusedError(f"`{path.relative_to(self._root)}` is a link that leaves it")


def _normalise(root: Path) -> None:
    for folder, directories, files in os.walk(root, topdown=False):
        for name in (*directories, *files):
            os.utime(Path(folder, name), (EPOCH, EPOCH), follow_symlinks=False)
        Path(folder).chmod(0o755)
    os.utime(root, (EPOCH, EPOCH))


class _Decompressed:
    """What tarfile reads: bounded in all, and in what is read at once, as headers say their own size."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - three modules with the same file object
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise _RefusedError("it has a header of absurd size")
        if self._stream.tell() > MAX_BYTES + _MAX_HEADER:
            raise _RefusedError(f"it unpacks to more than {MAX_BYTES} bytes")
        return bytes(self._stream.read(size))

    def seek(self, position: int) -> int:
        if position > MAX_BYTES + _MAX_HEADER:
            raise _RefusedError(f"it unpacks to more than {MAX_BYTES} bytes")
        return int(self._stream.seek(position))

    def tell(self) -> int:
        return int(self._stream.tell())


def _tar_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as raw, _opened(raw) as stream:
        bounded: Any = _Decompressed(stream)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for member in tar:
                yield _tar_member(tar, member)


def _opened(raw: BinaryIO) -> Any:  # noqa: ANN401 - three modules with the same file object
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if magic == b"\xfd7zXZ\0" else raw


def _tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    if member.isdir():
        return _Member(name=member.name, kind="directory")
    if member.issym() or member.islnk():
        return _Member(name=member.name, kind="link" if member.issym() else "hard link", target=member.linkname)
    if not member.isreg() or member.issparse():
        raise _RefusedError(f"`{member.name}` is neither a file nor a directory nor a link")
    return _Member(
        name=member.name,
        kind="file",
        size=member.size,
        executable=bool(member.mode & stat.S_IXUSR),
        stream=tar.extractfile(member),
    )


def _zip_members(archive: Path) -> Iterator[_Member]:
    zip_directory.check(archive)
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                yield _Member(name=info.filename, kind="directory")
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise _RefusedError(f"`{info.filename}` is neither a file nor a directory nor a link")
            with opened.open(info) as stream:
                if stat.S_ISLNK(mode):
                    target = stream.read(_CHUNK).decode("utf-8", "surrogateescape")
                    yield _Member(name=info.filename, kind="link", target=target)
                else:
                    yield _Member(
                        name=info.filename,
                        kind="file",
                        size=info.file_size,
                        executable=bool(mode & stat.S_IXUSR),
                        stream=stream,
                    )
