"""How far a batch run is, as events and for people."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

SAID_EVERY = 10.0

log = logging.getLogger("envbuilder.server")


@dataclass
class Progress:
    """How far a run is."""

    total: int = 0
    """The inputs' size: bytes, or files where they are images."""
    done: int = 0
    rows: int = 0
    failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as an event."""
        fraction = self.done / self.total if self.total else 1.0
        return {"event": "progress", "rows": self.rows, "failed": self.failed, "fraction": round(fraction, 6)}


class Teller:
    """Tells people on stderr, now and then, how far a run is."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        """Write a line, if the last one is long ago."""
        now = time.monotonic()
        if now - self._last < SAID_EVERY:
            return
        self._last = now
        seconds, fraction = now - self._begun, event["fraction"]
        left = f", {seconds / fraction - seconds:.0f} s left" if fraction else ""
        log.info(
            "%d rows, %d failed, %.1f %%, %.0f rows/s%s",
            *(event["rows"], event["failed"], 100 * fraction, event["rows"] / seconds, left),
        )
