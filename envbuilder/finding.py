"""What was found out about this machine, one thing at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do where it is not ok."""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in the types of JSON."""
        return asdict(self)
