"""A report as Markdown for a pull request. Pure; what a model says is text there, never markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from envbuilder.audit.report import Report

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@-])")


def to_text(report: Report) -> str:
    """Return the report: the verdict, a table of findings, and the amendments to copy."""
    counts = ", ".join(f"{count} {severity}{'s' if count != 1 else ''}" for severity, count in report.counts.items())
    verdict = "**must not be shipped**" if report.is_broken else "may be shipped"
    lines = [f"## {escaped(report.name)}: {verdict}", "", counts + ".", ""]
    if report.findings:
        lines += ["| | rule | what | where | fix |", "|---|---|---|---|---|"]
    for one in report.findings:
        where = escaped(str(one.where)) if one.where is not None else ""
        cells = (one.severity, escaped(one.rule), escaped(one.what), where, escaped(one.fix))
        lines.append(f"| {' | '.join(cells)} |")
    amendments = list(dict.fromkeys(one.amendment for one in report.findings if one.amendment))
    if amendments:
        lines += ["", "Amendments that mend it:", "", "```yaml", *amendments, "```"]
    if report.ignored:
        lines += ["", f"{len(report.ignored)} more are ignored by the workspace's policy."]
    if not report.databases:
        lines += ["", "Vulnerabilities were not looked up: there is no database here."]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("\\<", "&lt;").replace("\\>", "&gt;")
