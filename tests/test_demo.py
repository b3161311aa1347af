"""`make demo` as a new user meets it: an image from nothing, a prediction, a table, and nothing left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, REPOSITORY, expected

pytestmark = [pytest.mark.network, pytest.mark.process]


def demo(cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), "COLUMNS": "100"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def processes_of(cache: Path) -> list[str]:
    """Return the command lines of processes that have the cache in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(cache).encode() in text:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_the_demo_predicts_shows_what_it_took_and_leaves_no_process(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = demo(cache)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == expected("iris")[0]["body"]
    for text in ("iris:demo", "sha256:", "MB", "smoke test", "run until the first answer", "make demo"):
        assert text in first.stderr
    second = demo(cache)
    assert second.returncode == 0, second.stderr
    assert "every layer came from the cache" in second.stderr
    assert processes_of(cache) == []
