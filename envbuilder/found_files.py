"""The files that are there: below a directory, or in the tar of one, each with what it is."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import digest
from envbuilder.file_state import FileState

if TYPE_CHECKING:
    import tarfile


def below(root: Path) -> dict[str, FileState]:
    """Return each file and link below `root`, by its relative path; links are not followed."""
    paths: list[str] = []
    stack = [str(root)]
    while stack:
        with os.scandir(stack.pop()) as children:
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    stack.append(child.path)
                else:
                    paths.append(child.path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        states = pool.map(lambda path: state_of(Path(path)), paths, chunksize=64)
        return {os.path.relpath(path, root).replace(os.sep, "/"): one for path, one in zip(paths, states, strict=True)}


def state_of(path: Path) -> FileState:
    """Return what a file or link is; what is neither is not opened."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return FileState(link=str(path.readlink()))
    if not stat.S_ISREG(mode):
        return FileState()
    return FileState(sha256=digest.of_file(path), executable=bool(mode & stat.S_IXUSR))


def of_tar(tar: tarfile.TarFile, top: str) -> dict[str, FileState]:
    """Return each file and link below the folder `top` of a tar that is read once, from its beginning to its end."""
    found: dict[str, FileState] = {}
    for member in tar:
        path = os.path.normpath(member.name)
        if not path.startswith(f"{top}/") or member.isdir():
            continue
        inside = path.removeprefix(f"{top}/")
        content = tar.extractfile(member) if member.isreg() else None
        if content is not None:
            found[inside] = FileState(sha256=digest.of_stream(content), executable=bool(member.mode & stat.S_IXUSR))  # type: ignore[arg-type]
        elif member.issym():
            found[inside] = FileState(link=member.linkname)
        elif member.islnk():
            target = os.path.normpath(member.linkname)
            found[inside] = found.get(target.removeprefix(f"{top}/"), FileState())
        else:
            found[inside] = FileState()
    return found
