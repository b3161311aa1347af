"""Debian's Chromium, without a network: opens a file from disk, says what is in it, and draws it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.alone import alone
from tests.docker_engine import install

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # Whoever asks for anything on a network asks a port where nobody is.
    "--proxy-server=http://127.0.0.1:9",
)


@dataclass(frozen=True, slots=True)
class Chromium:
    """The program."""

    program: str

    def _run(self, *arguments: str) -> str:
        with tempfile.TemporaryDirectory() as profile:
            command = [self.program, *FLAGS, f"--user-data-dir={profile}", *arguments]
            environ = {**os.environ, "HOME": profile}
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environ)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def document(self, page: Path) -> str:
        """Return the page as it is once it was read."""
        return self._run("--dump-dom", page.as_uri())

    def draw(self, page: Path, picture: Path, *, size: str = "1200,1600") -> None:
        """Write a PNG of the page."""
        self._run(f"--window-size={size}", f"--screenshot={picture}", page.as_uri())


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Chromium:
    with alone(request.config, "chromium"):
        if shutil.which("chromium") is None:
            install("chromium", "chromium")
    found = shutil.which("chromium")
    assert found is not None
    return Chromium(found)
