"""A build with Docker that is killed at any moment: no name without a whole image, and nothing left to clean up."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import docker
import pytest
from docker.errors import ImageNotFound

from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.network]

NAME = "envbuilder-test-killed:1"
LABEL = "io.envbuilder.process"


def test_a_docker_build_killed_at_ten_moments_names_nothing_and_leaves_nothing(
    cache: Path, docker_host: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", model)
    command = [
        sys.executable,
        "-m",
        "envbuilder",
        "build",
        str(model),
        "--engine",
        "docker",
        "--base",
        BASE,
        "-t",
        NAME,
    ]
    environ = {**os.environ, "DOCKER_HOST": docker_host, "ENVBUILDER_CACHE_DIR": str(cache)}
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(command, env=environ, stdout=log, stderr=log, check=True)
        # How long one takes when only the model is new.
        (model / "note.txt").write_text("whole")
        began = time.monotonic()
        subprocess.run(command, env=environ, stdout=log, stderr=log, check=True)
        seconds = time.monotonic() - began
        client = docker.DockerClient(base_url=docker_host)
        try:
            known = {image.id for image in client.images.list(name="envbuilder-test-killed")}
            client.images.remove(NAME)
            moments = random.Random(7)
            for number in range(10):
                (model / "note.txt").write_text(f"killed {number}")
                child = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
                time.sleep(seconds * moments.uniform(0.1, 0.95))
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                if child.wait() != 0:
                    with pytest.raises(ImageNotFound):
                        client.images.get(NAME)
                else:
                    client.images.remove(NAME)
            # What the last one left tries its image to the end; the next build removes containers that have ended.
            until = time.monotonic() + 60
            while client.containers.list(filters={"label": LABEL}) and time.monotonic() < until:
                time.sleep(0.2)
            subprocess.run(command, env=environ, stdout=log, stderr=log, check=True)
            assert client.images.get(NAME).id not in known
            assert client.containers.list(all=True, filters={"label": LABEL}) == []
            answer = client.containers.run(NAME, ["try"], network_mode="none", remove=True)
            assert b'"ready": true' in answer
        finally:
            client.close()
