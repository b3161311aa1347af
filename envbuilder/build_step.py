"""One program that runs in a base image's file system, cut off: what an engine is given, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PLACE: Final = "/build"
"""Where inputs are, each under its own name."""

OUTPUT: Final = f"{PLACE}/output"
"""An empty directory that the program may write to."""

USER: Final = 1000
MAX_OUTPUT: Final = 4 << 30
"""Bytes that a step may give back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A directory of this machine that the program sees."""

    directory: Path
    target: str
    """Where: absolute, below `PLACE` or a place that the base need not have."""

    is_copied: bool = False
    """Whether the program gets a copy that it may write to; else it only reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """No network, no rights, the user 1000, a read-only root, a `/tmp` of its own."""

    command: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    inputs: tuple[Input, ...]
    output: Path
    """An empty directory of this machine; gets the regular files at the top of `/build/output`, and nothing else."""

    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """How a step ended."""

    code: int | None
    """None when its time was up."""

    tail: tuple[str, ...]
    """The last lines of its output."""
