"""The same tests over every engine: each example is built, tried, called, and what is in the images is compared."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import engine_choice, layer, stages
from envbuilder.choices import Choices
from envbuilder.errors import SmokeTestFailedError
from tests.asking import free_port, post
from tests.conftest import BASE, EXAMPLE_NAMES, EXAMPLES, expected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.choices import EngineName
    from envbuilder.machine import Machine
    from envbuilder.stages import BuildReport

pytestmark = [pytest.mark.engine, pytest.mark.network]

OURS = ("opt/env", "opt/ml/model", "opt/envbuilder")
EXPLAINED = {
    # uv keeps the mode that a file has in the wheel; RECORD, which installers write anew, is 755 in protobuf's.
    "RECORD",
}


@pytest.fixture(params=["oci", "docker"])
def engine(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    return name


@pytest.fixture
def engine_machine(engine: EngineName, machine: Machine, request: pytest.FixtureRequest) -> Machine:
    if engine == "docker":
        found: Machine = request.getfixturevalue("docker_machine")
        return found
    return machine


def built(name: str, engine: EngineName, machine: Machine) -> BuildReport:
    choices = Choices(engine=engine, base=BASE, tag=f"envbuilder-test-{name}:1")
    return stages.build(EXAMPLES / name, choices, machine=machine)


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_an_example_is_built_tried_and_answers_as_mlflow_does(
    name: str, engine: EngineName, engine_machine: Machine
) -> None:
    report = built(name, engine, engine_machine)
    assert report.existed or (report.smoke is not None and report.smoke.example == "answered")
    with stages.run(report.references[0], engine=engine, port=free_port(), machine=engine_machine) as running:
        for case in expected(name):
            status, body = post(running.url, case["request"])
            assert status == case["status"], body
            if "body" in case:
                assert body == case["body"]
            else:
                assert body["error_code"] == case["error_code"]


def test_the_same_content_is_not_built_twice(engine: EngineName, engine_machine: Machine) -> None:
    first = built("scale", engine, engine_machine)
    second = built("scale", engine, engine_machine)
    assert second.existed
    assert second.image.digest == first.image.digest


def test_a_model_that_raises_on_its_own_example_is_not_named(
    engine: EngineName, engine_machine: Machine, tmp_path: Path
) -> None:
    model = broken_copy(tmp_path)
    choices = Choices(engine=engine, base=BASE, tag="envbuilder-test-broken:1")
    with pytest.raises(SmokeTestFailedError) as caught:
        stages.build(model, choices, machine=engine_machine)
    assert "no luck today" in str(caught.value)
    assert str(model) in str(caught.value)
    module = engine_choice.engine_module(engine)
    assert module.find("envbuilder-test-broken:1", machine=engine_machine) is None


def broken_copy(target: Path) -> Path:
    """Copy the example `scale`, with a model that loads and raises when it predicts."""
    model = target / "broken"
    model.mkdir()
    for path in (EXAMPLES / "scale").iterdir():
        text = path.read_text()
        if path.name == "scale_model.py":
            text = text.replace("params = params or {}", 'raise RuntimeError("no luck today")')
            assert "no luck" in text
        (model / path.name).write_text(text)
    return model


@pytest.fixture(scope="module")
def both(cache: Path, docker_host: str) -> dict[str, tuple[BuildReport, Machine]]:
    """The example iris built by each engine."""
    import os  # noqa: PLC0415

    from envbuilder.machine import Machine  # noqa: PLC0415
    from envbuilder.reporter import Reporter  # noqa: PLC0415
    from envbuilder.settings import Settings  # noqa: PLC0415

    settings = replace(Settings.from_environ({**os.environ, "DOCKER_HOST": docker_host}), cache_dir=cache)
    machine = Machine(settings=settings, reporter=Reporter())
    return {name: (built("iris", name, machine), machine) for name in ("oci", "docker")}


def files_of_oci(report: BuildReport, machine: Machine) -> dict[str, str]:
    """Return path → kind of everything in our three directories, from the layers' tars."""
    found: dict[str, str] = {}
    for item in machine.store.image(report.image.digest).layers:
        with (
            layer.open_layer(machine.store.blob_path(item.blob.digest)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            found.update(_ours(tar))
    return found


def files_of_docker(report: BuildReport, machine: Machine) -> dict[str, str]:
    """Return the same of a container's exported file system."""
    import docker  # noqa: PLC0415

    client = docker.DockerClient(base_url=dict(machine.settings.environ)["DOCKER_HOST"])
    container = client.containers.create(report.image.identity)
    try:
        data = b"".join(container.export())  # type: ignore[arg-type]  # the stubs say text
    finally:
        container.remove()
        client.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return dict(_ours(tar))


def _ours(tar: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in tar:
        path = member.name.strip("/")
        if path.startswith(OURS):
            kind = f"link to {member.linkname}" if member.issym() else "directory" if member.isdir() else "file"
            yield path, f"{kind} {member.mode & 0o7777:o} {member.uid}:{member.gid}"


def test_both_engines_put_the_same_files_in_the_image(both: dict[str, tuple[BuildReport, Machine]]) -> None:
    assembled = files_of_oci(*both["oci"])
    rendered = files_of_docker(*both["docker"])
    different = {
        path: (assembled.get(path), rendered.get(path))
        for path in assembled.keys() | rendered.keys()
        if assembled.get(path) != rendered.get(path)
    }
    unexplained = {path: kinds for path, kinds in different.items() if path.rpartition("/")[2] not in EXPLAINED}
    assert unexplained == {}
    assert all(None not in kinds for kinds in different.values())
    assert len(assembled) > 5000


def test_both_engines_give_the_same_labels_user_and_entrypoint(both: dict[str, tuple[BuildReport, Machine]]) -> None:
    import docker  # noqa: PLC0415

    report, machine = both["oci"]
    config = machine.store.image(report.image.digest).config
    report, machine = both["docker"]
    client = docker.DockerClient(base_url=dict(machine.settings.environ)["DOCKER_HOST"])
    found = client.api.inspect_image(report.image.identity)["Config"]  # type: ignore[no-untyped-call]
    client.close()
    assert dict(config.labels) == found["Labels"]
    assert config.user == found["User"]
    assert list(config.entrypoint) == found["Entrypoint"]
    assert list(config.command) == found["Cmd"]
    assert config.working_dir == found["WorkingDir"]
    assert dict(config.env) == dict(item.split("=", 1) for item in found["Env"])
    assert set(config.ports) == set(found["ExposedPorts"])
    assert {"io.envbuilder.lock.digest", "io.envbuilder.model.digest", "org.opencontainers.image.base.digest"} <= set(
        found["Labels"]
    )


def test_both_engines_answer_the_same(both: dict[str, tuple[BuildReport, Machine]]) -> None:
    answers = []
    for name, (report, machine) in both.items():
        with stages.run(report.references[0], engine=name, port=free_port(), machine=machine) as running:  # type: ignore[arg-type]
            answers.append([post(running.url, case["request"]) for case in expected("iris")])
    assert answers[0] == answers[1]


def test_an_archive_of_the_embedded_engine_is_loaded_by_docker(
    both: dict[str, tuple[BuildReport, Machine]], tmp_path: Path
) -> None:
    import docker  # noqa: PLC0415

    _, machine = both["oci"]
    archive = tmp_path / "iris.tar"
    choices = Choices(engine="oci", base=BASE, tag="envbuilder-test-archive:1", output=archive)
    report = stages.build(EXAMPLES / "iris", choices, machine=machine)
    client = docker.DockerClient(base_url=dict(machine.settings.environ)["DOCKER_HOST"])
    with archive.open("rb") as stream:
        (loaded,) = {image.id: image for image in client.images.load(stream)}.values()
    image = machine.store.image(report.image.digest)
    assert loaded.id == image.config_descriptor().digest
    assert "envbuilder-test-archive:1" in loaded.tags
    client.close()
