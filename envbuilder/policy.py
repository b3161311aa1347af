"""What a workspace allows to be shipped: the mapping `policy` of envbuilder.yaml, and who breaks it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from envbuilder import license_expression
from envbuilder.amendment import check_keys
from envbuilder.audit_finding import SEVERITIES, Finding, Severity
from envbuilder.fields import describe, get_mapping, get_sequence, get_text, get_texts
from envbuilder.problems import shown
from envbuilder.yaml_text import EMPTY, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envbuilder.errors import Source
    from envbuilder.problems import Problems

_KEYS: Final = ("fail_on", "minimum_age", "licenses", "channels", "packages", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A finding that somebody decided to live with, for a while."""

    rule: str
    package: str
    """Empty: of any package."""

    reason: str
    expires: date
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is allowed. Where nothing is said, only what is an error breaks it."""

    fail_on: Severity = "error"
    minimum_age: int = 0
    """Days since a release was uploaded."""

    allow_licenses: frozenset[str] = frozenset()
    """Empty: all that are not denied."""

    deny_licenses: frozenset[str] = frozenset()
    deny_channels: frozenset[str] = frozenset()
    """`defaults` stands for Anaconda's."""

    deny_packages: frozenset[str] = frozenset()
    ignored: tuple[Ignored, ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Node], source: Source, problems: Problems) -> Policy:
        """Read the mapping `policy` of an envbuilder.yaml; what is wrong with it is added to `problems`."""
        check_keys(document, _KEYS, source, problems)
        fail_on = get_text(document, "fail_on", source, problems)
        severity: Severity = "error"
        if fail_on is not None:
            found = [one for one in SEVERITIES if one == fail_on.value]
            severity = found[0] if found else severity
            if not found:
                problems.add(
                    f"`{shown(fail_on.value)}` is no severity",
                    where=fail_on.source,
                    fix=f"write one of {', '.join(SEVERITIES)}",
                )
        age = get_text(document, "minimum_age", source, problems)
        if age is not None and not re.fullmatch(r"[0-9]{1,4}", age.value):
            problems.add(
                f"`{shown(age.value)}` is no number of days", where=age.source, fix="write e.g. `minimum_age: 7`"
            )
            age = None
        licenses = _members(document, "licenses", ("allow", "deny"), source, problems)
        channels = _members(document, "channels", ("deny",), source, problems)
        packages = _members(document, "packages", ("deny",), source, problems)
        return cls(
            fail_on=severity,
            minimum_age=int(age.value) if age is not None else 0,
            allow_licenses=_licenses(licenses, "allow", source.child("licenses"), problems),
            deny_licenses=_licenses(licenses, "deny", source.child("licenses"), problems),
            deny_channels=frozenset(
                one.value.rstrip("/") for one in get_texts(channels, "deny", source.child("channels"), problems)
            ),
            deny_packages=frozenset(
                str(canonicalize_name(one.value))
                for one in get_texts(packages, "deny", source.child("packages"), problems)
            ),
            ignored=tuple(_ignored(document, source, problems)),
        )

    def judge(self, findings: Iterable[Finding], *, today: date) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """Return the findings that count, those of ignores that expired among them, and those that are ignored."""
        counted: list[Finding] = []
        ignored: list[Finding] = []
        for one in findings:
            matching = [entry for entry in self.ignored if _is_meant(entry, one)]
            if any(entry.expires >= today for entry in matching):
                ignored.append(one)
            elif matching:
                until = max(entry.expires for entry in matching)
                counted.append(replace(one, why=f"{one.why}; it was ignored until {until}".lstrip("; ")))
            else:
                counted.append(one)
        return tuple(counted), tuple(ignored)

    def is_broken_by(self, findings: Iterable[Finding]) -> bool:
        """Tell whether one of the findings must not be shipped."""
        worst = SEVERITIES.index(self.fail_on)
        return any(SEVERITIES.index(one.severity) <= worst for one in findings)


def _members(
    document: Mapping[str, Node], key: str, known: tuple[str, ...], source: Source, problems: Problems
) -> Mapping[str, Node]:
    members = get_mapping(document, key, source, problems) or EMPTY
    check_keys(members, known, source.child(key), problems)
    return members


def _licenses(members: Mapping[str, Node], key: str, source: Source, problems: Problems) -> frozenset[str]:
    found = set()
    for one in get_texts(members, key, source, problems):
        expression = license_expression.parse(one.value)
        if expression is None or re.search(r"[ ()]", expression.replace(" WITH ", "-WITH-")):
            problems.add(
                f"`{shown(one.value)}` is not the SPDX identifier of a licence",
                where=one.source,
                fix="write e.g. `MIT`, `GPL-3.0-only`",
            )
        else:
            found.add(expression)
    return frozenset(found)


def _ignored(document: Mapping[str, Node], source: Source, problems: Problems) -> Iterator[Ignored]:
    for index, item in enumerate(get_sequence(document, "ignore", source, problems)):
        where = source.child("ignore").child(index)
        if not isinstance(item, Mapping):
            problems.add(
                f"expected what is ignored, got {describe(item)}",
                where=where,
                fix="write `- rule: …`, `reason: …` and `expires: 2027-01-31`",
            )
            continue
        check_keys(item, ("rule", "package", "reason", "expires"), where, problems)
        rule, package, reason, expires = (
            get_text(item, key, where, problems) for key in ("rule", "package", "reason", "expires")
        )
        day = _day(expires.value) if expires is not None else None
        for key, value in (("rule", rule), ("reason", reason), ("expires", day)):
            if value is None:
                problems.add(
                    f"no `{key}`" if key != "expires" or expires is None else f"`{shown(expires.value)}` is not a date",
                    where=where,
                    fix="nothing is ignored without a rule, a reason and a day on which it is looked at again",
                )
        if rule is not None and reason is not None and day is not None:
            name = str(canonicalize_name(package.value)) if package is not None else ""
            yield Ignored(rule=rule.value, package=name, reason=reason.value, expires=day, source=where)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _is_meant(entry: Ignored, finding: Finding) -> bool:
    is_rule = entry.rule in {finding.rule, *finding.aliases}
    return is_rule and (not entry.package or entry.package == str(canonicalize_name(finding.package)))
