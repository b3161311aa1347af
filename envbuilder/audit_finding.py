"""One thing that an audit found: what, where, why it matters, and the fix. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.errors import Source

Severity = Literal["error", "warning", "note"]
Kind = Literal["reproducibility", "python", "policy", "model", "azure", "vulnerability"]

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""The worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding. Two with the same `key` are the same, wherever and whenever they were found."""

    rule: str
    """What kind of finding it is, e.g. `unpinned`; for vulnerabilities their best known name."""

    kind: Kind
    severity: Severity
    what: str
    package: str = ""
    version: str = ""
    where: Source | None = None
    why: str = ""
    fix: str = ""
    amendment: str = ""
    """The fix as YAML that `--environment` takes."""

    aliases: tuple[str, ...] = ()
    """Other names of a vulnerability."""

    is_guess: bool = False
    """Whether it rests on what a conda package is believed to be on the index."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells findings apart."""
        return self.rule, self.package, str(self.where or ""), self.what

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "rule": self.rule,
            "kind": self.kind,
            "severity": self.severity,
            "what": self.what,
            "package": self.package or None,
            "version": self.version or None,
            "where": {"file": self.where.file, "key": self.where.key} if self.where is not None else None,
            "why": self.why or None,
            "fix": self.fix or None,
            "amendment": self.amendment or None,
            "aliases": list(self.aliases),
            "is_guess": self.is_guess,
        }


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return each finding once, the worst first."""
    unique = {one.key: one for one in findings}
    return tuple(sorted(unique.values(), key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.key)))
