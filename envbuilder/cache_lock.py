"""Who uses the caches now: runs share them, pruning has them to itself, and what is served keeps what it is made of.

Runs that need the same take turns to make it.

The kernel lets go of a lock when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from envbuilder.machine import Machine

_P = ParamSpec("_P")
_T = TypeVar("_T")
_FOLDER: Final = "in-use"
_RUNS: Final = "runs"
_SERVERS: Final = "servers"


def used(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function that is given a `machine` use its caches while it runs."""

    @wraps(function)
    def using(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        machine = cast("Machine", kwargs["machine"])
        with shared(machine.settings.cache_dir):
            return function(*args, **kwargs)

    return using


@contextmanager
def shared(caches: Path) -> Iterator[None]:
    """Use the caches while the block lasts; waits while they are pruned."""
    with _locked(caches, _RUNS, fcntl.LOCK_SH):
        yield


@contextmanager
def serving(caches: Path) -> Iterator[None]:
    """Serve from the caches while the block lasts, which may be days: nobody waits for that."""
    with _locked(caches, _SERVERS, fcntl.LOCK_SH):
        yield


@contextmanager
def exclusive(caches: Path, *, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Have the caches alone while the block lasts; gives True when images are being served from them.

    Calls `on_wait` before it waits for runs to end.
    """
    with _opened(caches, _RUNS) as runs, _opened(caches, _SERVERS) as servers:
        if runs is not None and not _has(runs):
            on_wait()
            fcntl.flock(runs, fcntl.LOCK_EX)
        yield servers is not None and not _has(servers)


def _has(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def turn(caches: Path, name: str) -> Iterator[None]:
    """Be the only one in this block of this name: what others make meanwhile need not be made again."""
    with _locked(caches, name, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(caches: Path, name: str, kind: int) -> Iterator[None]:
    with _opened(caches, name) as handle:
        if handle is not None:
            fcntl.flock(handle, kind)
        yield


@contextmanager
def _opened(caches: Path, name: str) -> Iterator[int | None]:
    """Give the lock's file; None where we may not write, so that nothing of ours can be in the way."""
    path = caches / _FOLDER / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
