from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from envbuilder import digest, engine_choice, model_environment, stages
from envbuilder.base_image import BaseImage, Interpreter
from envbuilder.choices import Choices
from envbuilder.errors import (
    BaseImageError,
    EngineMissingError,
    EnvBuilderError,
    InvalidFileError,
    LockImpossibleError,
)
from envbuilder.oci_image import Platform
from envbuilder.reporter import Timings
from envbuilder.workspace import Workspace
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.bases import BaseReference
    from envbuilder.engine import Engine
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
def test_the_default_base_is_the_slim_image_of_the_python_asked_for(python: str, base: str, machine: Machine) -> None:
    spec = model_environment.resolve(EXAMPLES / "iris", Choices(python=python), machine=machine)
    assert engine_choice.default_base(spec) == base


class _Registry:
    """An engine whose registry has the images of these names only."""

    def __init__(self, *names: str, absent: bool = True) -> None:
        self.names = names
        self.absent = absent

    def base_image(self, reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
        del machine
        if reference.text not in self.names:
            error = BaseImageError(f"there is no `{reference.text}`")
            error.is_absent = self.absent
            raise error
        return BaseImage(
            reference=reference.text,
            pinned=f"{reference.text}@sha256:0",
            digest=digest.of_bytes(b"base"),
            platform=platform,
            interpreter=Interpreter(version="3.11.9", executable="/usr/local/bin/python3.11", glibc="2.36"),
            environ=(),
        )

    def choose(self, model: Path, machine: Machine) -> BaseImage:
        spec = model_environment.resolve(model, Choices(python="3.11.7"), machine=machine)
        return engine_choice.base_image(
            spec,
            cast("Engine", self),
            Choices(),
            Platform.parse("linux/amd64"),
            machine=machine,
            timings=Timings(machine.reporter),
        )


def test_where_the_registry_has_not_the_exact_python_its_minor_version_is_taken_and_that_is_told(
    machine: Machine, reporter: RecordingReporter
) -> None:
    assert _Registry("python:3.11.7-slim").choose(EXAMPLES / "iris", machine).reference == "python:3.11.7-slim"
    assert _Registry("python:3.11-slim").choose(EXAMPLES / "iris", machine).reference == "python:3.11-slim"
    assert "the registry has no `python:3.11.7-slim`, so the base is `python:3.11-slim`" in reporter.warnings


@pytest.mark.parametrize(
    ("registry", "missing"),
    [(_Registry(), "python:3.11-slim"), (_Registry("python:3.11-slim", absent=False), "python:3.11.7-slim")],
    ids=["neither", "refused"],
)
def test_no_other_base_is_taken_where_there_is_none_or_for_another_reason(
    registry: _Registry, missing: str, machine: Machine
) -> None:
    with pytest.raises(BaseImageError, match=missing):
        registry.choose(EXAMPLES / "iris", machine)


@pytest.mark.process
def test_the_embedded_engine_says_that_it_follows_no_templates(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "_config.j2").write_text("CMD []\n")
    choices = Choices(engine="oci", base=BASE, workspace=Workspace.read(tmp_path))
    with pytest.raises(EngineMissingError, match=r"\(_config\.j2\), and the embedded engine writes none") as caught:
        stages.build(EXAMPLES / "scale", choices, machine=machine)
    (problem,) = caught.value.problems
    assert str(problem.where) == str(tmp_path / "templates")
    assert problem.fix is not None


def test_no_base_is_chosen_for_a_python_the_server_cannot_run_on(machine: Machine) -> None:
    spec = model_environment.resolve(EXAMPLES / "iris", Choices(python="2.7"), machine=machine)
    with pytest.raises(BaseImageError, match=r"no base image provides Python 2\.7") as caught:
        engine_choice.default_base(spec)
    assert "python>=3.8" in (caught.value.problems[0].fix or "")


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="no images are made for `windows/amd64`"):
        engine_choice.platform_of(Choices(platform="windows/amd64"))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="no engine `rocket`"):
        engine_choice.engine_module("rocket")


@pytest.mark.process
def test_auto_takes_the_embedded_engine_where_docker_does_not_answer(machine: Machine, tmp_path: Path) -> None:
    environ = {**dict(machine.settings.environ), "DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"}
    without = replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))
    name, _ = engine_choice.choose_engine(Choices(), without)
    assert name == "oci"
    with pytest.raises(EngineMissingError, match="`docker`: no Docker engine answers"):
        engine_choice.choose_engine(Choices(engine="docker"), without)


@pytest.mark.engine
@pytest.mark.process
def test_auto_takes_docker_where_it_answers(docker_machine: Machine) -> None:
    name, _ = engine_choice.choose_engine(Choices(engine="auto"), docker_machine)
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
    assert engine_choice.engine_module("oci").find("my-model-2:latest", machine=machine) is not None
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


WORKSPACE = EXAMPLES / "workspace"


