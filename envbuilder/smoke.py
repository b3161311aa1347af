"""The smoke test's report: whether the image started, cut off from everything, and answered its own example.

The test itself runs inside the image (`python -m envbuilder.server try`), the same in every engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from envbuilder.errors import SmokeTestFailedError, Source
from envbuilder.image_plan import SERVER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND: Final = ("try",)
TIMEOUT: Final = 300
"""Seconds; models of several GB take long to load."""

Example = Literal["answered", "none", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeReport:
    """How the image did."""

    example: Example
    startup_seconds: float
    predict_seconds: float | None
    answer: Any
    """The decoded answer to the example; None without one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the types of JSON."""
        return {
            "example": self.example,
            "startup_seconds": round(self.startup_seconds, 3),
            "predict_seconds": None if self.predict_seconds is None else round(self.predict_seconds, 4),
            "answer": self.answer,
        }


def read(output: bytes, log: tuple[str, ...], *, model: str) -> SmokeReport:
    """Read what `try` printed.

    Raises SmokeTestFailedError, with the model's own error and the last lines of the log, unless the image started
    and answered.
    """
    value = _last_object(output)
    if value is None:
        raise SmokeTestFailedError(
            "the image did not get as far as reporting how it did\n" + _indented(log),
            where=Source(file=model),
            fix="read the log above; `--no-smoke` builds without trying",
        )
    if value.get("ready") and value.get("example") in ("answered", "none"):
        return SmokeReport(
            example=value["example"],
            startup_seconds=float(value.get("startup_seconds") or 0),
            predict_seconds=value.get("predict_seconds"),
            answer=value.get("answer"),
        )
    error = value.get("error") or {}
    step = "answer its own input example" if value.get("ready") else "start"
    frames = _frames(error.get("trace") or ())
    raise SmokeTestFailedError(
        f"the image did not {step}: {error.get('what') or 'no reason given'}\n" + _indented(frames or log),
        where=Source(file=model),
        fix="mend the model or its environment; `--no-smoke` builds without trying",
    )


def _last_object(output: bytes) -> dict[str, Any] | None:
    for line in reversed(output.decode(errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                value: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return value
    return None


def _frames(trace: Iterable[object]) -> tuple[str, ...]:
    """Return the lines of a Python traceback that are about the model and its packages, not about the server."""
    kept: list[str] = []
    ours = False
    for line in map(str, trace):
        if line.startswith("  File "):
            ours = SERVER_PREFIX in line
        elif not line.startswith("    "):
            # The header, or the exception that `what` says already.
            continue
        if not ours and line.strip(" ^~"):
            kept.append(line.strip())
    return tuple(kept)


def _indented(lines: tuple[str, ...]) -> str:
    return "\n".join(f"    {line}" for line in lines[-20:])
