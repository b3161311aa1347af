"""Images of conda environments: a real Python from a generated channel, wheels beside it, the same in every build."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import build_context, layer, stages
from envbuilder.choices import Choices
from envbuilder.engine import docker
from envbuilder.engine.docker import buildkit
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import layers as docker_layers
from envbuilder.engine.docker import log as docker_log
from envbuilder.errors import BuildFailedError
from envbuilder.reporter import Timings
from tests.asking import free_port, post
from tests.conda_channel import PLACEHOLDER, package, write_channel
from tests.conda_python import linking_sample
from tests.conftest import BASE, EXAMPLES, expected
from tests.two_machines import layouts_of

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.build_context import BuildContext, Variant
    from envbuilder.choices import EngineName
    from envbuilder.engine import BuiltImage
    from envbuilder.machine import Machine
    from envbuilder.stages import BuildReport
    from tests.conftest import RecordingReporter

pytestmark = [pytest.mark.network, pytest.mark.process]

SPECS = ("python=3.11", "greet=1", "paths", "hooked", "first-owner", "second-owner")
PIP = ("mlflow-skinny==3.17.2", "numpy==2.2.6", "pandas==2.3.3")
CODE = """
import os
import greet
print("environ:", {name: value for name, value in os.environ.items() if name.startswith(("PATHS", "CONDA", "LD_"))})
assert greet.__file__.startswith("/opt/env/lib/python3.11/site-packages/"), greet.__file__
assert os.environ["PATHS_DATA"] == "/opt/env/share/paths", os.environ
"""


def write_model(folder: Path, *specs: str, pip: tuple[str, ...] = PIP) -> Path:
    """Write the example `scale` with a conda environment, whose code uses the packages of the channel."""
    shutil.copytree(EXAMPLES / "scale", folder)
    script = folder / "scale_model.py"
    script.write_text(script.read_text().replace("import mlflow\n", f"import mlflow\n{CODE}", 1))
    lines = [*(f"- {spec}" for spec in specs), "- pip:", *(f"  - {line}" for line in pip)]
    (folder / "conda.yaml").write_text("channels: [main]\ndependencies:\n" + "\n".join(lines) + "\n")
    (folder / "python_env.yaml").unlink(missing_ok=True)
    return folder


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    write_channel(tmp_path / "channels" / "main", linking_sample())
    return tmp_path / "channels"


@pytest.fixture
def conda_machine(machine: Machine, channels: Path) -> Machine:
    environ = (("ENVBUILDER_CHANNEL_ALIAS", channels.as_uri()),)
    return replace(machine, settings=replace(machine.settings, conda_environ=environ))


def files_of(report: BuildReport, machine: Machine) -> dict[str, tuple[str, bytes]]:
    """Return path → kind and content of everything in the environment, from the layers' tars."""
    found: dict[str, tuple[str, bytes]] = {}
    for item in machine.store.image(report.image.digest).layers:
        with (
            layer.open_layer(machine.store.blob_path(item.blob.digest)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                if member.name.startswith("opt/env/"):
                    opened = tar.extractfile(member) if member.isfile() else None
                    kind = (
                        f"link to {member.linkname}"
                        if member.issym()
                        else f"{member.mode & 0o7777:o} {member.uid}:{member.gid}"
                    )
                    found[member.name] = (kind, opened.read() if opened is not None else b"")
    return found


def test_a_conda_environment_is_built_tried_and_is_what_conda_would_link(
    conda_machine: Machine, reporter: RecordingReporter, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", *SPECS)
    choices = Choices(engine="oci", base=BASE, tag="envbuilder-test-conda:1", rebuild=True)
    report = stages.build(model, choices, machine=conda_machine)
    assert report.smoke is not None
    assert report.smoke.example == "answered"
    warnings = " ".join(reporter.warnings)
    assert "link scripts are not run; these conda packages have some: hooked" in warnings
    assert "`/opt/env/share/owned/both.txt` is in first-owner 1.0 and in second-owner 1.0" in warnings
    assert "activation sets LD_LIBRARY_PATH, PATH; the image does not take that over" in warnings

    files = files_of(report, conda_machine)
    assert files["opt/env/share/owned/both.txt"] == ("644 0:0", b"second\n")
    assert files["opt/env/bin/paths"] == ("755 0:0", b"#!/opt/env/bin/python\nimport greet\nprint(greet.version)\n")
    assert files["opt/env/bin/greet"][1].startswith(b"#!/opt/env/bin/python3.11\n")
    library = files["opt/env/lib/libpaths.so"][1]
    assert library.startswith(b"\x7fELF\1/opt/env/share/paths\0")
    assert files["opt/env/lib/libpaths.so.1"][0] == "link to libpaths.so"
    assert files["opt/env/bin/python"][0] == "link to python3.11"
    assert "opt/env/link-script-ran" not in files
    assert "opt/env/lib/python3.11/site-packages/pandas/__init__.py" in files
    assert "opt/env/lib/python3.11/site-packages/__pycache__/greet.cpython-311.pyc" in files
    assert "opt/env/pyvenv.cfg" not in files
    meta = json.loads(files["opt/env/conda-meta/greet-1.0-pyhd8ed1ab_0.json"][1])
    assert meta["url"].endswith("/main/noarch/greet-1.0-pyhd8ed1ab_0.conda")
    assert not {"link", "extracted_package_dir"} & meta.keys()
    assert files["opt/env/conda-meta/history"] == ("644 0:0", b"")
    cache = os.fspath(conda_machine.settings.cache_dir).encode()
    assert not [path for path, (_, content) in files.items() if cache in content]
    # conda's own records say what the prefix replaced.
    unreplaced = [path for path, (_, content) in files.items() if PLACEHOLDER.encode() in content]
    assert unreplaced == ["opt/env/conda-meta/paths-1.0-0.json"]

    environ = dict(conda_machine.store.image(report.image.digest).config.env)
    assert environ["CONDA_PREFIX"] == "/opt/env"
    assert environ["PATHS_WORDS"] == "two words"
    assert (environ["PATHS_FOUND"], environ["PATHS_STATIC"]) == ("yes", "42")
    assert "LD_LIBRARY_PATH" not in environ
    assert environ["PATH"].startswith("/opt/env/bin:")
    assert environ["HOME"] == "/tmp"  # noqa: S108 - in the image


def test_two_builds_of_two_machines_are_byte_identical(channels: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", *SPECS, pip=("six==1.16.0",))
    first, second = layouts_of(model, tmp_path, ENVBUILDER_CHANNEL_ALIAS=channels.as_uri())
    assert len(first) > 6
    assert first == second


def test_a_file_where_another_package_has_a_folder_ends_the_build(
    conda_machine: Machine, channels: Path, tmp_path: Path
) -> None:
    link = package("with-link", links={"share/place": "/tmp"})  # noqa: S108 - where the link leads
    write_channel(channels / "main", (*linking_sample(), link, package("with-folder", files={"share/place/x": b"x"})))
    model = write_model(tmp_path / "model", "python=3.11", "with-link", "with-folder", pip=("six==1.16.0",))
    with pytest.raises(BuildFailedError, match="`/opt/env/share/place` is a directory in one of") as raised:
        stages.build(model, Choices(engine="oci", base=BASE, smoke=False), machine=conda_machine)
    assert "with-folder 1.0 and with-link 1.0" in str(raised.value)


def test_another_version_of_one_package_touches_one_layer(conda_machine: Machine, tmp_path: Path) -> None:
    diff_ids = []
    for number, greet in enumerate(("greet=1", "greet=2")):
        model = write_model(
            tmp_path / f"model-{number}", "python=3.11", greet, "paths", pip=("six==1.16.0", "numpy==2.2.6")
        )
        choices = Choices(engine="oci", base=BASE, tag=f"envbuilder-test-bump:{number}", smoke=False)
        report = stages.build(model, choices, machine=conda_machine)
        layers = conda_machine.store.image(report.image.digest).layers
        diff_ids.append({item.comment: item.diff_id for item in layers})
    first, second = diff_ids
    changed = {comment for comment in first if first[comment] != second.get(comment)}
    assert {"python 3.11.2", "numpy 2.2.6", "server"} <= first.keys()
    # The model's conda.yaml is part of the model.
    assert changed == {next(comment for comment in first if comment.startswith("environment: ")), "model"}


@pytest.mark.engine
@pytest.mark.parametrize("variant", ["buildkit", "classic"])
def test_docker_builds_the_same_files_with_both_builders(
    variant: Variant, conda_machine: Machine, docker_machine: Machine, tmp_path: Path
) -> None:
    machine = replace(
        docker_machine, settings=replace(docker_machine.settings, conda_environ=conda_machine.settings.conda_environ)
    )
    model = write_model(tmp_path / "model", *SPECS, pip=("six==1.16.0",))
    choices = Choices(engine="oci", base=BASE, tag="envbuilder-test-conda:2", rebuild=True, smoke=False)
    assembled = stages.build(model, choices, machine=machine)
    # Docker is to find out itself what activating sets.
    for record in machine.probes.glob("activation-*.json"):
        record.unlink()
    plan = stages.make_plan(
        model, docker, replace(choices, engine="docker"), machine=machine, timings=Timings(machine.reporter)
    )
    image = build_with(build_context.make(plan, variant=variant, machine=machine), variant, machine)

    wanted = {path: kind for path, (kind, _) in files_of(assembled, machine).items()}
    contents = {path: content for path, (_, content) in files_of(assembled, machine).items()}
    found = files_in_docker(image, machine)
    kinds = {path: kind for path, (kind, _) in found.items()}
    assert kinds.keys() ^ wanted.keys() == set()
    # Installers write RECORD and INSTALLER anew, and scripts in words of their own.
    own = ("RECORD", "INSTALLER", "REQUESTED")
    compared = [path for path in kinds if path.rpartition("/")[2] not in own and not path.startswith("opt/env/bin/")]
    assert {path: kinds[path] for path in compared} == {path: wanted[path] for path in compared}
    different = [path for path in compared if found[path][1] != contents[path]]
    assert different == []
    assert found["opt/env/bin/greet"] == ("755 0:0", contents["opt/env/bin/greet"])
    with docker_client.opened(machine) as client:
        environ = dict(item.split("=", 1) for item in client.images.get(image.identity).attrs["Config"]["Env"])
    assert environ == dict(machine.store.image(assembled.image.digest).config.env)


@pytest.mark.engine
def test_both_engines_answer_as_mlflow_does(
    conda_machine: Machine, docker_machine: Machine, tmp_path: Path, reporter: RecordingReporter
) -> None:
    machine = replace(
        docker_machine, settings=replace(docker_machine.settings, conda_environ=conda_machine.settings.conda_environ)
    )
    model = write_model(tmp_path / "model", *SPECS)
    engines: tuple[EngineName, ...] = ("oci", "docker")
    for engine in engines:
        choices = Choices(engine=engine, base=BASE, tag=f"envbuilder-test-conda-{engine}:1")
        report = stages.build(model, choices, machine=machine)
        with stages.run(report.references[0], engine=engine, port=free_port(), machine=machine) as running:
            for case in expected("scale"):
                status, body = post(running.url, case["request"])
                assert status == case["status"], body
                if "body" in case:
                    assert body == case["body"]
    assert any("CONDA_PREFIX" in text for _, text in reporter.lines)


def build_with(context: BuildContext, variant: Variant, machine: Machine) -> BuiltImage:
    with docker_client.opened(machine) as client, docker_log.kept(machine, "test") as log:
        if variant == "buildkit":
            program = buildkit.find(client, machine)
            assert program is not None
            identity = buildkit.build(program, client, context, log=log, machine=machine)
        else:
            identity = docker_classic.build(client, context, log=log, machine=machine)
        return docker_layers.built(client.images.get(identity), since=None)


def files_in_docker(image: BuiltImage, machine: Machine) -> dict[str, tuple[str, bytes]]:
    with docker_client.opened(machine) as client:
        container = client.containers.create(image.identity)
        try:
            data = b"".join(container.export())  # type: ignore[arg-type]  # the stubs say text
        finally:
            container.remove()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.name.startswith("opt/env/"):
                opened = tar.extractfile(member) if member.isfile() else None
                kind = (
                    f"link to {member.linkname}"
                    if member.issym()
                    else f"{member.mode & 0o7777:o} {member.uid}:{member.gid}"
                )
                found[member.name.rstrip("/")] = (kind, opened.read() if opened is not None else b"")
    return found
