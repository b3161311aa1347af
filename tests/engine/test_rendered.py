"""What `render` writes is built by Docker's own program, with nothing of envbuilder at hand and one index to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import BASE, EXAMPLES, command_line, expected
from tests.docker_engine import bridge
from tests.package_index import WheelFile, running_index

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.process]

NAME = "envbuilder-test-rendered:1"
DOCKER = "/usr/bin/docker"
PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)), "manylinux2014_x86_64"]
TARGET = ("--python-version=3.11", *(f"--platform={name}" for name in PLATFORMS))


def mirrored(context: Path, folder: Path) -> list[WheelFile]:
    """Fetch the wheels that the context's lists name, as whoever keeps a mirror does."""
    for listed in (*context.glob("*.txt"), *context.glob("installer/uv.txt")):
        command = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *TARGET)
        subprocess.run((*command, "--require-hashes", "-r", listed, "-d", folder), check=True)
    return [WheelFile(name=path.name, data=path.read_bytes()) for path in folder.glob("*.whl")]


def test_a_rendered_context_is_built_by_docker_alone_from_a_mirror(
    docker_host: str, cache: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    rendered = command_line(
        cache,
        *("render", str(EXAMPLES / "scale"), "--engine", "docker", "--base", BASE, "-o", str(context)),
        DOCKER_HOST=docker_host,
    )
    assert rendered.returncode == 0, rendered.stderr
    address = bridge(docker_host)
    with running_index(address=address) as index:
        index.add(*mirrored(context, tmp_path / "mirror"))
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\ntrusted-host = {address}\n")
        (tmp_path / "uv.toml").write_text(f'[[index]]\nurl = "{index.url}"\ndefault = true\n')
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DOCKER_HOST": docker_host, "DOCKER_BUILDKIT": "1"}
        secrets = [f"--secret=id={name},src={tmp_path / name}" for name in ("pip.conf", "uv.toml")]

        def docker(*arguments: str, stdin: str = "") -> str:
            ended = subprocess.run(
                (DOCKER, *arguments), env=environ, cwd="/", input=stdin, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, ended.stderr[-3000:]
            return ended.stdout

        # Without the layers of other builds: all that it needs has to come from the mirror.
        docker("build", "--no-cache", *secrets, "-t", NAME, str(context))
    told = json.loads(docker("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", NAME, "try"))
    assert told["ready"]
    assert told["example"] == "answered"
    case = expected("scale")[0]
    confined = ("run", "--rm", "-i", "--network=none", "--cap-drop=ALL", "--read-only", "--tmpfs=/tmp")
    assert json.loads(docker(*confined, NAME, "predict", stdin=json.dumps(case["request"]))) == case["body"]
    docker("image", "rm", "-f", NAME)
