"""A real skopeo, to read images as another tool does: the machine's, or one unpacked from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.alone import alone

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGES: Final = ("skopeo", "libgpgme11", "libassuan0", "libgpg-error0", "libdevmapper1.02.1")


@dataclass(frozen=True, slots=True)
class Skopeo:
    """The program, and where its libraries are."""

    program: str
    libraries: str = ""

    def __call__(self, *arguments: str) -> str:
        """Run it, and return what it prints."""
        environ = {**os.environ, **({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})}
        command = [self.program, "--insecure-policy", *arguments]
        ended = subprocess.run(command, env=environ, check=False, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="session")
def skopeo(request: pytest.FixtureRequest) -> Skopeo:
    found = shutil.which("skopeo")
    if found is not None:
        return Skopeo(found)
    assert request.config.cache is not None
    unpacked: Path = request.config.cache.mkdir("skopeo")
    with alone(request.config, "skopeo"):
        if not (unpacked / "usr/bin/skopeo").exists():
            _unpack(unpacked)
    folders = sorted({str(path.parent) for path in unpacked.rglob("*.so.*")})
    return Skopeo(str(unpacked / "usr/bin/skopeo"), ":".join(folders))


def _unpack(folder: Path) -> None:
    try:
        for command in (
            ("apt-get", "download", "-q", *_PACKAGES),
            ("sh", "-c", 'for package in *.deb; do dpkg-deb -x "$package" .; done'),
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as cause:
        reason = f"skopeo is not here and cannot be had with apt-get: {cause}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
