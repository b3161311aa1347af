"""The components of a bill against the databases of vulnerabilities on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from envbuilder.audit import advisory
from envbuilder.audit.vulnerability_database import Database
from envbuilder.audit_finding import Finding
from envbuilder.errors import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.audit.advisory import Rating, Vulnerability
    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component, Identity
    from envbuilder.audit_finding import Severity
    from envbuilder.machine import Machine

_SEVERITIES: Final[dict[Rating, Severity]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "unknown": "warning",
}


def check(bill: Bill, machine: Machine, *, lock_file: str) -> Iterator[Finding]:
    """Give the known vulnerabilities of every component that has a name in a database that is here."""
    where = Source(file=lock_file, key="package")
    python = Database.find("PyPI", machine)
    if python is not None:
        for one in bill.components:
            for identity in one.identities:
                found = _on_index(identity)
                if found is not None:
                    name, version = found
                    known = advisory.merged(python.advisories("PyPI", name), version, is_debian=False)
                    for vulnerability in known:
                        yield _finding(one, vulnerability, where.child(one.name), name=name, identity=identity)
        python.close()
    debian = Database.find("Debian", machine)
    if debian is not None:
        yield from _of_debian(bill, debian)
        debian.close()


def _on_index(identity: Identity) -> tuple[str, str] | None:
    kind, _, rest = identity.purl.partition("pkg:pypi/")
    name, sign, version = rest.partition("?")[0].partition("@")
    return (unquote(name), unquote(version)) if not kind and sign else None


def _of_debian(bill: Bill, database: Database) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for one in (one for one in bill.components if one.kind == "deb"):
        # Debian's advisories are of source packages, of which a base may have several binary ones.
        source, _, version = dict(one.notes)["source"].partition(" ")
        release = one.purl.rpartition("distro=debian-")[2]
        if (source, version) in seen or not release.isdigit():
            continue
        seen.add((source, version))
        for vulnerability in advisory.merged(database.advisories(f"Debian:{release}", source), version, is_debian=True):
            yield _finding(one, vulnerability, Source(file="the base image", key=source), name=source, identity=None)


def _finding(one: Component, known: Vulnerability, where: Source, *, name: str, identity: Identity | None) -> Finding:
    guess = identity is not None and identity.is_guess
    called = f"`{one.name}` {one.version}" if name == one.name else f"`{one.name}` {one.version} ({name} upstream)"
    amendment = ""
    if known.fixed is not None and one.kind == "pypi":
        amendment = f"amend: {{pip: {{bump: ['{one.name}=={known.fixed}']}}}}"
    elif known.fixed is not None and one.kind == "conda":
        amendment = f"amend: {{conda: {{bump: ['{one.name}={known.fixed}']}}}}"
    return Finding(
        rule=known.names[0],
        kind="vulnerability",
        severity=_SEVERITIES[known.rating],
        what=f"{called}: {known.summary or 'no summary'}",
        package=one.name,
        version=one.version,
        where=where,
        why=f"rated {known.rating}" + ("; that it is this project is a guess by its name" if guess else ""),
        fix=f"fixed in {known.fixed}" if known.fixed is not None else "no version is known that fixes it",
        amendment=amendment,
        aliases=known.names[1:],
        is_guess=guess,
    )
