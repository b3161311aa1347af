"""A report as SARIF 2.1.0, which code hosts show beside the files. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from envbuilder.audit.report import Report
    from envbuilder.audit_finding import Finding

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def to_dict(report: Report) -> dict[str, Any]:
    """Return the report; ignored findings are suppressed results."""
    shown = [*((one, False) for one in report.findings), *((one, True) for one in report.ignored)]
    rules = sorted({one.rule for one, _ in shown})
    driver = {
        "name": "envbuilder",
        "version": report.tool_version,
        "rules": [{"id": rule, "properties": {"tags": [_kind(rule, shown)]}} for rule in rules],
    }
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "results": [_result(one, rules.index(one.rule), is_ignored=ignored) for one, ignored in shown],
            }
        ],
    }


def _kind(rule: str, shown: list[tuple[Finding, bool]]) -> str:
    return next(one.kind for one, _ in shown if one.rule == rule)


def _result(one: Finding, index: int, *, is_ignored: bool) -> dict[str, Any]:
    text = "\n".join(part for part in (one.what, one.why, f"Fix: {one.fix}" if one.fix else "") if part)
    found: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": one.severity,
        "message": {"text": text},
        "partialFingerprints": {"finding/v1": "|".join(one.key)},
        "properties": {"package": one.package, "version": one.version, "amendment": one.amendment},
    }
    if one.where is not None:
        location: dict[str, Any] = {
            "physicalLocation": {"artifactLocation": {"uri": quote(one.where.file, safe="/:@")}},
        }
        if one.where.key:
            location["logicalLocations"] = [{"fullyQualifiedName": one.where.key}]
        found["locations"] = [location]
    if is_ignored:
        found["suppressions"] = [{"kind": "external"}]
    return found
