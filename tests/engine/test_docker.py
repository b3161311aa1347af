"""The Docker engine: both builders, what stays out of the image, and every way in which a build can fail."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from envbuilder import build_context, digest, dockerfile, stages
from envbuilder.bases import BaseReference
from envbuilder.build_context import BuildContext
from envbuilder.choices import Choices
from envbuilder.engine import docker
from envbuilder.engine.docker import buildkit
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import index as docker_index
from envbuilder.engine.docker import layers as docker_layers
from envbuilder.engine.docker import log as docker_log
from envbuilder.errors import (
    BaseImageError,
    BuildFailedError,
    DiskFullError,
    EngineMissingError,
    EnvBuilderError,
    SmokeTestFailedError,
    UnreachableError,
)
from envbuilder.layer import Entry
from envbuilder.oci_image import Platform
from envbuilder.reporter import Timings
from envbuilder.settings import Settings
from tests import registry_server
from tests.asking import free_port, post
from tests.buildx import folder_with_buildx
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from envbuilder.build_context import Variant
    from envbuilder.engine import BuiltImage
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from tests.registry_server import Registry

registry = registry_server.registry
registry_with_login = registry_server.registry_with_login
registry_program = registry_server.registry_program

engine = pytest.mark.engine
network = pytest.mark.network

CANARY: Final = "qX7canaryZ9"
MANIFESTS: Final = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
LINUX: Final = Platform(os="linux", architecture="amd64")
HOSTILE: Final = (
    "",
    "plain",
    "two words",
    "  around  ",
    "$HOME ${HOME} $$ \\$",
    "back\\slash \\\\ end\\",
    "\"double\" 'single' `tick`",
    "# no comment",
    "a=b c=d",
    "<<EOF",
    "tab\there",
    "ünïcödé 模型 🙂",
    '["json"]',
)


@pytest.fixture
def plan(docker_machine: Machine) -> ImagePlan:
    return plan_of(EXAMPLES / "scale", docker_machine)


@pytest.fixture(params=["buildkit", "classic"])
def variant(request: pytest.FixtureRequest) -> Variant:
    chosen: Variant = request.param
    return chosen


def plan_of(model: Path, machine: Machine) -> ImagePlan:
    choices = Choices(engine="docker", base=BASE)
    return stages.make_plan(model, docker, choices, machine=machine, timings=Timings(machine.reporter))


def built(context: BuildContext, variant: Variant, machine: Machine) -> BuiltImage:
    with docker_client.opened(machine) as client, docker_log.kept(machine, "test") as log:
        if variant == "buildkit":
            program = buildkit.find(client, machine)
            assert program is not None, "Debian's /usr/bin/docker has a client of BuildKit"
            identity = buildkit.build(program, client, context, log=log, machine=machine)
        else:
            identity = docker_classic.build(client, context, log=log, machine=machine)
        return docker_layers.built(client.images.get(identity), since=None)


def containers(machine: Machine) -> list[str]:
    with docker_client.opened(machine) as client:
        return [str(item.id) for item in client.containers.list(all=True)]


@engine
@network
def test_an_image_is_built_tried_named_found_saved_and_serves(
    plan: ImagePlan, variant: Variant, docker_machine: Machine
) -> None:
    name = f"envbuilder-test-{variant}:1"
    before = containers(docker_machine)
    image = built(build_context.make(plan, variant=variant, machine=docker_machine), variant, docker_machine)
    with docker_client.opened(docker_machine) as client:
        config = client.images.get(image.identity).attrs["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == list(plan.config.entrypoint)
    assert config["Cmd"] == ["serve"]
    assert config["WorkingDir"] == "/opt/ml/model"
    assert config["Labels"] == dict(plan.labels)
    assert sorted(config["Env"]) == sorted(f"{key}={value}" for key, value in plan.config.env)
    comments = [layer.comment for layer in image.layers if layer.size > 0 and layer.comment != "base"]
    assert comments == ["environment", "server", "lock", "contract", "example", "model"]
    assert docker.find(name, machine=docker_machine) is None

    assert docker.try_image(image, plan, machine=docker_machine).example == "answered"
    docker.tag(image, (name,), machine=docker_machine)
    found = docker.find(name, machine=docker_machine)
    assert found is not None
    assert found.identity == image.identity

    archive = b"".join(docker.archive(image, (name, "envbuilder-test-second:1"), machine=docker_machine))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        listed = tar.extractfile("manifest.json")
        assert listed is not None
        assert sorted(json.load(listed)[0]["RepoTags"]) == [name, "envbuilder-test-second:1"]

    assert plan.model.example_request is not None
    with docker.running(image, port=free_port(), machine=docker_machine) as container:
        assert plan.model.example_request is not None
        assert "predictions" in post(container.url, json.loads(plan.model.example_request))[1]
    assert containers(docker_machine) == before


@engine
@network
def test_only_the_model_is_made_anew_when_only_the_model_changed(docker_machine: Machine, tmp_path: Path) -> None:
    docker.build(plan_of(EXAMPLES / "scale", docker_machine), machine=docker_machine)
    model = tmp_path / "scale"
    shutil.copytree(EXAMPLES / "scale", model)
    with (model / "scale_model.py").open("a") as script:
        script.write(f"# {time.time_ns()}\n")
    # The engine tells when a layer was made in whole seconds.
    time.sleep(1)
    image = docker.build(plan_of(model, docker_machine), machine=docker_machine)
    reused = {layer.comment: layer.reused for layer in image.layers}
    assert reused["environment"]
    assert reused["server"]
    assert not reused["model"]


@engine
@network
def test_buildx_is_used_where_it_is_installed(
    request: pytest.FixtureRequest, docker_machine: Machine, tmp_path: Path
) -> None:
    environ = dict(docker_machine.settings.environ)
    environ["DOCKER_CONFIG"] = str(folder_with_buildx(request, docker_machine, Path("/")))
    machine = replace(docker_machine, settings=replace(docker_machine.settings, environ=tuple(environ.items())))
    with docker_client.opened(machine) as client:
        program = buildkit.find(client, machine)
    assert program is not None
    assert program.command[1:] == ("buildx", "build", "--builder", "default", "--load")
    shutil.copytree(EXAMPLES / "scale", tmp_path / "buildx")
    (tmp_path / "buildx/note.txt").write_text(str(time.time_ns()))
    report = stages.build(
        tmp_path / "buildx", Choices(engine="docker", base=BASE, tag="envbuilder-test-buildx:1"), machine=machine
    )
    assert report.smoke is not None
    assert docker.find("envbuilder-test-buildx:1", machine=machine) is not None
    assert 'building with "default" instance' in next(
        log.read_text() for log in machine.logs.glob("*.log") if report.references[1].rpartition(":")[2] in log.name
    )


@engine
@network
def test_nothing_is_tagged_when_the_model_raises(docker_machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "raises"
    shutil.copytree(EXAMPLES / "scale", model)
    with (model / "scale_model.py").open("a") as script:
        script.write('\nraise RuntimeError("the weights are gone")\n')
    before = containers(docker_machine)
    choices = Choices(engine="docker", base=BASE, tag="envbuilder-test-raises:1")
    with pytest.raises(SmokeTestFailedError, match="the weights are gone"):
        stages.build(model, choices, machine=docker_machine)
    assert containers(docker_machine) == before
    with docker_client.opened(docker_machine) as client:
        assert not client.images.list(name="envbuilder-test-raises")


@engine
@network
def test_the_ca_is_in_no_layer_and_no_history(
    plan: ImagePlan, variant: Variant, docker_machine: Machine, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    given = docker_machine.settings.ca_file
    bundle.write_bytes((given.read_bytes() if given is not None else b"") + f"\n# {CANARY}\n".encode())
    machine = replace(docker_machine, settings=replace(docker_machine.settings, ca_file=bundle))
    image = built(build_context.make(plan, variant=variant, machine=machine), variant, machine)
    with docker_client.opened(machine) as client:
        held = client.images.get(image.identity)
        assert CANARY not in json.dumps([held.history(), held.attrs])
        saved = b"".join(held.save())
    # Layers are plain tars in a saved image.
    assert CANARY.encode() not in saved
    assert (tmp_path / "bundle.pem").read_bytes()


@engine
@network
def test_a_wrong_hash_fails_with_the_last_lines_and_the_log(
    plan: ImagePlan, variant: Variant, docker_machine: Machine
) -> None:
    package = replace(plan.lock.packages[0], sha256=digest.of_bytes(b"another file"))
    wrong = replace(plan, lock=replace(plan.lock, packages=(package,)))
    before = containers(docker_machine)
    context = build_context.make(wrong, variant=variant, machine=docker_machine)
    with pytest.raises(BuildFailedError, match=r"(?i)hash") as raised:
        built(context, variant, docker_machine)
    problem = raised.value.problems[0]
    assert "uv pip install" in problem.what
    assert problem.where is not None
    assert problem.where.file.endswith(".log")
    assert containers(docker_machine) == before


@engine
@network
def test_a_password_of_the_index_is_in_no_log_and_no_error(plan: ImagePlan, docker_machine: Machine) -> None:
    index = f"http://user:{CANARY}@127.0.0.1:9/simple"
    settings = replace(docker_machine.settings, index_url=index)
    machine = replace(docker_machine, settings=settings)
    missing = replace(plan.lock.packages[0], name="envbuilder-nowhere", version="1.0")
    wrong = replace(plan, lock=replace(plan.lock, packages=(missing,)))
    context = build_context.make(wrong, variant="buildkit", machine=machine)
    with pytest.raises(UnreachableError) as raised:
        built(context, "buildkit", machine)
    assert CANARY not in str(raised.value)
    assert CANARY not in (machine.logs / "test.log").read_text()
    assert CANARY.encode() not in b"".join(context.tar_stream())


@engine
@network
def test_offline_a_build_has_what_the_engine_kept(plan: ImagePlan, variant: Variant, docker_machine: Machine) -> None:
    made = built(build_context.make(plan, variant=variant, machine=docker_machine), variant, docker_machine)
    offline = replace(docker_machine, settings=replace(docker_machine.settings, offline=True))
    again = built(build_context.make(plan, variant=variant, machine=offline), variant, offline)
    assert [layer.digest for layer in again.layers] == [layer.digest for layer in made.layers]
    missing = replace(plan.lock.packages[0], name="envbuilder-nowhere", version="1.0")
    other = replace(plan, lock=replace(plan.lock, packages=(missing,)))
    with pytest.raises(UnreachableError) as raised:
        built(build_context.make(other, variant=variant, machine=offline), variant, offline)
    assert raised.value.problems[0].what.startswith(
        "the engine kept not all that the build needs, and `--offline` forbids to download it\n"
    )
    assert "--engine oci" in str(raised.value.problems[0].fix)


@engine
@network
def test_docker_reads_hostile_values_as_they_were_meant(variant: Variant, docker_machine: Machine) -> None:
    base = docker.base_image(BaseReference.parse(BASE), platform=LINUX, machine=docker_machine)
    labels = {**{f"label {i}": value for i, value in enumerate(HOSTILE)}, "ünï $x\"'\\": "name"}
    environ = {f"V{i}": value for i, value in enumerate(HOSTILE)}
    text = f"FROM {dockerfile.image(base.pinned)}\n"
    for key, value in labels.items():
        text += f"LABEL {dockerfile.name(key)}={dockerfile.quoted(value)}\n"
    for key, value in environ.items():
        text += f"ENV {dockerfile.name(key)}={dockerfile.quoted(value)}\n"
    command = (*HOSTILE, "two\nlines")
    text += f"WORKDIR {dockerfile.quoted('/a $b')}\nCMD {dockerfile.exec_form(command)}\n"
    context = BuildContext(entries=(Entry(path="Dockerfile", mode=0o644, content=text.encode()),))
    image = built(context, variant, docker_machine)
    with docker_client.opened(docker_machine) as client:
        config = client.images.get(image.identity).attrs["Config"]
    found = dict(item.split("=", 1) for item in config["Env"])
    assert {key: found[key] for key in environ} == environ
    assert {key: config["Labels"][key] for key in labels} == labels
    assert config["Cmd"] == list(command)
    assert config["WorkingDir"] == "/a $b"


@engine
def test_a_base_that_no_registry_gives_names_what_to_pass_instead(docker_machine: Machine) -> None:
    reference = BaseReference.parse("127.0.0.1:9/team/nothing:1")
    with pytest.raises((BaseImageError, UnreachableError)) as raised:
        docker.base_image(reference, platform=LINUX, machine=docker_machine)
    assert "--base debian:bookworm" in str(raised.value.problems[0].fix)


@engine
@network
def test_a_base_without_python_is_told(docker_machine: Machine) -> None:
    text = b"FROM scratch\nCOPY Dockerfile /\n"
    context = BuildContext(entries=(Entry(path="Dockerfile", mode=0o644, content=text),))
    image = built(context, "classic", docker_machine)
    docker.tag(image, ("envbuilder-test-empty:1",), machine=docker_machine)
    with pytest.raises(BaseImageError, match="no `python3`"):
        docker.base_image(BaseReference.parse("envbuilder-test-empty:1"), platform=LINUX, machine=docker_machine)


@engine
@network
def test_a_base_made_on_this_machine_is_known_by_its_id(docker_machine: Machine) -> None:
    assembled = docker.base_image(BaseReference.parse(BASE), platform=LINUX, machine=docker_machine)
    with docker_client.opened(docker_machine) as client:
        held = client.images.get(assembled.pinned)
        held.tag("envbuilder-test-local", tag="1")
    local = docker.base_image(BaseReference.parse("envbuilder-test-local:1"), platform=LINUX, machine=docker_machine)
    assert local.digest == held.id
    assert local.pinned == "envbuilder-test-local:1"
    assert local.interpreter == assembled.interpreter


@engine
@network
def test_a_pulled_base_is_pinned_by_its_digest_and_built_on(
    variant: Variant, registry: Registry, docker_machine: Machine
) -> None:
    assembled = docker.base_image(BaseReference.parse(BASE), platform=LINUX, machine=docker_machine)
    repository = f"{registry.host}/team/python-{variant}"
    with docker_client.opened(docker_machine) as client:
        client.images.get(assembled.pinned).tag(repository, tag="3")
        client.images.push(repository, tag="3")
        client.images.remove(f"{repository}:3")
    base = docker.base_image(BaseReference.parse(f"{repository}:3"), platform=LINUX, machine=docker_machine)
    assert base.pinned == f"{repository}:3@{base.digest}"
    assert (
        base.digest
        == registry.request("HEAD", f"/v2/team/python-{variant}/manifests/3", headers=MANIFESTS).headers[
            "Docker-Content-Digest"
        ]
    )
    assert base.interpreter == assembled.interpreter
    text = f"FROM {dockerfile.image(base.pinned)}\nCOPY Dockerfile /\n"
    context = BuildContext(entries=(Entry(path="Dockerfile", mode=0o644, content=text.encode()),))
    assert built(context, variant, docker_machine).layers


@engine
@network
def test_a_registry_that_wants_a_login_is_told_apart(registry_with_login: Registry, docker_machine: Machine) -> None:
    reference = BaseReference.parse(f"{registry_with_login.host}/team/secret:1")
    with pytest.raises(BaseImageError, match="refused") as raised:
        docker.base_image(reference, platform=LINUX, machine=docker_machine)
    assert "docker login" in str(raised.value.problems[0].fix)


def away(machine: Machine, host: str) -> Machine:
    return replace(machine, settings=replace(machine.settings, environ=(("DOCKER_HOST", host),)))


def test_an_engine_that_is_not_there_is_told_with_a_reason(machine: Machine, tmp_path: Path) -> None:
    for host in (f"unix://{tmp_path}/none.sock", "tcp://127.0.0.1:9", "nonsense://x"):
        reason = docker.available(away(machine, host))
        assert reason is not None
        assert reason.startswith("no Docker engine answers")
    with pytest.raises(EngineMissingError) as raised:
        docker.find("a:1", machine=away(machine, "tcp://127.0.0.1:9"))
    assert raised.value.problems[0].fix is not None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write /opt/env/x: no space left on device", DiskFullError),
        ("error sending request for url", UnreachableError),
        ("invalid peer certificate: UnknownIssuer", UnreachableError),
        ("hint: An index could not be queried due to a lack of valid authentication credentials", UnreachableError),
        ("ERROR: HTTP error 401 while getting x: 401 Client Error: Unauthorized for url", UnreachableError),
        ("exit code: 1", BuildFailedError),
    ],
)
def test_the_reason_of_a_failed_step_decides_the_error(
    machine: Machine, tmp_path: Path, text: str, kind: type[EnvBuilderError]
) -> None:
    own = replace(machine, settings=replace(machine.settings, cache_dir=tmp_path))
    with docker_log.kept(own, "failed") as log:
        log.steps["7"] = "[build 5/8] RUN uv"
        for i in range(30):
            log.add(f"line {i}", step="7")
        log.add(text, step="7")
        log.failed = "7"
        error = log.error("the step ended with 1")
    assert type(error) is kind
    assert "[build 5/8] RUN uv" in str(error)
    if kind is not DiskFullError:
        assert "line 29" in str(error)
        assert "line 9\n" not in str(error)
    assert (tmp_path / "logs" / "failed.log").read_text().startswith("line 0\n")


def test_the_classic_builder_refuses_an_index_with_a_password(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, index_url=f"https://user:{CANARY}@index.example/simple")
    with pytest.raises(EngineMissingError) as raised:
        docker_index.arguments(settings)
    assert CANARY not in str(raised.value)


def test_indexes_and_proxies_reach_the_classic_builder_as_arguments(tmp_path: Path) -> None:
    settings = Settings(
        cache_dir=tmp_path,
        index_url="https://index.example/simple",
        extra_index_urls=("https://a.example", "https://b.example"),
        environ=(("https_proxy", "http://proxy.example:3128"), ("HOME", "/root")),
    )
    assert docker_index.arguments(settings) == {
        "https_proxy": "http://proxy.example:3128",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://a.example https://b.example",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
    }
    assert docker_index.secrets(settings)["uv.toml"].decode().count("[[index]]") == 3
