"""The bill of materials of a model: every component, put together from the lock. Pure.

CycloneDX and SPDX are two ways to write it down. Nothing in it depends on time, machine or order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from packaging.utils import canonicalize_name

from envbuilder import conda_names, digest
from envbuilder.audit.component import Component, Identity, purl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envbuilder.audit.archive_facts import ArchiveFacts
    from envbuilder.audit.debian_status import DebianPackage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.digest import Digest
    from envbuilder.locked import Lock, LockedPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the bill is of."""

    name: str
    model_digest: Digest | None = None
    """None where only the environment is known."""

    mlflow_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Everything that an image consists of, below the server."""

    subject: Subject
    lock: Lock
    components: tuple[Component, ...]
    """Sorted by ref."""

    is_base_known: bool
    """Whether the packages of the base are among them."""

    tool_version: str

    @property
    def digest(self) -> Digest:
        """Of what is in it: the serial number follows from it."""
        return digest.of_json(
            [
                self.subject.name,
                self.subject.model_digest,
                self.lock.digest,
                self.tool_version,
                [[one.ref, one.license, list(one.depends)] for one in self.components],
            ]
        )

    @property
    def unlicensed(self) -> tuple[Component, ...]:
        """The components of which nobody knows the licence; Debian's status file says nothing of it."""
        return tuple(one for one in self.components if one.license is None and one.kind in {"pypi", "conda"})


def of_lock(
    lock: Lock,
    *,
    subject: Subject,
    facts: Mapping[Digest, ArchiveFacts],
    debian: tuple[DebianPackage, ...] | None,
    tool_version: str,
) -> Bill:
    """Put the bill together; `facts` are of archives by digest, `debian` is None where the base is not known."""
    conda = {one.name: _conda_ref(one) for one in lock.conda_packages}
    provided = {name: _conda_ref(one) for name, one in conda_names.provided(lock.conda_packages).items()}
    wheels = {one.name: f"pypi:{one.name}@{one.version}" for one in lock.packages}
    names = {**{str(name): ref for name, ref in provided.items()}, **wheels}
    found: list[Component] = []
    for package in lock.conda_packages:
        found += _of_conda(package, conda, facts.get(package.sha256))
    for wheel in lock.packages:
        found += _of_wheel(wheel, names, facts.get(wheel.sha256))
    found += _of_debian(debian or ())
    return Bill(
        subject=subject,
        lock=lock,
        components=tuple(sorted(found, key=lambda one: one.ref)),
        is_base_known=debian is not None,
        tool_version=tool_version,
    )


def _conda_ref(package: CondaPackage) -> str:
    return f"conda:{package.name}@{package.version}-{package.build}"


def _of_conda(package: CondaPackage, refs: Mapping[str, str], facts: ArchiveFacts | None) -> list[Component]:
    channel = package.url.rpartition("/")[0].removesuffix(f"/{package.subdir}")
    own = purl(
        "conda",
        package.name,
        package.version,
        build=package.build,
        channel=channel,
        subdir=package.subdir,
        type=package.filename.removeprefix(f"{package.name}-{package.version}-{package.build}."),
    )
    depends = {refs[name] for name in (text.split()[0] for text in package.depends if text.strip()) if name in refs}
    component = Component(
        ref=_conda_ref(package),
        kind="conda",
        name=package.name,
        version=package.version,
        identities=(Identity(purl=own, basis="lock"), *_upstream(package, facts)),
        sha256=package.sha256,
        md5=package.md5,
        url=package.url,
        depends=tuple(sorted(depends)),
    )
    return _described(component, facts)


def _upstream(package: CondaPackage, facts: ArchiveFacts | None) -> tuple[Identity, ...]:
    """Return what a conda package is on the index: as its files say, else as its channel, else by its name."""
    if facts is not None:
        return tuple(
            Identity(purl=purl("pypi", name, version), basis="dist-info") for name, version in facts.distributions
        )
    basis = Identity(purl="", basis="channel" if package.purls is not None else "name")
    return tuple(
        replace(basis, purl=purl("pypi", name, package.version)) for name in sorted(conda_names.provided([package]))
    )


def _of_wheel(wheel: LockedPackage, refs: Mapping[str, str], facts: ArchiveFacts | None) -> list[Component]:
    notes: dict[str, str] = {}
    qualifiers: dict[str, str] = {}
    if wheel.source is not None:
        notes["built-from"] = wheel.source.url
        notes["source-digest"] = wheel.source.digest
        key = "vcs_url" if wheel.source.url.startswith("git+") else "download_url"
        qualifiers[key] = wheel.source.url
    elif wheel.is_direct:
        qualifiers["download_url"] = wheel.url
    elif wheel.is_of_model:
        notes["file-of-model"] = wheel.url.removeprefix("./")
    component = Component(
        ref=f"pypi:{wheel.name}@{wheel.version}",
        kind="pypi",
        name=wheel.name,
        version=wheel.version,
        identities=(Identity(purl=purl("pypi", wheel.name, wheel.version, **qualifiers), basis="lock"),),
        sha256=wheel.sha256,
        url=wheel.url if "://" in wheel.url else None,
        depends=tuple(sorted({refs[name] for name in map(canonicalize_name, wheel.dependencies) if name in refs})),
        notes=tuple(sorted(notes.items())),
    )
    return _described(component, facts)


def _described(component: Component, facts: ArchiveFacts | None) -> list[Component]:
    """Return the component with what its archive says, and the components that the archive says are inside it."""
    if facts is None:
        return [replace(component, notes=(*component.notes, ("archive", "not in the caches")))]
    parts = tuple(
        Component(
            ref=f"{component.ref}#{quote(part.purl or part.name, safe=':/@')}@{quote(part.version, safe=':')}",
            kind="part",
            name=part.name,
            version=part.version,
            identities=(Identity(purl=part.purl, basis="sbom"),) if part.purl else (),
            license=part.license,
            notes=(("inside", component.ref), ("stated-by", part.stated_by)),
        )
        for part in facts.parts
    )
    unique = {one.ref: one for one in parts}
    unreadable = tuple(("unreadable-sbom", one) for one in facts.unreadable)
    whole = replace(
        component,
        license=facts.license,
        license_text=facts.license_text,
        size=facts.size,
        depends=tuple(sorted({*component.depends, *unique})),
        notes=(*component.notes, *unreadable),
    )
    return [whole, *unique.values()]


def _of_debian(packages: Iterable[DebianPackage]) -> list[Component]:
    packages = tuple(packages)
    refs = {one.name: one.ref for one in packages}
    for one in packages:
        for name in one.provides:
            refs.setdefault(name, one.ref)
    return [
        Component(
            ref=one.ref,
            kind="deb",
            name=one.name,
            version=one.version,
            identities=(Identity(purl=one.purl, basis="dpkg"),),
            depends=tuple(sorted({refs[name] for name in one.depends if name in refs and refs[name] != one.ref})),
            notes=(("source", f"{one.source} {one.source_version}"),),
        )
        for one in packages
    ]