def workspace(directory: Path, text: str) -> Workspace:
    (directory / "envbuilder.yaml").write_text(text)
    return Workspace.read(directory)


def test_a_rule_of_the_workspace_gives_a_model_its_environment(machine: Machine) -> None:
    choices = Choices(workspace=Workspace.read(WORKSPACE))
    spec = model_environment.resolve(EXAMPLES / "iris", choices, machine=machine)
    assert spec.environment is not None
    assert (spec.environment.value, spec.environment.source.key) == ("lean:1", "rules[0]")
    assert "scikit-learn==1.7.1" in spec.requirement_lines()
    other = model_environment.resolve(EXAMPLES / "scale", choices, machine=machine)
    assert other.environment is None


def test_an_environment_chosen_for_one_build_wins_over_the_rule_and_that_one_is_kept(machine: Machine) -> None:
    choices = Choices(workspace=Workspace.read(WORKSPACE), environment="sklearn@stable")
    spec = model_environment.resolve(EXAMPLES / "iris", choices, machine=machine)
    assert spec.environment is not None
    assert spec.environment.value == "sklearn:1.9"
    (lost,) = [one for one in spec.overridden if one.field == "environment"]
    assert (lost.value, lost.by) == ("lean", spec.environment.source)


@pytest.mark.process
def test_the_workspaces_defaults_hold_where_nothing_else_is_said(machine: Machine, tmp_path: Path) -> None:
    said = workspace(tmp_path, "defaults: {engine: oci, platform: linux/arm64}")
    assert engine_choice.choose_engine(Choices(workspace=said), machine)[0] == "oci"
    assert str(engine_choice.platform_of(Choices(workspace=said))) == "linux/arm64"
    assert str(engine_choice.platform_of(Choices(workspace=said, platform="linux/amd64"))) == "linux/amd64"


@pytest.mark.parametrize(
    ("environment", "kind", "what"),
    [
        ("{amend: {system_packages: {add: [libnever1]}}}", BaseImageError, "has no package `libnever1`"),
        ("{amend: {pip: {add: ['six @ git+https://h/six@1']}}}", LockImpossibleError, "nothing is built unasked"),
    ],
    ids=["system package", "repository"],
)
@pytest.mark.network
def test_what_this_version_cannot_build_is_refused_and_never_dropped(
    environment: str, kind: type[EnvBuilderError], what: str, machine: Machine
) -> None:
    choices = Choices(engine="oci", base=BASE, environment=environment, tag="never:1")
    with pytest.raises(kind, match=what) as caught:
        stages.build(EXAMPLES / "scale", choices, machine=machine)
    assert all(problem.where and problem.fix for problem in caught.value.problems)


@pytest.mark.network
def test_an_amended_model_is_built_with_the_packages_and_variables_of_the_workspace(machine: Machine) -> None:
    choices = Choices(engine="oci", workspace=Workspace.read(WORKSPACE), tag="amended-iris:1")
    report = stages.build(EXAMPLES / "iris", choices, machine=machine)
    assert report.base == "debian:bookworm"
    config = machine.store.image(report.image.digest).config
    assert ("OMP_NUM_THREADS", "1") in config.env
    spec = model_environment.resolve(EXAMPLES / "iris", choices, machine=machine)
    assert dict(config.labels)["io.envbuilder.spec.digest"] == spec.digest
    plain = model_environment.resolve(EXAMPLES / "iris", Choices(), machine=machine)
    assert spec.digest != plain.digest


def test_a_variable_changes_the_image_and_not_what_is_locked(machine: Machine) -> None:
    one, other = (
        model_environment.resolve(EXAMPLES / "scale", Choices(environment=environment), machine=machine)
        for environment in (None, "{amend: {environment_variables: {add: {A: b}}}}")
    )
    assert one.packages_digest == other.packages_digest
    assert one.digest != other.digest


def test_a_model_is_compared_with_itself_under_an_environment(machine: Machine) -> None:
    said = Workspace.read(WORKSPACE)
    plain, amended = model_environment.resolve_pair(EXAMPLES / "iris", "lean", workspace=said, machine=machine)
    assert (plain.environment, amended.environment is None) == (None, False)
    first, second = model_environment.resolve_pair(
        EXAMPLES / "iris", str(EXAMPLES / "scale"), workspace=None, machine=machine
    )
    assert (first.environment, second.environment) == (None, None)
    assert first.digest != second.digest


def test_known_breakages_of_old_pins_are_mended_unless_switched_off(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "old"
    model.mkdir()
    (model / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    (model / "requirements.txt").write_text("mlflow==2.9.2\n")
    mended = model_environment.resolve(model, Choices(), machine=machine)
    assert "setuptools<81" in mended.requirement_lines()
    off = workspace(tmp_path, "repairs: {off: [setuptools-for-pkg-resources]}")
    for choices in (Choices(repairs=False), Choices(workspace=off)):
        assert model_environment.resolve(model, choices, machine=machine).requirement_lines() == ("mlflow==2.9.2",)
