"""Writing that a crash or a full disk cannot leave half done: a temporary name, then a rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from envbuilder.errors import DiskFullError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_disk_named(where: Path) -> Iterator[None]:
    """Turn `no space left` inside the block into a DiskFullError that names the disk of `where`."""
    try:
        yield
    except OSError as cause:
        if cause.errno not in _FULL:
            raise
        raise DiskFullError(
            "no space left on the disk",
            where=Source(file=str(where)),
            fix="free space there, or point ENVBUILDER_CACHE_DIR to a larger disk",
        ) from cause


@contextmanager
def readable_by_all() -> Iterator[None]:
    """Let what the process writes inside the block be readable by all, whatever its umask was.

    The caches hold files of images, and a sandbox reads them as another user. The umask is the whole process's.
    """
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a stream whose content becomes `path` when the block ends well, and nothing when it does not."""
    with full_disk_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replaced_file(path) as stream:
        stream.write(data)


@contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """Give a directory in `parent` that is gone when the block ends."""
    with full_disk_named(parent):
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=".tmp-"))
        try:
            temporary.chmod(0o755)
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_directory(source: Path, target: Path) -> None:
    """Give the directory its final name; where another process made `target` meanwhile, theirs stays.

    Directories here are named by their content, so theirs is as good as ours.
    """
    try:
        source.rename(target)
    except OSError as cause:
        if cause.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give a directory that becomes `path` when the block ends well."""
    with temporary_directory(path.parent) as parent:
        directory = parent / "new"
        directory.mkdir()
        # Whatever the umask: a sandbox runs as another user.
        directory.chmod(0o755)
        yield directory
        move_directory(directory, path)
