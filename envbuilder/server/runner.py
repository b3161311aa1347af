"""Runs a coroutine as a process that may be PID 1: signals end it in order, and orphans are reaped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import os
import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing import AbstractSet, Callable, Coroutine

    from .pool import Pool

PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG = 1
REAP_EVERY = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    """Run to the end, on uvloop where it is installed."""
    loop = _new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def adopt_orphans() -> None:
    """Become the parent of what workers leave behind, or fork for it, as process 1 of a container is."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Be asked to stop when the process that started this one ends, however it does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` for each signal that asks the process to end; PID 1 has no default for them."""
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)


async def reap_orphans(pool: Pool) -> None:
    """Reap, for ever, the processes that became this one's children when their parents ended."""
    while True:
        await asyncio.sleep(REAP_EVERY)
        with contextlib.suppress(ChildProcessError):
            _reap(pool.pids)


def _reap(others: AbstractSet[int]) -> None:
    while True:
        # Only looks: a worker is reaped by its own waiter, which reports how it ended.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_pid in others:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop
