"""Whether the Python of an environment is still looked after. Pure, but for its own table."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder.audit_finding import Finding

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - an older Python
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from envbuilder.errors import Source

_SOON: Final = timedelta(days=180)


def table() -> dict[str, date]:
    """Return the last day of each minor version."""
    text = Path(__file__).with_name("python_end_of_life.toml").read_text(encoding="utf-8")
    return {str(minor): day for minor, day in tomllib.loads(text).items() if isinstance(day, date)}


def check(version: str, *, where: Source | None, today: date, known: Mapping[str, date]) -> Iterator[Finding]:
    """Give what is wrong with a version of Python, as far as it is known."""
    minor = ".".join(version.split(".")[:2])
    day = known.get(minor)
    if day is None:
        return
    newer = next((one for one, until in known.items() if until > today + _SOON), "")
    if day < today:
        yield Finding(
            rule="python-end-of-life",
            kind="python",
            severity="error",
            what=f"Python {minor} gets no security fixes since {day}",
            package="python",
            version=version,
            where=where,
            fix=f"log the model anew with Python {newer}, or try `--python {newer}`",
            amendment=f"amend: {{python: '{newer}'}}",
        )
    elif day < today + _SOON:
        yield Finding(
            rule="python-end-of-life-soon",
            kind="python",
            severity="warning",
            what=f"Python {minor} gets no security fixes after {day}",
            package="python",
            version=version,
            where=where,
            fix=f"log the model anew with Python {newer}",
        )
