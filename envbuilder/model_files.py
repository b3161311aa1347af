"""The files of a model directory: found without leaving it, each with its digest."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from envbuilder import digest
from envbuilder.errors import ModelError, Source
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.digest import Digest

MAX_FILES: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model."""

    path: str
    """Relative to the model directory, with `/`."""
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """All files of a model."""

    directory: Path
    files: tuple[ModelFile, ...]
    """Sorted by path."""
    digest: Digest
    """Of their names and contents."""

    @classmethod
    def read(cls, directory: Path) -> ModelFiles:
        """Read every file below `directory`; raise `ModelError` where one cannot be read or leads out of it."""
        paths = walk(directory)
        files = tuple(read_file(paths, path, root=directory) for path in sorted(paths))
        lines = "".join(f"{file.path}\0{file.digest}\n" for file in files)
        return cls(directory=directory, files=files, digest=digest.of_bytes(lines.encode()))


def walk(root: Path) -> dict[str, Path]:
    """Find every file below `root`; symbolic links are followed as long as they stay inside."""
    found: dict[str, Path] = {}
    seen = 0
    real_root = Path(os.path.realpath(root))
    waiting: list[tuple[Path, str, tuple[Path, ...]]] = [(real_root, "", (real_root,))]
    while waiting:
        directory, prefix, above = waiting.pop()
        for entry in _entries(directory, root / prefix):
            seen += 1
            if seen > MAX_FILES:
                # Links to directories can multiply without end.
                _refuse(root, f"more than {MAX_FILES} files, links followed")
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            real = _real(entry, root / path, real_root)
            try:
                mode = real.stat().st_mode
            except OSError as error:
                raise _unreadable(root / path, error) from error
            if stat.S_ISDIR(mode):
                if real in above:
                    _refuse(root / path, "a link that leads back into itself")
                waiting.append((real, path, (*above, real)))
            elif stat.S_ISREG(mode):
                found[path] = real
            else:
                _refuse(root / path, "neither a file nor a directory")
    return found


def _entries(directory: Path, shown_as: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(shown_as, error) from error


def _real(entry: os.DirEntry[str], shown_as: Path, real_root: Path) -> Path:
    if not entry.name.isprintable():
        _refuse(shown_as, "a file name that is not plain UTF-8 text")
    if not entry.is_symlink():
        return Path(entry.path)
    real = Path(os.path.realpath(entry.path))
    if not real.is_relative_to(real_root):
        _refuse(shown_as, "a link that leaves the model directory")
    if not os.path.exists(real):  # noqa: PTH110 - pathlib raises where the name is too long
        _refuse(shown_as, "a link to nothing")
    return real


def _unreadable(path: Path, error: OSError) -> ModelError:
    where = Source(file=shown(str(path), limit=500))
    return ModelError(f"cannot be read: {error.strerror}", where=where, fix="check its permissions")


def _refuse(path: Path, what: str) -> NoReturn:
    raise ModelError(
        what, where=Source(file=shown(str(path), limit=500)), fix="remove it, or put the file itself there"
    )


def read_file(paths: Mapping[str, Path], path: str, *, root: Path) -> ModelFile:
    """Return the file `path` of those that `walk` found below `root`."""
    try:
        with paths[path].open("rb") as stream:
            found = digest.of_stream(stream)
            return ModelFile(path=path, size=stream.tell(), digest=found)
    except OSError as error:
        raise _unreadable(root / path, error) from error
