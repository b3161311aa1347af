"""An engine whose disk fills, and one that dies in the middle of a build: told, nothing named, and well afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from envbuilder.errors import DiskFullError, EngineMissingError
from tests import docker_engine
from tests.conftest import BASE, EXAMPLES, command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.process]

NAME = "envbuilder-test-lost:1"
SMALL, LARGE = "size=150m", "size=3g"


@pytest.fixture
def disk(docker_host: str) -> Iterator[Path]:
    """A small disk for an engine of our own; `docker_host` has the program installed."""
    del docker_host
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = Path(tempfile.mkdtemp(prefix="ebl-"))
    mount("-t", "tmpfs", "-o", SMALL, "tmpfs", str(place))
    try:
        yield place
    finally:
        docker_engine.end_leftovers(place)
        docker_engine.unmount(place)
        subprocess.run((shutil.which("umount") or "umount", "--lazy", place), check=False)
        shutil.rmtree(place, ignore_errors=True)


def mount(*arguments: str) -> None:
    subprocess.run((shutil.which("mount") or "mount", *arguments), check=True)


@contextmanager
def running(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        daemon = docker_engine.start(place, "overlay2", log.fileno())
        try:
            if not docker_engine.is_ready(daemon, host(place)):
                log.seek(0)
                pytest.fail(f"dockerd does not start: {log.read().decode(errors='replace')[-2000:]}")
            yield daemon
        finally:
            docker_engine.stop(daemon)


def host(place: Path) -> str:
    return f"unix://{place}/docker.sock"


def names(place: Path) -> list[str]:
    client = docker.DockerClient(base_url=host(place))
    try:
        return [tag for image in client.images.list() for tag in image.tags]
    finally:
        client.close()


def arguments(model: Path) -> tuple[str, ...]:
    return ("build", str(model), "--engine", "docker", "--base", BASE, "-t", NAME)


def test_a_full_disk_and_a_killed_engine_leave_nothing_named_and_the_next_build_succeeds(
    disk: Path, cache: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", model)
    with running(disk):
        full = command_line(cache, *arguments(model), DOCKER_HOST=host(disk))
        assert full.returncode == DiskFullError.exit_code, full.stderr
        assert "the engine's disk is full" in full.stderr
        assert "docker system prune" in full.stderr
        assert not [name for name in names(disk) if "lost" in name]
        mount("-o", f"remount,{LARGE}", str(disk))
        whole = command_line(cache, *arguments(model), DOCKER_HOST=host(disk))
        assert whole.returncode == 0, whole.stderr
        assert NAME in names(disk)

    (model / "note.txt").write_text("changed")
    before = _image(disk)
    with running(disk) as daemon, (tmp_path / "log").open("wb") as log:
        environ = {**os.environ, "DOCKER_HOST": host(disk), "ENVBUILDER_CACHE_DIR": str(cache)}
        command = (sys.executable, "-m", "envbuilder", *arguments(model))
        with subprocess.Popen(command, env=environ, stdout=log, stderr=log) as build:
            _wait_for(tmp_path / "log", "hash")
            os.killpg(daemon.pid, signal.SIGKILL)
            assert build.wait(60) == EngineMissingError.exit_code, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert "engine stopped answering" in said or "no Docker engine answers" in said
    # What a service manager does before it starts the engine again.
    docker_engine.end_leftovers(disk)
    docker_engine.unmount(disk / "exec")
    shutil.rmtree(disk / "exec")
    assert _image(disk) == before
    with running(disk):
        again = command_line(cache, *arguments(model), DOCKER_HOST=host(disk))
        assert again.returncode == 0, again.stderr
    assert _image(disk) != before


def _image(place: Path) -> str:
    with running(place):
        client = docker.DockerClient(base_url=host(place))
        try:
            return str(client.images.get(NAME).id)
        finally:
            client.close()


def _wait_for(log: Path, word: str) -> None:
    for _ in range(600):
        if word in log.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"`{word}` never came: {log.read_text()}")
