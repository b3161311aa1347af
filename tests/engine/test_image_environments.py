"""The environment in an image of either engine: verified, tampered with, and reproduced from the image alone."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import docker as docker_sdk
import pytest

from envbuilder import image_environment, layer, reproduction, stages, verification
from envbuilder.choices import Choices
from envbuilder.engine.docker import client as docker_client
from envbuilder.errors import EngineMissingError, InvalidFileError, LockMismatchError
from envbuilder.layer import Entry
from envbuilder.reproduction import Wish
from tests.conftest import BASE
from tests.package_index import wheel
from tests.small_environment import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.choices import EngineName
    from envbuilder.machine import Machine

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.process]

SITE = "lib/python3.11/site-packages"
OWN = wheel(
    "own",
    files={"own/__init__.py": b"version = '1.0'\n\n\ndef main():\n    print(version)\n"},
    entry_points="[console_scripts]\nown = own:main\n",
)


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


@pytest.fixture
def image(engine: EngineName, engine_machine: Machine, tmp_path: Path) -> str:
    """An image whose environment is a wheel of its model; nothing in it could load the model, so it is not tried."""
    model = write_model(tmp_path / "model", f"./wheels/{OWN.name}", python="3.11")
    (model / "wheels").mkdir()
    (model / "wheels" / OWN.name).write_bytes(OWN.data)
    choices = Choices(engine=engine, base=BASE, tag=f"envbuilder-test-verified-{engine}:1", smoke=False)
    return stages.build(model, choices, machine=engine_machine).references[0]


def with_file(image: str, path: str, data: bytes, engine: EngineName, machine: Machine) -> str:
    """Put another file over one of the image's, as somebody would who has it; return the new image's name."""
    name = image.replace(":1", ":tampered")
    found = image_environment.find(image, engine=engine, machine=machine)
    if engine == "oci":
        value = machine.store.image(found.image.digest)
        added = layer.write_layer(
            machine.store, [Entry(path=path.lstrip("/"), mode=0o644, content=data)], comment="more"
        )
        machine.store.tag(machine.store.add_image(replace(value, layers=(*value.layers, added))), name)
        return name
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(path.rpartition("/")[2])
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with docker_client.opened(machine) as client:
        container = client.containers.create(found.image.identity)
        try:
            container.put_archive(path.rpartition("/")[0], stream.getvalue())
            container.commit(*name.split(":"))
        finally:
            container.remove()
    return name


def test_an_image_is_as_locked_and_gives_its_environment_again(
    image: str, engine: EngineName, engine_machine: Machine, tmp_path: Path
) -> None:
    found = verification.verify_image(image, None, engine=engine, machine=engine_machine)
    assert found.deviations == ()
    assert found.files > 5
    for file in engine_machine.wheels.rglob(OWN.name):
        file.unlink()
    made = reproduction.reproduce_image(image, Wish(prefix=tmp_path / "env"), engine=engine, machine=engine_machine)
    assert made.lock_digest == found.lock_digest
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    said = subprocess.run((tmp_path / "env/bin/own",), capture_output=True, text=True, check=True, env=environ)
    assert said.stdout == "1.0\n"
    assert verification.verify(tmp_path / "env", None, machine=engine_machine).deviations == ()
    lock = tmp_path / "env/envbuilder-meta/conda-lock.yml"
    assert verification.verify_image(image, lock, engine=engine, machine=engine_machine).deviations == ()


@pytest.mark.parametrize(
    ("path", "kind", "package"),
    [
        (f"{SITE}/own/__init__.py", "changed", "own"),
        ("bin/own", "changed", "own"),
        (f"{SITE}/own/__pycache__/__init__.cpython-311.pyc", "changed", "own"),
        (f"{SITE}/sneaky.pth", "extra", ""),
        ("pyvenv.cfg", "other python", "python"),
    ],
    ids=["a module", "a command", "bytecode", "a new file", "its Python"],
)
def test_a_file_that_was_put_over_an_images_is_named(
    path: str, kind: str, package: str, image: str, engine: EngineName, engine_machine: Machine
) -> None:
    tampered = with_file(image, f"/opt/env/{path}", b"import os\n", engine, engine_machine)
    found = verification.verify_image(tampered, None, engine=engine, machine=engine_machine).deviations
    assert (kind, package) in [(one.kind, one.package) for one in found]
    assert path in [one.path for one in found] or kind == "other python"


def test_another_lock_in_an_image_does_not_match_its_label(
    image: str, engine: EngineName, engine_machine: Machine
) -> None:
    found = image_environment.find(image, engine=engine, machine=engine_machine)
    lock = image_environment.lock_of(found, machine=engine_machine)
    from envbuilder.lockfile import Lockfile  # noqa: PLC0415

    other = Lockfile.of([replace(lock, packages=lock.packages[1:])]).to_text().encode()
    path = "/opt/envbuilder/conda-lock.yml"
    tampered = with_file(image, path, other, engine, engine_machine)
    with pytest.raises(LockMismatchError, match="the image's label says sha256:"):
        verification.verify_image(tampered, None, engine=engine, machine=engine_machine)


def test_an_image_that_is_not_here_or_not_ours_is_told(docker_machine: Machine) -> None:
    with pytest.raises(EngineMissingError, match="no engine here has the image `nowhere:latest`"):
        verification.verify_image("nowhere", None, machine=docker_machine)
    client = docker_sdk.DockerClient(base_url=dict(docker_machine.settings.environ)["DOCKER_HOST"])
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("note"))
    client.api.import_image_from_data(empty.getvalue(), repository="envbuilder-test-foreign", tag="1")
    client.close()
    with pytest.raises(InvalidFileError, match="the image holds no lock"):
        verification.verify_image("envbuilder-test-foreign:1", None, machine=docker_machine)
