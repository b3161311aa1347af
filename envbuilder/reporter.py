"""What the stages tell about their progress: events that do nothing unless a console or a JSON writer is listening."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reporter:
    """Hears what happens; every method is a no-op here."""

    def started(self, stage: str, detail: str = "") -> None:
        """A stage began, e.g. `lock`."""

    def ended(self, stage: str, seconds: float, detail: str = "") -> None:
        """A stage ended well."""

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        """A long stage is at `done` of `total` (total 0: unknown)."""

    def portion(self, stage: str, fraction: float, *, rows: int, failed: int) -> None:
        """A long stage has done this fraction of its work, and so many rows."""

    def line(self, stage: str, text: str) -> None:
        """A program that the stage runs printed a line."""

    def warning(self, text: str) -> None:
        """Something the user should know, though the work goes on."""


class Timings:
    """Seconds per stage, in the order in which the stages ended."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[StageNote]:
        """Time the block as the stage `name` and report its start and end."""
        self.reporter.started(name, detail)
        note = StageNote()
        begin = time.monotonic()
        yield note
        elapsed = time.monotonic() - begin
        self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
        self.reporter.ended(name, elapsed, note.text)


class StageNote:
    """What a stage wants said when it ends, e.g. `52 packages`."""

    text: str = ""
