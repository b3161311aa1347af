"""Locks and databases that a test knows all about."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envbuilder import digest
from envbuilder.audit import vulnerability_database
from envbuilder.conda_package import CondaPackage
from envbuilder.installer import wheels
from envbuilder.locked import Lock, LockedBase, LockedPackage
from envbuilder.lockfile import Lockfile
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests.package_index import WheelFile, wheel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def machine_at(folder: Path) -> Machine:
    """Return a machine with caches of its own."""
    return Machine(settings=Settings(cache_dir=folder / "cache"), reporter=Reporter())


def lock_of(
    *packages: LockedPackage, conda: Iterable[CondaPackage] = (), python: str = "3.12.4", has_base: bool = True
) -> Lock:
    """Return a lock of these packages."""
    base = LockedBase(reference="python:3.12.4-slim", digest=digest.of_bytes(b"base"))
    return Lock(
        packages=packages,
        conda_packages=tuple(conda),
        target=Target(subdir="linux-64"),
        base=base if has_base else None,
        packages_digest=digest.of_bytes(b"asked"),
        python_version=python,
        tool_version="1",
    )


def conda(name: str, version: str, *, channel: str = "https://conda.example/main", python: bool = True) -> CondaPackage:
    """Return a conda package of which nobody has the archive."""
    return CondaPackage(
        name=name,
        version=version,
        build="py_0",
        subdir="linux-64",
        url=f"{channel}/linux-64/{name}-{version}-py_0.conda",
        sha256=digest.of_bytes(f"{name} {version}".encode()),
        md5="0" * 32,
        depends=("python >=3.7",) if python else (),
    )


def pinned(name: str, version: str) -> LockedPackage:
    """Return a wheel of which nobody has the file."""
    return LockedPackage(
        name=name,
        version=version,
        url=f"https://index.example/{name}-{version}-py3-none-any.whl",
        sha256=digest.of_bytes(f"{name} {version}".encode()),
    )


def with_license(name: str, text: str, machine: Machine) -> LockedPackage:
    """Return a wheel that says so of its licence, and is in the caches."""
    made: WheelFile = wheel(name, metadata=(text,))
    locked = made.locked()
    path = wheels.wheel_path(locked, machine.wheels)
    path.parent.mkdir(parents=True)
    path.write_bytes(made.data)
    return locked


def write_lock(folder: Path, lock: Lock) -> Path:
    """Write a lockfile."""
    file = folder / "conda-lock.yml"
    file.write_text(Lockfile.of([lock]).to_text())
    return file


def entry(
    name: str,
    package: str,
    *,
    fixed: str | None = None,
    introduced: str = "0",
    ecosystem: str = "PyPI",
    aliases: tuple[str, ...] = (),
    rating: str | None = "HIGH",
    **more: Any,  # noqa: ANN401 - members of the entry
) -> dict[str, Any]:
    """Return an entry of a database."""
    events = [{"introduced": introduced}, *([{"fixed": fixed}] if fixed is not None else [])]
    return {
        "id": name,
        "aliases": list(aliases),
        "summary": f"{package} does harm",
        "affected": [
            {"package": {"ecosystem": ecosystem, "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
        ],
        **({"database_specific": {"severity": rating}} if rating is not None else {}),
        **more,
    }


def zipped(*entries: dict[str, Any] | bytes) -> bytes:
    """Return a database as OSV publishes it; bytes are files that are no entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, one in enumerate(entries):
            name = f"bad-{index}" if isinstance(one, bytes) else one["id"]
            archive.writestr(f"{name}.json", one if isinstance(one, bytes) else json.dumps(one))
    return buffer.getvalue()


def take_over(machine: Machine, folder: Path, *entries: dict[str, Any] | bytes) -> vulnerability_database.Updated:
    """Take over a database."""
    file = folder / "all.zip"
    file.write_bytes(zipped(*entries))
    return vulnerability_database.update(str(file), machine)


KNOWN = (
    entry("GHSA-jinja", "jinja2", fixed="3.1.4", aliases=("CVE-2024-1",), rating="MODERATE"),
    entry("PYSEC-jinja", "Jinja2", fixed="3.1.4", aliases=("CVE-2024-1",), rating=None),
    entry("GHSA-pillow", "pillow", fixed="10.0.1", aliases=("CVE-2023-1",), rating="CRITICAL"),
    entry("GHSA-torch", "torch", fixed="2.6.0"),
    entry("GHSA-gone", "jinja2", fixed="9", withdrawn="2024-01-01T00:00:00Z"),
)


def direct(package: LockedPackage) -> LockedPackage:
    """Return the package as one of which the URL was asked for."""
    return replace(package, is_direct=True)
