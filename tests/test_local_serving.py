"""`envbuilder serve`: a model in its locked environment, without an image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from envbuilder.errors import ServingFailedError
from tests.asking import free_port, post
from tests.conftest import EXAMPLES, command_line, expected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.process]


@contextmanager
def served(cache: Path, model: Path, *arguments: str, **environ: str) -> Iterator[str]:
    """Serve the model until the end of the block, and give where; it is interrupted as by Ctrl-C."""
    command = (sys.executable, "-m", "envbuilder", "serve", str(model), "-p", str(free_port()), *arguments)
    child = subprocess.Popen(
        command,
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        yield url
    finally:
        child.send_signal(signal.SIGINT)
        _, log = child.communicate(timeout=60)
    assert child.returncode == 130, log
    assert "Traceback" not in log


def files(model: Path) -> list[str]:
    return sorted(str(path) for path in model.rglob("*"))


def leftovers(cache: Path) -> set[Path]:
    return {*(cache / "servers").glob(".tmp-*"), *(cache / "servers/runs").glob("*")}


def answers(url: str, name: str) -> None:
    for case in expected(name):
        status, body = post(url, case["request"])
        assert status == case["status"]
        if status == 200:
            assert body == case["body"]


def test_a_model_answers_as_mlflow_does_and_again_offline_from_the_caches(cache: Path, tmp_path: Path) -> None:
    model = tmp_path / "scale"
    shutil.copytree(EXAMPLES / "scale", model)
    before = files(model)
    # Others that use the cache may have been killed.
    there = leftovers(cache)
    with served(cache, model) as url:
        answers(url, "scale")
    assert files(model) == before
    lock = tmp_path / "scale.conda-lock.yml"
    assert command_line(cache, "lock", str(model), "--no-base", "-o", str(lock)).returncode == 0
    with served(cache, model, "--offline", "--workers", "2", ENVBUILDER_TOKEN="canary") as url:
        status, body = post(url, {})
        assert (status, body["error_code"]) == (401, "UNAUTHENTICATED")
    assert leftovers(cache) <= there


def test_a_model_that_does_not_load_is_told_and_ends_it(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "scale", tmp_path / "broken")
    (tmp_path / "broken/scale_model.py").write_text("raise RuntimeError('the weights are gone')\n")
    ended = command_line(cache, "serve", str(tmp_path / "broken"), "-p", str(free_port()))
    assert ended.returncode == ServingFailedError.exit_code
    assert "before it answered" in ended.stderr
    assert "the weights are gone" in ended.stderr
