"""What a reader must not do, noted by an audit hook: open other files, write, start programs, use the network.

Interpreters take an audit hook but never give it back, so there is one, which looks only inside `fenced`.
"""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILES: Final = frozenset({"open", "os.listdir", "os.scandir"})
_FAMILIES: Final = frozenset({"socket", "subprocess", "shutil", "tempfile", "ctypes", "pickle", "urllib", "webbrowser"})
_REFUSED: Final = frozenset(
    {
        "exec",
        "os.chdir",
        "os.chmod",
        "os.chown",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.kill",
        "os.link",
        "os.mkdir",
        "os.posix_spawn",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.spawn",
        "os.symlink",
        "os.system",
        "os.truncate",
    }
)
_CODECS: Final = ("utf-8-sig", "utf-16-be", "utf-16-le", "utf-16", "utf-32-be", "utf-32-le", "utf-32")
"""Imported late, for the one input of a million that seems to need it."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(slots=True)
class _Watch:
    """What the hook is to look at now."""

    installed: bool = False
    active: bool = False
    suspended: bool = False
    root: str | None = None
    seen: list[str] = field(default_factory=list)


_WATCH: Final = _Watch()


@contextmanager
def fenced(root: Path | None = None) -> Iterator[None]:
    """Fail where the block does more than read files below `root`; None is no file at all."""
    if not _WATCH.installed:
        for codec in _CODECS:
            codecs.lookup(codec)
        sys.addaudithook(_hook)
        _WATCH.installed = True
    _WATCH.root = os.path.realpath(root) if root is not None else None
    _WATCH.seen = []
    _WATCH.active = not _WATCH.suspended
    try:
        yield
    finally:
        _WATCH.active = False
        # Also where the reader took the refusal for an `OSError`, or went on after it.
        assert not _WATCH.seen, f"a reader did what it must not: {_WATCH.seen[:3]}"


@contextmanager
def suspended() -> Iterator[None]:
    """Let everything pass, once: what is imported late, or read by the interpreter itself, is no reader's doing."""
    _WATCH.suspended = True
    try:
        yield
    finally:
        _WATCH.suspended = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _WATCH.active:
        return
    if event in _FILES:
        is_allowed = _reads_below_root(event, arguments)
    else:
        is_allowed = event not in _REFUSED and event.partition(".")[0] not in _FAMILIES
    if not is_allowed:
        _WATCH.active = False
        _WATCH.seen.append(f"{event}{arguments!r:.300}")
        raise PermissionError(_WATCH.seen[-1])


def _reads_below_root(event: str, arguments: tuple[object, ...]) -> bool:
    path = arguments[0]
    if _WATCH.root is None or not isinstance(path, (str, bytes, os.PathLike)):
        return False
    flags = arguments[2] if event == "open" else 0
    real = os.fsdecode(os.path.realpath(path))
    is_inside = real == _WATCH.root or real.startswith(f"{_WATCH.root}/")
    return is_inside and isinstance(flags, int) and not flags & _WRITES
