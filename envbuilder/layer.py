"""Layers as deterministic tars: sorted names, fixed owner and time, gzip through isal.

The same files give the same diff id on every machine, and the same blob with the same isal version.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from isal import igzip

from envbuilder import digest
from envbuilder.errors import BuildFailedError, Source
from envbuilder.oci_image import LAYER_GZIP, Descriptor, Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envbuilder.image_store import ImageStore

LAYOUT_VERSION: Final = 1
"""Part of every cache key: raise it when the same input would give other files."""

_LEVEL: Final = 2
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member of a layer: a directory, a symlink, or a file from memory or disk."""

    path: str
    """Relative to the root of the image, with `/`, without a leading or trailing slash."""

    mode: int
    content: bytes | Path | None = None
    """A file's bytes, or where they are; None for directories and links."""

    link: str | None = None
    """A symlink's target, as it is written in the link."""

    mtime: int = 0
    """Kept where it means something: bytecode may be valid only for the time of its source."""

    hard_link: str | None = None
    """The path (in this layer) of the file this one is a hard link to."""

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return self.content is None and self.link is None and self.hard_link is None


def tree_entries(root: Path, prefix: str = "") -> Iterator[Entry]:
    """Give an entry for each file, directory and link below `root`, in the image under `prefix`.

    Modes become 755 for directories and executables, 644 for the rest, whatever the umask was.
    """
    base = f"{prefix}/" if prefix else ""
    stack = [root]
    while stack:
        directory = stack.pop()
        with os.scandir(directory) as children:
            for child in children:
                path = base + os.path.relpath(child.path, root).replace(os.sep, "/")
                if child.is_symlink():
                    yield Entry(path=path, mode=0o777, link=str(Path(child.path).readlink()))
                elif child.is_dir():
                    yield Entry(path=path, mode=0o755)
                    stack.append(Path(child.path))
                else:
                    executable = child.stat().st_mode & stat.S_IXUSR
                    yield Entry(path=path, mode=0o755 if executable else 0o644, content=Path(child.path))


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries sorted by path, each once (the last given wins), with every parent directory present."""
    by_path = {entry.path: entry for entry in entries}
    for path in list(by_path):
        parent = path.rpartition("/")[0]
        while parent and parent not in by_path:
            by_path[parent] = Entry(path=parent, mode=0o755)
            parent = parent.rpartition("/")[0]
    return [by_path[path] for path in sorted(by_path)]


def write_layer(store: ImageStore, entries: Iterable[Entry], *, comment: str) -> Layer:
    """Write the entries as a layer blob into the store and return the layer."""
    with store.new_blob() as blob:
        with igzip.IGzipFile(filename="", mode="wb", fileobj=blob, compresslevel=_LEVEL, mtime=0) as compressed:  # type: ignore[no-untyped-call, unused-ignore]
            hashed = _HashingWriter(compressed)
            _write_tar(hashed, with_parents(entries))
        diff_id = hashed.digest
    descriptor = Descriptor(media_type=LAYER_GZIP, digest=blob.digest, size=blob.size)
    return Layer(blob=descriptor, diff_id=diff_id, comment=comment)


class _HashingWriter:
    """Passes bytes on and keeps their digest and number."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - igzip has no types
        self._stream = stream
        self._state = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._state.update(data)
        self.size += len(data)
        self._stream.write(data)

    @property
    def digest(self) -> digest.Digest:
        return digest.of_hex(self._state.hexdigest())


def _write_tar(stream: _HashingWriter, entries: Iterable[Entry]) -> None:
    """Write the entries as tarfile would, four times as fast: its streams copy their buffer for each member."""
    for entry in entries:
        info = tarfile.TarInfo(entry.path)
        info.mode = entry.mode
        info.mtime = entry.mtime
        if entry.link is not None:
            info.type = tarfile.SYMTYPE
            info.linkname = entry.link
        elif entry.hard_link is not None:
            info.type = tarfile.LNKTYPE
            info.linkname = entry.hard_link
        elif entry.content is None:
            info.type = tarfile.DIRTYPE
        else:
            _write_file(stream, info, entry.content)
            continue
        stream.write(_header(info))
    stream.write(bytes(2 * tarfile.BLOCKSIZE))
    stream.write(bytes(-stream.size % tarfile.RECORDSIZE))


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _write_file(stream: _HashingWriter, info: tarfile.TarInfo, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        info.size = len(content)
        stream.write(_header(info) + content + _padding(info.size))
        return
    with content.open("rb", buffering=0) as source:
        info.size = os.fstat(source.fileno()).st_size
        stream.write(_header(info))
        left = info.size
        while left and (chunk := source.read(min(left, _CHUNK))):
            stream.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise BuildFailedError(
                "the file changed while it was read",
                where=Source(file=str(content)),
                fix="build again when nothing writes to it",
            )
        stream.write(_padding(info.size))


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def open_layer(path: Path) -> IO[bytes]:
    """Open a layer blob for reading as a tar stream, decompressing gzip, or nothing, by its first bytes."""
    with path.open("rb") as stream:
        magic = stream.read(2)
    if magic == b"\x1f\x8b":
        opened: IO[bytes] = igzip.open(path, "rb")  # type: ignore[no-untyped-call]
        return opened
    return path.open("rb")
