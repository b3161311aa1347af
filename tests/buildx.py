"""Docker's buildx for the tests: the plugin of Debian trixie, fetched and verified as packages of a base are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from envbuilder import network
from envbuilder.bases import debian_archives
from envbuilder.bases.debian_packages import DebianPackages
from envbuilder.bases.debian_release import ReleaseSource
from envbuilder.errors import EnvBuilderError
from tests.alone import alone

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine

_SUITE: Final = "trixie"
_PACKAGE: Final = "docker-buildx"
_PLUGIN: Final = "cli-plugins/docker-buildx"


def folder_with_buildx(request: pytest.FixtureRequest, machine: Machine, root: Path) -> Path:
    """Return a folder for DOCKER_CONFIG whose `docker` program has buildx; `root` is where apt's sources are."""
    assert request.config.cache is not None
    folder: Path = request.config.cache.mkdir("buildx")
    with alone(request.config, "buildx"):
        if not (folder / _PLUGIN).exists():
            try:
                data = _plugin(machine, root)
            except EnvBuilderError as cause:
                pytest.skip(f"buildx cannot be had from Debian {_SUITE}: {cause}")
            (folder / _PLUGIN).parent.mkdir(parents=True, exist_ok=True)
            (folder / _PLUGIN).write_bytes(data)
            (folder / _PLUGIN).chmod(0o755)
    return folder


def _plugin(machine: Machine, root: Path) -> bytes:
    settings = machine.settings
    with network.session(settings) as opened:
        releases = ReleaseSource(
            distribution="debian", settings=settings, opened=opened, reporter=machine.reporter, root=root
        )
        packages = DebianPackages(settings, opened, machine.reporter)
        pockets = debian_archives.pockets(_SUITE, "debian", settings.debian_mirrors, root)
        package = packages.index(releases.index_files(pockets, "amd64")).get(_PACKAGE)
        assert package is not None, f"Debian {_SUITE} has no {_PACKAGE}"
        ((_, unpacked),) = packages.unpacked((package,))
    (content,) = (entry.content for entry in unpacked.entries if entry.path.endswith(_PLUGIN))
    assert isinstance(content, bytes)
    return content
