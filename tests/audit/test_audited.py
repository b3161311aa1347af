"""A bill of materials against what is really in an image, and what else can be named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import bases, image_environment, stages
from envbuilder.audit import audited, cyclonedx
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.errors import EnvBuilderError, LockMismatchError
from envbuilder.oci_image import INDEX, MANIFEST, Platform
from tests import registry_server
from tests.conftest import BASE, EXAMPLES, command_line
from tests.package_index import wheel

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine
    from tests.registry_server import Registry

registry = registry_server.registry
registry_program = registry_server.registry_program

OWN = wheel("own", metadata=("License-Expression: MIT",))
_ASK = """
import json
from importlib.metadata import distributions
found = distributions(path=["/opt/env/lib/python3.11/site-packages"])
print(json.dumps([[one.metadata["Name"], one.version] for one in found]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "model"
    shutil.copytree(EXAMPLES / "scale", folder)
    (folder / "wheels").mkdir()
    (folder / "wheels" / OWN.name).write_bytes(OWN.data)
    text = (folder / "conda.yaml").read_text()
    (folder / "conda.yaml").write_text(text.replace("- pip:\n", f"- pip:\n  - ./wheels/{OWN.name}\n"))
    return folder


def listed(document: dict[str, Any], kind: str) -> set[tuple[str, str]]:
    return {
        (one["name"], one["version"]) for one in document["components"] if one["bom-ref"].startswith(f"{kind}:")
        and "#" not in one["bom-ref"]
    }  # fmt: skip


@pytest.mark.network
@pytest.mark.process
def test_the_bill_of_an_image_is_what_is_installed_in_it(model: Path, machine: Machine, cache: Path) -> None:
    choices = Choices(engine="oci", base=BASE, tag="envbuilder-test-audited:1", smoke=False)
    stages.build(model, choices, machine=machine)
    subject = audited.read("envbuilder-test-audited:1", engine="oci", choices=Choices(), machine=machine)
    document = json.loads(cyclonedx.to_bytes(subject.bill(machine)))
    found = image_environment.find("envbuilder-test-audited:1", engine="oci", machine=machine)

    def run(*command: str) -> str:
        return found.module.run(found.image, command, timeout=60, machine=machine).decode()

    installed = {
        (re.sub(r"[-_.]+", "-", name).lower(), version)
        for name, version in json.loads(run("/opt/env/bin/python", "-c", _ASK))
    }
    assert listed(document, "pypi") == installed
    assert ("own", "1.0") in installed
    status = run("/usr/bin/python3", "-c", "print(open('/var/lib/dpkg/status').read())")
    assert listed(document, "deb") == set(re.findall(r"^Package: (.+)\n(?:.+\n)*?Version: (.+)$", status, re.MULTILINE))
    assert document["metadata"]["component"]["type"] == "machine-learning-model"
    ended = command_line(
        cache, "audit", "envbuilder-test-audited:1", "--engine", "oci", "--sbom", str(model.parent / "a.json")
    )
    assert ended.returncode == 0, ended.stderr
    assert (model.parent / "a.json").read_bytes() == cyclonedx.to_bytes(subject.bill(machine))


@pytest.mark.network
@pytest.mark.process
def test_the_bill_goes_with_the_image_into_a_registry_and_a_layout(
    model: Path, machine: Machine, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/audited:1"
    layout = tmp_path / "layout"
    choices = Choices(engine="oci", base=BASE, tag=name, smoke=False, push=True, output=layout)
    report = stages.build(model, choices, machine=machine)
    expected = cyclonedx.to_bytes(audited.read(name, engine="oci", choices=Choices(), machine=machine).bill(machine))
    # As Debian's registry has no API for it, the tag of the image's digest lists what is attached.
    path = f"/v2/team/audited/manifests/{report.digest.replace(':', '-')}"
    (entry,) = registry.request("GET", path, headers={"Accept": INDEX}).json()["manifests"]
    assert (entry["artifactType"], entry["digest"]) == (cyclonedx.MEDIA_TYPE, report.sbom)
    path = f"/v2/team/audited/manifests/{report.sbom}"
    manifest = registry.request("GET", path, headers={"Accept": MANIFEST}).json()
    blob = manifest["layers"][0]["digest"]
    there = json.loads(registry.request("GET", f"/v2/team/audited/blobs/{blob}").content)
    assert there["components"] == json.loads(expected)["components"]
    assert there["metadata"]["component"]["name"] == "audited"
    (attached,) = [one for one in json.loads((layout / "index.json").read_text())["manifests"] if "artifactType" in one]
    assert attached["digest"] == report.sbom
    assert (layout / "blobs/sha256" / blob.removeprefix("sha256:")).is_file()
    chosen, _ = bases.fetch(BaseReference.parse(str(layout)), platform=Platform.parse("linux/amd64"), machine=machine)
    assert chosen == report.digest
    again = stages.build(model, replace(choices, output=None), machine=machine)
    assert again.sbom == report.sbom


@pytest.mark.network
@pytest.mark.process
def test_images_of_a_changed_model_differ_in_its_layer_alone(
    model: Path, machine: Machine, cache: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    with (changed / "scale_model.py").open("a") as script:
        script.write("# changed\n")
    for folder, tag in ((model, "envbuilder-test-audited:1"), (changed, "envbuilder-test-audited:2")):
        stages.build(folder, Choices(engine="oci", base=BASE, tag=tag, smoke=False), machine=machine)
    names = [f"envbuilder-test-audited:{number}" for number in (1, 2)]
    ended = command_line(cache, "diff", *names, "--engine", "oci", "--json")
    assert ended.returncode == 1, ended.stderr
    found = json.loads(ended.stdout)
    assert (list(found["facts"]), found["packages"]) == (["model"], [])
    assert (found["layers"]["removed"], found["layers"]["added"]) == (["model"], ["model"])
    assert command_line(cache, "diff", names[0], names[0], "--engine", "oci").returncode == 0


def test_without_a_lock_there_is_no_bill(model: Path, machine: Machine) -> None:
    subject = audited.read(str(model), choices=Choices(), machine=machine)
    assert (subject.kind, subject.lock) == ("model", None)
    with pytest.raises(LockMismatchError, match="there is no lock"):
        subject.bill(machine)


@pytest.mark.parametrize("content", [b"nonsense: [", b"\xff\xfe"])
def test_a_file_that_is_no_lock_is_refused(content: bytes, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "lock.yml").write_bytes(content)
    with pytest.raises(EnvBuilderError) as caught:
        audited.read(str(tmp_path / "lock.yml"), choices=Choices(), machine=machine)
    assert caught.value.exit_code == 2
