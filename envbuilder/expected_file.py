"""A file that a lock puts into an environment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envbuilder.file_state import FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFile:
    """What is expected at one path."""

    owner: str
    """The name of the package that brings it."""

    states: tuple[FileState, ...]
    """What it may be: more than one where several packages bring it; the last one's is what is taken.

    None where it may be anything, as what an installer writes in its own way."""
