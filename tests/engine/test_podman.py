"""The Podman engine, on a real service: it builds, tries, serves and pushes what Docker's engine does."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import engine_choice, stages, verification
from envbuilder.choices import Choices
from envbuilder.engine import podman
from envbuilder.errors import EngineMissingError, SmokeTestFailedError
from envbuilder.machine import Machine
from envbuilder.oci_image import DOCKER_MANIFEST, MANIFEST
from envbuilder.settings import Settings
from tests import podman_engine, registry_server
from tests.asking import free_port, post
from tests.conftest import BASE, EXAMPLES, RecordingReporter, expected

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.stages import BuildReport
    from tests.registry_server import Registry

pytestmark = [pytest.mark.network, pytest.mark.process]

podman_host = podman_engine.podman_host
registry = registry_server.registry
registry_program = registry_server.registry_program


def with_podman(machine: Machine, host: str) -> Machine:
    environ = {**dict(machine.settings.environ), "CONTAINER_HOST": host, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    return replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))


@pytest.fixture
def podman_machine(machine: Machine, podman_host: str) -> Machine:
    return with_podman(machine, podman_host)


@pytest.fixture(scope="module")
def built(podman_host: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildReport, Path]:
    """An image of one model, and the model."""
    model = tmp_path_factory.mktemp("podman") / "scale"
    shutil.copytree(EXAMPLES / "scale", model)
    settings = replace(Settings.from_environ(os.environ), cache_dir=cache)
    machine = with_podman(Machine(settings=settings, reporter=RecordingReporter()), podman_host)
    return stages.build(model, Choices(base=BASE, tag="podman-scale:1"), machine=machine), model


def test_auto_takes_podman_where_docker_does_not_answer(podman_machine: Machine) -> None:
    name, engine = engine_choice.choose_engine(Choices(), podman_machine)
    assert name == "podman"
    assert engine is podman


def test_an_image_is_built_tried_named_and_serves(built: tuple[BuildReport, Path], podman_machine: Machine) -> None:
    report, _ = built
    assert report.engine == "podman"
    assert report.smoke is not None
    assert report.smoke.example == "answered"
    image = podman.find("podman-scale:1", machine=podman_machine)
    assert image is not None
    assert image.identity == report.image.identity
    port = free_port()
    (case, *_) = expected("scale")
    with podman.running(image, port=port, machine=podman_machine) as running:
        assert post(running.url, case["request"]) == (case["status"], case["body"])


def test_a_changed_model_is_one_layer_on_the_same_environment(
    built: tuple[BuildReport, Path], podman_machine: Machine, tmp_path: Path
) -> None:
    report, model = built
    shutil.copytree(model, tmp_path / "changed")
    with (tmp_path / "changed/scale_model.py").open("a") as script:
        script.write("# changed\n")
    choices = Choices(engine="podman", base=BASE, tag="podman-changed:1", smoke=False)
    again = stages.build(tmp_path / "changed", choices, machine=podman_machine)
    assert [layer.digest for layer in again.image.layers[:-1]] == [layer.digest for layer in report.image.layers[:-1]]
    assert [layer.comment for layer in again.image.layers if not layer.reused] == ["model"]


def test_the_image_holds_what_was_locked(built: tuple[BuildReport, Path], podman_machine: Machine) -> None:
    found = verification.verify_image("podman-scale:1", None, engine="podman", machine=podman_machine)
    assert found.deviations == ()
    assert found.lock_digest == built[0].lock_digest


def test_it_is_pushed_to_a_registry(
    built: tuple[BuildReport, Path], registry: Registry, podman_machine: Machine
) -> None:
    choices = Choices(engine="podman", base=BASE, tag=f"{registry.host}/podman/scale:1", push=True)
    report = stages.build(built[1], choices, machine=podman_machine)
    assert report.pushed is not None
    headers = {"Accept": f"{MANIFEST}, {DOCKER_MANIFEST}"}
    told = registry.request("HEAD", "/v2/podman/scale/manifests/1", headers=headers)
    assert told.headers["Docker-Content-Digest"] == report.digest
    assert report.pushed.to_dict()["uploaded"] is None
    assert report.pushed.to_text() == "sent by the engine, which does not say how much"


def test_a_model_that_raises_is_not_tagged(
    built: tuple[BuildReport, Path], podman_machine: Machine, tmp_path: Path
) -> None:
    shutil.copytree(built[1], tmp_path / "broken")
    (tmp_path / "broken/scale_model.py").write_text("raise RuntimeError('as it is')\n")
    choices = Choices(engine="podman", base=BASE, tag="podman-broken:1")
    with pytest.raises(SmokeTestFailedError, match="as it is"):
        stages.build(tmp_path / "broken", choices, machine=podman_machine)
    assert podman.find("podman-broken:1", machine=podman_machine) is None


def test_a_service_that_is_not_there_is_told_as_podmans(machine: Machine, tmp_path: Path) -> None:
    there = with_podman(machine, f"unix://{tmp_path}/podman.sock")
    reason = podman.available(there)
    assert reason == "no Podman engine answers (there is no such socket)"
    with pytest.raises(EngineMissingError) as raised:
        podman.find("scale:1", machine=there)
    assert "CONTAINER_HOST" in str(raised.value)
