"""What models need of libraries, environments and bases, in images of the Docker engine that are cut off when called.

Each image is started with a read-only root, no network, no capabilities and as user 1000, and answers what MLflow's
own server answers. The examples that every engine builds are in `test_contract.py`, conda environments in
`test_conda_images.py`.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import stages
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.engine import docker
from envbuilder.engine.docker import client as docker_client
from envbuilder.oci_image import Platform
from tests.conftest import BASE, EXAMPLES, expected
from tests.docker_engine import bridge
from tests.package_index import WheelFile, running_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from envbuilder.machine import Machine
    from envbuilder.stages import BuildReport

pytestmark = [pytest.mark.engine, pytest.mark.network]

CALL = """
import json, sys, urllib.error, urllib.request
request = urllib.request.Request(
    "http://127.0.0.1:8080/invocations", sys.argv[1].encode(), {"Content-Type": "application/json"}
)
try:
    with urllib.request.urlopen(request, timeout=60) as response:
        print(json.dumps([response.status, json.load(response)]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, json.load(error)]))
"""

INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps({one.metadata["Name"]: one.version for one in distributions()}))
"""


def built(model: Path, machine: Machine, *, base: str | None = BASE, environment: str | None = None) -> BuildReport:
    choices = Choices(engine="docker", base=base, environment=environment, tag=f"envbuilder-test-{model.name}:1")
    return stages.build(model, choices, machine=machine)


@contextmanager
def answers(report: BuildReport, name: str, machine: Machine) -> Iterator[Container]:
    """Start the image as confined as can be, compare its answers with those of MLflow's server, and give it."""
    with docker_client.opened(machine) as client:
        container = client.containers.run(
            report.references[0],
            detach=True,
            read_only=True,
            tmpfs={"/tmp": "rw,mode=1777"},  # noqa: S108 - the container's own
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        try:
            for case in expected(name):
                status, body = call(container, case["request"])
                assert status == case["status"]
                if status == 200:
                    assert body == case["body"]
                else:
                    assert body["error_code"] == case["error_code"]
            assert inside(container, "import os; print(os.getuid())") == 1000
            yield container
        finally:
            container.remove(force=True)


def call(container: Container, body: object) -> tuple[int, Any]:
    """Wait until the server is ready, send a prediction, and return the status and the body of its answer."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer = inside(container, CALL, json.dumps(body))
        if answer is not None and answer[0] != 503:
            return answer[0], answer[1]
        time.sleep(0.5)
    pytest.fail(f"the server does not answer: {container.logs().decode()}")


def inside(container: Container, script: str, *arguments: str) -> Any:  # noqa: ANN401 - whatever it prints
    """Return what a script of the model's Python prints as JSON; None where it fails."""
    result = container.exec_run(["/opt/env/bin/python", "-c", script, *arguments])
    return json.loads(bytes(result.output)) if result.exit_code == 0 else None  # type: ignore[arg-type]  # no stream


def installed(container: Container) -> dict[str, str]:
    """Return the versions of the packages in the image, by their names."""
    found: dict[str, str] = inside(container, INSTALLED)
    return found


def torch_wheel() -> WheelFile:
    """Return the CPU build of torch out of the folder that pip's settings name: the index's brings CUDA, gigabytes."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if key.endswith(".find-links"):
            for folder in shlex.split(value):
                for path in Path(folder).glob("torch-*+cpu-cp311-cp311-*x86_64.whl"):
                    return WheelFile(name=path.name, data=path.read_bytes())
    pytest.skip("pip's settings name no folder with a CPU build of torch for Python 3.11")


@pytest.mark.parametrize("name", ["boost", "graph"])
def test_an_example_answers_as_mlflow_does_when_it_is_cut_off(name: str, docker_machine: Machine) -> None:
    report = built(EXAMPLES / name, docker_machine)
    with answers(report, name, docker_machine):
        pass


def test_a_model_of_pytorch_gets_the_cpu_build_of_a_companys_index(docker_machine: Machine, docker_host: str) -> None:
    wheel = torch_wheel()
    with running_index(address=bridge(docker_host)) as index:
        index.add(wheel)
        settings = replace(docker_machine.settings, extra_index_urls=(index.url,))
        report = built(EXAMPLES / "net", replace(docker_machine, settings=settings))
    with answers(report, "net", docker_machine) as container:
        assert installed(container)["torch"] == "2.13.0+cpu"


def test_an_amendment_gives_a_model_the_small_mlflow(docker_machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "amended"
    shutil.copytree(EXAMPLES / "scale", model)
    for name in ("conda.yaml", "requirements.txt"):
        (model / name).write_text((model / name).read_text().replace("mlflow-skinny==", "mlflow=="))
    report = built(model, docker_machine, environment="{amend: {pip: {swap: {mlflow: mlflow-skinny}}}}")
    with answers(report, "scale", docker_machine) as container:
        found = installed(container)
    assert found["mlflow-skinny"] == "3.17.2"
    assert "mlflow" not in found


def test_an_image_of_a_workspaces_environment_is_the_base(docker_machine: Machine) -> None:
    known = docker.base_image(BaseReference.parse(BASE), platform=Platform.parse("linux/amd64"), machine=docker_machine)
    dockerfile = f"FROM {known.pinned}\nENV COMPANY=ours\n".encode()
    with docker_client.opened(docker_machine) as client:
        client.images.build(fileobj=io.BytesIO(dockerfile), tag="envbuilder-test-company:1")
    environment = "{amend: {image: 'envbuilder-test-company:1'}}"
    report = built(EXAMPLES / "scale", docker_machine, base=None, environment=environment)
    with answers(report, "scale", docker_machine) as container:
        assert inside(container, "import json, os; print(json.dumps(os.environ['COMPANY']))") == "ours"
