"""Verified files of an archive, in parallel, through a cache named by content."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from envbuilder import digest, network
from envbuilder.errors import BaseImageError, LockMismatchError, Source, UnreachableError
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import requests

    from envbuilder.digest import Digest
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

_THREADS: Final = 8
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file that must be in the cache: where it is kept, where it comes from, what it must be."""

    path: Path
    urls: tuple[str, ...]
    """Tried in order."""

    digest: Digest
    size: int

    def is_here(self) -> bool:
        """Tell whether the cache has the file, whole; a damaged one counts as missing."""
        try:
            return self.path.stat().st_size == self.size and digest.of_file(self.path) == self.digest
        except OSError:
            return False


@dataclass(slots=True)
class _Progress:
    """Counts the megabytes of several threads."""

    reporter: Reporter
    total: int
    done: int = 0
    shown: int = -1
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count
            megabytes = self.done // _MEGABYTE
            if megabytes != self.shown:
                self.shown = megabytes
                self.reporter.progress("base", megabytes, -(-self.total // _MEGABYTE), "MB")


def fetch(files: Iterable[Wanted], *, opened: requests.Session, settings: Settings, reporter: Reporter) -> None:
    """Bring all files into the cache.

    Raises BaseImageError when the archive serves another content than it signed, UnreachableError when none answers.
    """
    missing = [wanted for wanted in files if not wanted.is_here()]
    if not missing:
        return
    progress = _Progress(reporter, sum(wanted.size for wanted in missing))
    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(_fetch_one, wanted, opened, settings, progress) for wanted in missing]
        try:
            for future in running:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(wanted: Wanted, opened: requests.Session, settings: Settings, progress: _Progress) -> None:
    failure: UnreachableError | LockMismatchError | None = None
    for url in wanted.urls:
        try:
            network.download(opened, url, wanted.path, expected=wanted.digest, settings=settings, on_bytes=progress.add)
        except (UnreachableError, LockMismatchError) as cause:
            failure = failure or cause
        else:
            return
    if isinstance(failure, UnreachableError):
        raise failure
    raise BaseImageError(
        "the archive serves another content than its signed Release says",
        where=Source(file=without_credentials(wanted.urls[0])),
        fix="try again in some minutes, in case the mirror is being updated; else use another one",
    ) from failure
