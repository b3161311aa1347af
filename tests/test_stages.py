from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import stages
from envbuilder.errors import BaseImageError, EngineMissingError, InvalidFileError
from envbuilder.stages import Choices
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine
    from tests.conftest import RecordingReporter


@pytest.mark.parametrize(
    ("python", "base"),
    [
        ("3.11.7", "python:3.11.7-slim"),
        ("3.12", "python:3.12-slim"),
        (">=3.9,<3.11", "python:3.10-slim"),
        (">=3.8", "python:3.14-slim"),
    ],
)
def test_the_default_base_is_the_slim_image_of_the_python_asked_for(python: str, base: str) -> None:
    assert stages.default_base(stages.resolve(EXAMPLES / "iris", python=python)) == base


def test_no_base_is_chosen_for_a_python_the_server_cannot_run_on() -> None:
    with pytest.raises(BaseImageError, match=r"no base image provides Python 2\.7") as caught:
        stages.default_base(stages.resolve(EXAMPLES / "iris", python="2.7"))
    assert "python>=3.8" in (caught.value.problems[0].fix or "")


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="no images are made for `windows/amd64`"):
        stages.platform_of(Choices(platform="windows/amd64"))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="no engine `rocket`"):
        stages.engine_module("rocket")


@pytest.mark.process
def test_auto_takes_the_embedded_engine_where_docker_does_not_answer(machine: Machine, tmp_path: Path) -> None:
    environ = {**dict(machine.settings.environ), "DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"}
    without = replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))
    name, _ = stages.choose_engine("auto", without)
    assert name == "oci"
    with pytest.raises(EngineMissingError, match="`docker`: no Docker engine answers"):
        stages.choose_engine("docker", without)


@pytest.mark.engine
@pytest.mark.process
def test_auto_takes_docker_where_it_answers(docker_machine: Machine) -> None:
    name, _ = stages.choose_engine("auto", docker_machine)
    assert name == "docker"


@pytest.mark.network
def test_an_untried_image_gets_no_name_after_its_content(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "My Model_2"
    model.mkdir()
    for path in (EXAMPLES / "scale").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "note.txt").write_text(os.urandom(8).hex())
    report = stages.build(model, Choices(engine="oci", base=BASE, smoke=False), machine=machine)
    assert report.references == ("my-model-2:latest",)
    assert report.smoke is None
    assert stages.engine_module("oci").find("my-model-2:latest", machine=machine) is not None
    tried = stages.build(model, Choices(engine="oci", base=BASE), machine=machine)
    assert not tried.existed
    assert tried.references[1].startswith("my-model-2:env-")


@pytest.mark.network
def test_a_model_without_an_example_is_started_and_that_is_told(
    machine: Machine, reporter: RecordingReporter, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in (EXAMPLES / "scale").iterdir():
        if path.name not in ("input_example.json", "serving_input_example.json", "MLmodel"):
            (model / path.name).write_bytes(path.read_bytes())
    text = (EXAMPLES / "scale" / "MLmodel").read_text()
    (model / "MLmodel").write_text(text[: text.index("saved_input_example_info:")])
    choices = Choices(engine="oci", base=BASE, tag="no-example:1", rebuild=True)
    report = stages.build(model, choices, machine=machine)
    assert report.smoke is not None
    assert report.smoke.example == "none"
    assert any(text.startswith("started, but not asked to predict: ") for text in reporter.warnings)


@pytest.mark.network
def test_another_micro_version_of_python_is_told(machine: Machine, reporter: RecordingReporter) -> None:
    stages.make_lock(EXAMPLES / "scale", Choices(engine="oci", base=BASE), machine=machine)
    (warning,) = reporter.warnings
    assert "asks for Python 3.11.7" in warning
    assert "the base provides 3.11.2" in warning


@pytest.mark.network
def test_a_damaged_cache_is_mended(machine: Machine, tmp_path: Path) -> None:
    fresh = replace(machine, settings=replace(machine.settings, cache_dir=tmp_path / "cache"))
    choices = Choices(engine="oci", base=BASE, tag="mended:1", smoke=False)
    first = stages.build(EXAMPLES / "scale", choices, machine=fresh)
    layer = first.image.layers[-1]
    fresh.store.blob_path(layer.digest).unlink()
    second = stages.build(EXAMPLES / "scale", choices, machine=fresh)
    assert second.image.digest == first.image.digest
    assert [item.comment for item in second.image.layers if not item.reused] == ["model"]
