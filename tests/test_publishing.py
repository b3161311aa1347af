"""`build --push` from one end to the other: both engines, a real registry, and what other tools read there."""

from __future__ import annotations

import base64
import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import publishing, stages
from envbuilder.choices import Choices
from envbuilder.engine.docker import client as docker_client
from envbuilder.errors import InvalidFileError, RegistryRefusedError, UnreachableError
from envbuilder.oci_image import DOCKER_MANIFEST, MANIFEST
from envbuilder.reporter import Timings
from tests import registry_server
from tests import skopeo as skopeo_program
from tests.conftest import BASE, EXAMPLES
from tests.registry_proxy import Fault, first, running_proxy
from tests.registry_server import LOGIN

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.choices import EngineName
    from envbuilder.machine import Machine
    from envbuilder.stages import BuildReport
    from tests.conftest import RecordingReporter
    from tests.registry_server import Registry
    from tests.skopeo import Skopeo

network = pytest.mark.network
engine = pytest.mark.engine

registry = registry_server.registry
registry_program = registry_server.registry_program
registry_with_login = registry_server.registry_with_login
skopeo = skopeo_program.skopeo


def pushed(model: Path, name: str, machine: Machine, engine: EngineName, **choices: Any) -> BuildReport:  # noqa: ANN401
    return stages.build(model, Choices(engine=engine, base=BASE, tag=name, push=True, **choices), machine=machine)


def changed(model: Path) -> Path:
    shutil.copytree(EXAMPLES / "scale", model)
    with (model / "scale_model.py").open("a") as script:
        script.write(f"# {time.time_ns()}\n")
    return model


def digest_of(registry: Registry, repository: str, tag: str) -> str:
    headers = {"Accept": f"{MANIFEST}, {DOCKER_MANIFEST}"}
    found = registry.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers=headers)
    return found.headers["Docker-Content-Digest"]


def listing(image: str) -> str:
    """Return the tag under which a registry without the referrers API lists what is attached to an image."""
    return image.replace(":", "-")


def tags(registry: Registry, repository: str) -> set[str]:
    try:
        return set(registry.request("GET", f"/v2/{repository}/tags/list").json()["tags"] or ())
    except AssertionError:
        return set()


@pytest.mark.parametrize(
    ("tag", "offline", "what"),
    [
        (None, False, "the registry to push to is not named"),
        ("scale:1", False, r"names no registry, and Docker Hub's `library/scale` is not yours"),
        ("registry.example/scale:1", True, "`--offline` forbids to push"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_anything_else(
    tag: str | None,
    offline: bool,  # noqa: FBT001 - a parameter
    what: str,
    machine: Machine,
) -> None:
    there = replace(machine, settings=replace(machine.settings, offline=offline))
    with pytest.raises(InvalidFileError, match=what) as raised:
        publishing.Destination.of(Choices(tag=tag, push=True), "oci", machine=there, timings=Timings(machine.reporter))
    assert raised.value.problems[0].fix


@pytest.mark.process
def test_a_login_that_is_missing_is_told_before_anything_is_built(
    registry_with_login: Registry, machine: Machine, reporter: RecordingReporter, tmp_path: Path
) -> None:
    environ = {**dict(machine.settings.environ), "DOCKER_CONFIG": str(tmp_path)}
    there = replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))
    with pytest.raises(RegistryRefusedError, match="refuses access"):
        pushed(EXAMPLES / "scale", f"{registry_with_login.host}/scale:1", there, "oci")
    assert reporter.stages == []


@network
def test_the_embedded_engine_pushes_what_other_tools_read(registry: Registry, machine: Machine, skopeo: Skopeo) -> None:
    report = pushed(EXAMPLES / "scale", f"{registry.host}/oci/scale:1", machine, "oci")
    assert report.pushed is not None
    assert report.digest == report.image.digest == digest_of(registry, "oci/scale", "1")
    content = report.references[1].rpartition(":")[2]
    environment = content.partition("-model-")[0]
    assert tags(registry, "oci/scale") == {"1", content, environment, listing(report.digest)}
    told = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{report.references[0]}"))
    assert told["Digest"] == report.digest
    assert told["Labels"]["io.envbuilder.lock.digest"] == report.lock_digest
    below = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/oci/scale:{environment}"))
    assert below["Layers"] == told["Layers"][:-1]
    assert "io.envbuilder.model.digest" not in below["Labels"]
    assert below["Labels"]["io.envbuilder.environment.digest"].startswith(f"sha256:{environment[4:]}")


@network
def test_a_registry_that_has_the_content_gets_a_name_and_nothing_is_built(registry: Registry, machine: Machine) -> None:
    first_report = pushed(EXAMPLES / "scale", f"{registry.host}/skip/scale:1", machine, "oci")
    # As on another machine, which knows nothing of it.
    machine.store.untag(*first_report.references)
    second = pushed(EXAMPLES / "scale", f"{registry.host}/skip/scale:2", machine, "oci")
    assert second.existed
    assert second.smoke is None
    assert second.digest == first_report.digest == digest_of(registry, "skip/scale", "2")
    assert [item.comment for item in second.image.layers] == [item.comment for item in first_report.image.layers]
    assert second.references[0] not in machine.store.references()
    assert second.to_dict()["pushed"]["bytes"] == 0


@network
def test_an_image_that_only_calls_itself_the_same_is_not_taken_for_it(registry: Registry, machine: Machine) -> None:
    report = pushed(EXAMPLES / "scale", f"{registry.host}/liar/scale:1", machine, "oci")
    content = report.references[1].rpartition(":")[2]
    image = registry_server.foreign_image({"etc/evil": b"evil"})
    registry.push_image("liar/scale", content, image)
    machine.store.untag(*report.references)
    again = pushed(EXAMPLES / "scale", f"{registry.host}/liar/scale:2", machine, "oci")
    assert not again.existed
    assert digest_of(registry, "liar/scale", content) == digest_of(registry, "liar/scale", "2") == report.digest


@network
def test_an_untried_image_is_pushed_without_a_name_after_its_content(
    registry: Registry, machine: Machine, tmp_path: Path
) -> None:
    report = pushed(changed(tmp_path / "m"), f"{registry.host}/untried/scale:1", machine, "oci", smoke=False)
    assert report.smoke is None
    assert {tag for tag in tags(registry, "untried/scale") if "-model-" in tag} == set()


@engine
@network
def test_docker_pushes_and_a_changed_model_costs_one_layer(
    registry: Registry, docker_machine: Machine, tmp_path: Path, skopeo: Skopeo
) -> None:
    name = f"{registry.host}/docker/scale"
    report = pushed(changed(tmp_path / "one"), f"{name}:1", docker_machine, "docker")
    assert report.pushed is not None
    assert report.digest == digest_of(registry, "docker/scale", "1")
    content = report.references[1].rpartition(":")[2]
    environment = content.partition("-model-")[0]
    assert tags(registry, "docker/scale") == {"1", content, environment, listing(report.digest)}

    other = pushed(changed(tmp_path / "two"), f"{name}:2", docker_machine, "docker")
    assert other.pushed is not None
    # The model; the rest is the environment image's, or lies below the model.
    assert other.pushed.uploaded == 1
    assert {item.comment: item.reused for item in other.image.layers}["environment"]
    told = [
        json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}:{tag}")) for tag in (environment, "1", "2")
    ]
    below, one, two = (item["Layers"] for item in told)
    assert one[: len(below)] == two[: len(below)] == below
    assert told[1]["Labels"]["io.envbuilder.lock.digest"] == report.lock_digest

    with docker_client.opened(docker_machine) as client:
        for tag in (f"{name}:1", f"{name}:{content}"):
            client.images.remove(tag, force=True)
    again = pushed(tmp_path / "one", f"{name}:again", docker_machine, "docker")
    assert again.existed
    assert again.digest == report.digest == digest_of(registry, "docker/scale", "again")


