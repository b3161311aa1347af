"""Bases that are built from a context of the workspace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envbuilder import stages
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.engine import docker
from envbuilder.errors import BaseImageError, BuildFailedError
from envbuilder.oci_image import Platform
from envbuilder.reporter import Timings
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine

LINUX = Platform.parse("linux/amd64")


def context(folder: Path, dockerfile: str) -> str:
    """Write a context and return the environment that names it."""
    (folder / "docker").mkdir(parents=True)
    (folder / "docker" / "Base.Dockerfile").write_text(dockerfile)
    (folder / "note").write_text("made from a context")
    return json.dumps({"build": {"path": str(folder), "dockerfile_path": "docker/Base.Dockerfile"}})


def plan_of(environment: str, machine: Machine) -> ImagePlan:
    choices = Choices(engine="docker", environment=environment)
    return stages.make_plan(EXAMPLES / "scale", docker, choices, machine=machine, timings=Timings(machine.reporter))


@pytest.mark.engine
@pytest.mark.network
def test_a_base_is_built_from_its_context_once(docker_machine: Machine, tmp_path: Path) -> None:
    known = docker.base_image(BaseReference.parse(BASE), platform=LINUX, machine=docker_machine)
    text = f"FROM {known.pinned}\nCOPY note /etc/note\nLABEL made=here\n"
    first = plan_of(context(tmp_path / "one", text), docker_machine)
    assert first.base.pinned.startswith("envbuilder-base:context-")
    assert first.base.reference == f"build {tmp_path / 'one'} (docker/Base.Dockerfile)"
    assert first.base.interpreter == known.interpreter
    assert dict(first.base.labels)["made"] == "here"
    assert first.base.digest != known.digest
    again = plan_of(context(tmp_path / "two", text), docker_machine)
    assert again.base.digest == first.base.digest
    other = plan_of(context(tmp_path / "three", text + "LABEL more=1\n"), docker_machine)
    assert other.base.digest != first.base.digest


@pytest.mark.engine
@pytest.mark.network
def test_a_context_that_does_not_build_is_told_with_its_step(docker_machine: Machine, tmp_path: Path) -> None:
    known = docker.base_image(BaseReference.parse(BASE), platform=LINUX, machine=docker_machine)
    with pytest.raises(BuildFailedError, match="/absent") as caught:
        plan_of(context(tmp_path / "one", f"FROM {known.pinned}\nCOPY absent /absent\n"), docker_machine)
    assert caught.value.problems[0].fix is not None


@pytest.mark.process
@pytest.mark.parametrize(
    ("path", "what"),
    [("", "the embedded engine builds no Dockerfile"), ("https://git.example/base.git", "from a directory only")],
    ids=["embedded", "place"],
)
def test_what_builds_no_context_says_what_does(path: str, what: str, machine: Machine, tmp_path: Path) -> None:
    environment = context(tmp_path / "one", "FROM scratch\n")
    if path:
        environment = json.dumps({"build": {"path": path}})
    with pytest.raises(BaseImageError, match=what) as caught:
        stages.build(EXAMPLES / "scale", Choices(engine="oci", environment=environment), machine=machine)
    (problem,) = caught.value.problems
    assert str(problem.where) == "--environment: build.path"
    assert problem.fix is not None
