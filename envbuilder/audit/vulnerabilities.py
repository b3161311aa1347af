"""The components of a bill against the databases of vulnerabilities on this machine, and against a service."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote

from envbuilder.audit import advisory
from envbuilder.audit.vulnerability_database import Database
from envbuilder.audit_finding import Finding
from envbuilder.errors import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.audit.advisory import Advisory, Rating, Vulnerability
    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component, Identity
    from envbuilder.audit.vulnerability_service import Service
    from envbuilder.audit_finding import Severity
    from envbuilder.machine import Machine

_SEVERITIES: Final[dict[Rating, Severity]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "unknown": "warning",
}


class Known(Protocol):
    """Whoever knows of vulnerabilities: a database, or a service that was asked."""

    def advisories(self, ecosystem: str, name: str) -> tuple[Advisory, ...]:
        """Return what is known of a package."""


def check(bill: Bill, machine: Machine, *, lock_file: str, service: Service | None = None) -> Iterator[Finding]:
    """Give the known vulnerabilities of every component that has a name in a database, or at a service."""
    with ExitStack() as stack:
        databases = {family: Database.find(family, machine) for family in ("PyPI", "Debian")}
        for one in databases.values():
            if one is not None:
                stack.callback(one.close)
        known = {
            family: tuple(source for source in (database, service) if source is not None)
            for family, database in databases.items()
        }
        if service is not None:
            service.ask(_asked(bill))
        yield from _of_python(bill, known["PyPI"], Source(file=lock_file, key="package"))
        yield from _of_debian(bill, known["Debian"])


def _asked(bill: Bill) -> Iterator[tuple[str, str]]:
    for one in bill.components:
        for identity in one.identities:
            found = _on_index(identity)
            if found is not None:
                yield "PyPI", found[0]
        if one.kind == "deb":
            source, _, release = _in_debian(one)
            if release.isdigit():
                yield f"Debian:{release}", source


def _of_python(bill: Bill, known: tuple[Known, ...], where: Source) -> Iterator[Finding]:
    for one in bill.components:
        for identity in one.identities:
            found = _on_index(identity)
            if found is None:
                continue
            name, version = found
            advisories = [entry for source in known for entry in source.advisories("PyPI", name)]
            for vulnerability in advisory.merged(advisories, version, is_debian=False):
                yield _finding(one, vulnerability, where.child(one.name), name=name, identity=identity)


def _in_debian(one: Component) -> tuple[str, str, str]:
    """Return source, its version, and the number of the release."""
    source, _, version = dict(one.notes)["source"].partition(" ")
    return source, version, one.purl.rpartition("distro=debian-")[2]


def _on_index(identity: Identity) -> tuple[str, str] | None:
    kind, _, rest = identity.purl.partition("pkg:pypi/")
    name, sign, version = rest.partition("?")[0].partition("@")
    return (unquote(name), unquote(version)) if not kind and sign else None


def _of_debian(bill: Bill, known: tuple[Known, ...]) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for one in (one for one in bill.components if one.kind == "deb"):
        # Debian's advisories are of source packages, of which a base may have several binary ones.
        source, version, release = _in_debian(one)
        if (source, version) in seen or not release.isdigit():
            continue
        seen.add((source, version))
        advisories = [entry for place in known for entry in place.advisories(f"Debian:{release}", source)]
        for vulnerability in advisory.merged(advisories, version, is_debian=True):
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