@engine
@network
def test_models_with_the_same_lock_share_the_environments_image(docker_machine: Machine, tmp_path: Path) -> None:
    choices = Choices(engine="docker", base=BASE, smoke=False)
    one = stages.build(changed(tmp_path / "one"), replace(choices, tag="share-one:1"), machine=docker_machine)
    two = stages.build(changed(tmp_path / "two"), replace(choices, tag="share-two:1"), machine=docker_machine)
    below = [
        {item.comment: item.digest for item in report.image.layers if item.comment in ("environment", "server")}
        for report in (one, two)
    ]
    assert below[0] == below[1]
    assert len(below[0]) == 2
    made = {item.comment for item in two.image.layers if not item.reused}
    assert "model" in made
    assert not made & {"base", "environment", "server"}


@engine
@network
def test_docker_pulls_and_runs_what_the_embedded_engine_pushed(registry: Registry, docker_machine: Machine) -> None:
    report = pushed(EXAMPLES / "scale", f"{registry.host}/both/scale:1", docker_machine, "oci")
    with docker_client.opened(docker_machine) as client:
        pulled = client.images.pull(f"{registry.host}/both/scale", tag="1")
        assert f"{registry.host}/both/scale@{report.digest}" in pulled.attrs["RepoDigests"]
        script = "import numpy; print(numpy.__version__)"
        said = client.containers.run(
            f"{registry.host}/both/scale:1", ["-c", script], entrypoint=["/opt/env/bin/python"], remove=True
        )
        assert said.strip().decode() in {item.comment.rpartition(" ")[2] for item in report.image.layers}
        client.images.remove(f"{registry.host}/both/scale:1", force=True)


@engine
@network
def test_dockers_errors_are_told_as_ours(
    registry: Registry, registry_with_login: Registry, docker_machine: Machine, tmp_path: Path
) -> None:
    host = registry_with_login.host
    environ = {**dict(docker_machine.settings.environ), "DOCKER_CONFIG": str(tmp_path)}
    there = replace(docker_machine, settings=replace(docker_machine.settings, environ=tuple(environ.items())))
    plan_image = stages.build(
        EXAMPLES / "scale", Choices(engine="docker", base=BASE, tag=f"{host}/refused:1"), machine=there
    )
    assert plan_image.references[0] == f"{host}/refused:1"
    with pytest.raises(RegistryRefusedError, match="refuses access"):
        pushed(EXAMPLES / "scale", f"{host}/refused:1", there, "docker")
    entry = {"auth": base64.b64encode(":".join(LOGIN).encode()).decode()}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    report = pushed(EXAMPLES / "scale", f"{host}/refused:1", there, "docker")
    assert report.digest == digest_of(registry_with_login, "refused", "1")

    with running_proxy(registry, first(99, "PUT", Fault(status=503), part="manifests/")) as proxy:
        with pytest.raises(UnreachableError, match="the image cannot be pushed") as raised:
            pushed(EXAMPLES / "scale", f"{proxy.host}/busy:1", there, "docker")
        assert "503" in str(raised.value)
        assert tags(registry, "busy") == set()
