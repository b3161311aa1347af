"""What an environment directory says of itself: which lock it was made from, by whom, and for which place. Pure.

It says so to people and to `verify`, which believes nothing of it but the lock, and that only where none is named.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest
from envbuilder.errors import InvalidFileError, Source
from envbuilder.prefix_layout import META

if TYPE_CHECKING:
    from envbuilder.digest import Digest

RECORD_FILE: Final = f"{META}/prefix.json"
LOCK_FILE: Final = f"{META}/conda-lock.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixRecord:
    """The record of a whole environment; one that is half made has none."""

    prefix: str
    """Where it is used: its commands begin with this path."""

    lock_digest: Digest
    subdir: str
    python_version: str
    """In full."""

    python: str
    """The interpreter below the environment; the environment's own where that is a conda package."""

    tool_version: str

    def to_text(self) -> str:
        """Return the record as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str, *, file: str) -> PrefixRecord:
        """Read a record; raises InvalidFileError."""
        try:
            value: dict[str, Any] = json.loads(text)
            texts = {name: str(value[name]) for name in cls.__slots__ if name != "lock_digest"}
            return cls(**texts, lock_digest=digest.parse(str(value["lock_digest"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise InvalidFileError(
                "this is no record of an environment that envbuilder made",
                where=Source(file=file),
                fix="reproduce the environment anew, in another directory",
            ) from cause
