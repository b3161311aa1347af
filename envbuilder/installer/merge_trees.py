"""Puts installed trees into one directory. Where several own a path, the last given wins, and that is told.

Standard library only: it also runs as a neighbour of `conda_link.py` in a build stage.
"""

from __future__ import annotations

import filecmp
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ClashError(Exception):
    """A path that is a directory in one tree and something else in another: no order of trees makes sense of it."""

    def __init__(self, path: str, owners: tuple[str, ...]) -> None:
        super().__init__(f"`{path}` is a directory in one of {', '.join(owners)} and something else in another")
        self.path = path
        self.owners = owners


def paths_of(tree: Path) -> dict[str, bool]:
    """Return each path below `tree`, with True for directories; links are not followed."""
    found: dict[str, bool] = {}
    stack = [str(tree)]
    while stack:
        with os.scandir(stack.pop()) as children:
            for child in children:
                is_directory = child.is_dir(follow_symlinks=False)
                found[child.path[len(str(tree)) + 1 :]] = is_directory
                if is_directory:
                    stack.append(child.path)
    return found


def contested(trees: list[tuple[str, Path]]) -> dict[str, tuple[str, ...]]:
    """Return each path for which trees have different files, with the names of its owners in the order given.

    Raises ClashError where a path is a directory in one tree only: what others put below it would go astray.
    """
    owners: dict[str, list[int]] = {}
    kinds: dict[str, bool] = {}
    for number, (name, directory) in enumerate(trees):
        for path, is_directory in paths_of(directory).items():
            if kinds.setdefault(path, is_directory) is not is_directory:
                others = tuple(trees[other][0] for other in owners.get(path, ()))
                raise ClashError(path, (*others, name))
            owners.setdefault(path, []).append(number)
    return {
        path: tuple(trees[number][0] for number in numbers)
        for path, numbers in sorted(owners.items())
        if len(numbers) > 1 and not kinds[path] and not _same([trees[number][1] / path for number in numbers])
    }


def merge(trees: list[tuple[str, Path]], target: Path, *, move: bool = False) -> None:
    """Link (or move) the files of the trees below `target`, which must be on the same disk; call `contested` first."""
    for _, directory in trees:
        for path, is_directory in sorted(paths_of(directory).items()):
            if is_directory:
                (target / path).mkdir(parents=True, exist_ok=True)
            elif move:
                (directory / path).replace(target / path)
            else:
                put(directory / path, target / path)


def put(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, in place of what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        target.unlink()
        os.link(source, target, follow_symlinks=False)


def _same(paths: list[Path]) -> bool:
    first, *others = paths
    if any(path.is_symlink() for path in paths):
        return first.is_symlink() and all(path.is_symlink() and path.readlink() == first.readlink() for path in others)
    return all(
        filecmp.cmp(first, other, shallow=False) and _executable(first) is _executable(other) for other in others
    )


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)
