"""What this machine can do for envbuilder, and what would have to change: engines, network, disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import network_diagnosis, server_kit
from envbuilder.bases import apt_sources
from envbuilder.errors import EnvBuilderError
from envbuilder.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.machine import Machine

_ROOM: Final = 5_000_000_000
"""Bytes below which a build of a large environment may not fit."""

_GIGABYTE: Final = 1_000_000_000


def diagnose(machine: Machine, engines: Iterable[tuple[str, str | None]]) -> tuple[Finding, ...]:
    """Look at everything; `engines` are names with the reason why they cannot be used, None when they can."""
    findings = [
        Finding(
            subject=f"engine {name}",
            ok=reason is None,
            detail=reason or "answers",
            fix="" if reason is None else _ENGINE_FIXES[name],
        )
        for name, reason in engines
    ]
    findings += network_diagnosis.diagnose(machine)
    findings.append(_mirrors(machine))
    findings.append(_disk(machine))
    minors = server_kit.minors()
    findings.append(Finding(subject="Python of models", ok=True, detail=f"{minors[0]} to {minors[-1]}"))
    return tuple(findings)


_ENGINE_FIXES: Final = {
    "docker": "start Docker, or set DOCKER_HOST; without it Podman or the embedded engine is used",
    "podman": "start its service (`systemctl start podman.socket`), or set CONTAINER_HOST, if you want it used",
    "oci": "run as root, or allow user namespaces; without them images can be built only with Docker or Podman",
}


def _mirrors(machine: Machine) -> Finding:
    given = machine.settings.debian_mirrors
    if given:
        return Finding(subject="Debian mirror", ok=True, detail=f"{len(given)} given by ENVBUILDER_DEBIAN_MIRRORS")
    try:
        sources = apt_sources.read(Path("/"))
    except EnvBuilderError as cause:
        return Finding(
            subject="Debian mirror", ok=False, detail=cause.problems[0].what, fix=cause.problems[0].fix or ""
        )
    if sources:
        return Finding(subject="Debian mirror", ok=True, detail=f"{len(sources)} in this machine's apt sources")
    return Finding(
        subject="Debian mirror",
        ok=False,
        detail="no apt sources here",
        fix="set ENVBUILDER_DEBIAN_MIRRORS to use `--base debian:…`; other bases need none",
    )


def _disk(machine: Machine) -> Finding:
    place = machine.settings.cache_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Finding(
        subject="cache",
        ok=free >= _ROOM,
        detail=f"{machine.settings.cache_dir} ({free / _GIGABYTE:.0f} GB free)",
        fix="" if free >= _ROOM else "free some space, or point ENVBUILDER_CACHE_DIR to a larger disk",
    )
