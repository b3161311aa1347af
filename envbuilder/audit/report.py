"""The whole audit of one thing: every rule, and what the workspace's policy makes of what they found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envbuilder.audit import (
    azure,
    index_facts,
    model_content,
    python_version,
    reproducibility,
    shipping,
    vulnerabilities,
    vulnerability_database,
)
from envbuilder.audit_finding import SEVERITIES, Finding, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from envbuilder.audit.audited import Audited
    from envbuilder.audit.bill import Bill
    from envbuilder.audit.index_facts import IndexFile
    from envbuilder.audit.vulnerability_service import Service
    from envbuilder.machine import Machine
    from envbuilder.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an audit came to."""

    name: str
    kind: str
    bill: Bill | None
    """None where there is no lock."""

    findings: tuple[Finding, ...]
    """The worst first."""

    ignored: tuple[Finding, ...]
    databases: tuple[str, ...]
    """The ecosystems whose vulnerabilities are known here, and the service that was asked."""

    is_broken: bool
    """Whether the policy forbids to ship it."""

    tool_version: str

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each severity."""
        return {severity: sum(one.severity == severity for one in self.findings) for severity in SEVERITIES}

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "ok": not self.is_broken,
            "lock_digest": self.bill.lock.digest if self.bill is not None else None,
            "components": len(self.bill.components) if self.bill is not None else None,
            "databases": list(self.databases),
            "counts": self.counts,
            "findings": [one.to_dict() for one in self.findings],
            "ignored": [one.to_dict() for one in self.ignored],
        }


def make(
    audited: Audited,
    rules: Policy,
    *,
    today: date,
    tool_version: str,
    machine: Machine,
    service: Service | None = None,
    index: Mapping[str, IndexFile] | None = None,
) -> Report:
    """Apply every rule to what is known of the audited."""
    bill = audited.bill(machine) if audited.lock is not None else None
    counted, ignored = rules.judge(
        _all(audited, bill, rules, today=today, machine=machine, service=service, index=index), today=today
    )
    findings = in_order(counted)
    databases = [
        family
        for family in ("PyPI", "Debian")
        if (vulnerability_database.folder(machine) / f"{family}.sqlite").is_file()
    ]
    return Report(
        name=audited.name,
        kind=audited.kind,
        bill=bill,
        findings=findings,
        ignored=in_order(ignored),
        databases=(*databases, *((service.where.file,) if service is not None and bill is not None else ())),
        is_broken=rules.is_broken_by(findings),
        tool_version=tool_version,
    )


def _all(
    audited: Audited,
    bill: Bill | None,
    rules: Policy,
    *,
    today: date,
    machine: Machine,
    service: Service | None,
    index: Mapping[str, IndexFile] | None,
) -> Iterator[Finding]:
    lock, spec = audited.lock, audited.spec
    known = python_version.table()
    if spec is not None:
        yield from reproducibility.of_spec(spec, lock, lock_file=audited.lock_file)
        yield from azure.check(spec, audited.model.conda if audited.model is not None else None)
    if lock is not None:
        yield from reproducibility.of_lock(lock, lock_file=audited.lock_file)
        if index is not None:
            yield from index_facts.check(lock, index, rules, today=today, lock_file=audited.lock_file)
    version = lock.python_version if lock is not None else spec.python.value.exact if spec is not None else None
    minor = spec.python.value.minor if spec is not None else None
    where = spec.python.source if spec is not None else None
    if version is not None or minor is not None:
        yield from python_version.check(str(version or minor), where=where, today=today, known=known)
    if audited.model is not None and audited.files is not None:
        yield from model_content.check(audited.model, audited.files)
    if bill is not None:
        yield from shipping.check(bill, rules, lock_file=audited.lock_file)
        yield from vulnerabilities.check(bill, machine, lock_file=audited.lock_file, service=service)
