"""The same tests over both engines: what a program in the base sees, what it may do, and what comes back."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import docker
import pytest

from envbuilder import engine_choice
from envbuilder.bases import BaseReference
from envbuilder.build_step import OUTPUT, PLACE, Input, Step
from envbuilder.choices import Choices
from envbuilder.engine import docker as docker_engine
from envbuilder.engine import oci
from envbuilder.errors import BaseImageError
from tests.conftest import BASE

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.build_step import StepEnded
    from envbuilder.engine import Engine
    from envbuilder.machine import Machine

pytestmark = [pytest.mark.engine, pytest.mark.network]

TELL = """
import json, os, socket, sys
def tried(action):
    try: action()
    except OSError as error: return type(error).__name__
    return "done"
def connect(): socket.create_connection(("192.0.2.1", 80), 5)
with open("/proc/self/status") as stream:
    status = dict(line.split(":\\t", 1) for line in stream if ":\\t" in line)
with open("/build/output/told.json", "w") as stream:
    json.dump({
        "user": [os.getuid(), os.getgid()],
        "capabilities": status["CapBnd"].strip(), "no new rights": status["NoNewPrivs"].strip(),
        "root": tried(lambda: open("/new", "w")), "usr": tried(lambda: os.mkdir("/usr/new")),
        "tmp": tried(lambda: open("/tmp/new", "w").close()),
        "network": tried(connect),
        "copied": tried(lambda: open("/build/source/new", "w").close()),
        "given": tried(lambda: open("/build/tools/new", "w")),
        "link": os.readlink("/build/source/link"), "executable": os.access("/build/source/run", os.X_OK),
        "text": open("/build/source/deep/file").read(), "time": os.stat("/build/source/deep/file").st_mtime,
        "given variable": os.environ["GIVEN"],
    }, stream)
"""


@pytest.fixture(params=["oci", "docker"])
def placed(request: pytest.FixtureRequest, machine: Machine) -> tuple[Engine, BaseImage, Machine]:
    """An engine with its base image, and the machine that reaches it."""
    engine: Engine = oci
    if request.param == "docker":
        engine, machine = docker_engine, request.getfixturevalue("docker_machine")
    base = engine.base_image(BaseReference.parse(BASE), platform=engine_choice.platform_of(Choices()), machine=machine)
    return engine, base, machine


def ran(placed: tuple[Engine, BaseImage, Machine], code: str, output: Path, **options: Any) -> StepEnded:  # noqa: ANN401
    engine, base, machine = placed
    output.mkdir()
    settings: dict[str, Any] = {"environ": (), "inputs": (), "timeout": 60, **options}
    step = Step(command=(base.interpreter.executable, "-I", "-c", code), output=output, **settings)
    return engine.run_in_base(base, step, machine=machine)


def tree(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_text("here")
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("deep/file")
    for path in (folder / "deep/file", folder / "run"):
        os.utime(path, (315_532_800, 315_532_800))
    return folder


def test_a_program_sees_its_inputs_and_may_do_nothing_else(
    placed: tuple[Engine, BaseImage, Machine], tmp_path: Path
) -> None:
    source = tree(tmp_path / "source")
    inputs = (
        Input(directory=source, target=f"{PLACE}/source", is_copied=True),
        Input(directory=tree(tmp_path / "tools"), target=f"{PLACE}/tools"),
    )
    ended = ran(placed, TELL, tmp_path / "output", inputs=inputs, environ=(("GIVEN", "yes"),))
    assert ended.code == 0, ended.tail
    told = json.loads((tmp_path / "output/told.json").read_text())
    assert told == {
        "user": [1000, 1000],
        "capabilities": "0" * 16,
        "no new rights": "1",
        "root": "OSError",
        "usr": "OSError",
        "tmp": "done",
        "network": "OSError",
        "copied": "done",
        "given": told["given"],
        "link": "deep/file",
        "executable": True,
        "text": "here",
        "time": 315_532_800,
        "given variable": "yes",
    }
    assert told["given"] in {"OSError", "PermissionError"}
    assert not (source / "new").exists()


def test_an_input_is_seen_where_the_base_has_nothing(placed: tuple[Engine, BaseImage, Machine], tmp_path: Path) -> None:
    inputs = (Input(directory=tree(tmp_path / "files"), target="/opt/env"),)
    code = f"open('{OUTPUT}/told', 'w').write(open('/opt/env/link').read()); open('/opt/env/new', 'w')"
    ended = ran(placed, code, tmp_path / "output", inputs=inputs)
    assert ended.code == 1
    assert (tmp_path / "output/told").read_text() == "here"


def test_only_regular_files_come_back(placed: tuple[Engine, BaseImage, Machine], tmp_path: Path) -> None:
    code = f"""
import os
os.chdir({OUTPUT!r})
open("plain", "w").write("text")
os.chmod("plain", 0)
os.symlink("/etc/passwd", "link")
os.mkfifo("pipe")
os.makedirs("folder/inner")
open("folder/inner/file", "w").write("deep")
"""
    ended = ran(placed, code, tmp_path / "output")
    assert ended.code == 0, ended.tail
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["plain"]
    assert (tmp_path / "output/plain").read_text() == "text"


def test_the_last_lines_of_a_failure_come_back(placed: tuple[Engine, BaseImage, Machine], tmp_path: Path) -> None:
    code = "import sys\nfor n in range(100): print('line', n, file=sys.stderr)\nsys.exit(7)"
    ended = ran(placed, code, tmp_path / "output")
    assert ended.code == 7
    assert ended.tail[-1] == "line 99"
    assert len(ended.tail) == 20


def test_a_program_that_does_not_end_is_ended(placed: tuple[Engine, BaseImage, Machine], tmp_path: Path) -> None:
    begin = time.monotonic()
    ended = ran(placed, "import time\ntime.sleep(600)", tmp_path / "output", timeout=2)
    assert ended.code is None
    assert time.monotonic() - begin < 30


def test_no_container_and_no_volume_is_left(docker_machine: Machine, tmp_path: Path) -> None:
    reference, platform = BaseReference.parse(BASE), engine_choice.platform_of(Choices())
    base = docker_engine.base_image(reference, platform=platform, machine=docker_machine)
    client = docker.DockerClient(base_url=dict(docker_machine.settings.environ)["DOCKER_HOST"])
    try:
        before = (len(client.containers.list(all=True)), len(client.volumes.list()))
        for number, code in enumerate(("pass", "raise SystemExit(1)", "import time\ntime.sleep(600)")):
            ran((docker_engine, base, docker_machine), code, tmp_path / str(number), timeout=2)
        assert (len(client.containers.list(all=True)), len(client.volumes.list())) == before
    finally:
        client.close()


def test_a_base_that_the_engine_lost_is_told(docker_machine: Machine, tmp_path: Path) -> None:
    reference, platform = BaseReference.parse(BASE), engine_choice.platform_of(Choices())
    base = docker_engine.base_image(reference, platform=platform, machine=docker_machine)
    gone = replace(base, pinned="envbuilder-base:gone")
    with pytest.raises(BaseImageError, match="has no image `envbuilder-base:gone` any more"):
        ran((docker_engine, gone, docker_machine), "pass", tmp_path / "output")
