"""Fleets: environments built once, failures alone, kills and neighbours survived, one manifest per model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import digest, fleet
from envbuilder.choices import Choices
from envbuilder.errors import InvalidFileError, LockImpossibleError, ModelError
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import MANIFEST
from tests import registry_server
from tests.conftest import BASE, EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.fleet import FleetReport
    from envbuilder.machine import Machine
    from tests.registry_server import Registry

pytestmark = [pytest.mark.network, pytest.mark.process]

registry = registry_server.registry
registry_program = registry_server.registry_program

TINY = ("six==1.16.0", "six==1.17.0", "tomli==2.2.1")
SERVING = ("mlflow-skinny==3.17.2", "numpy==2.2.6", "pandas==2.3.3")


def write_model(folder: Path, *requirements: str, code: str = "") -> Path:
    """Write a model whose content nothing has met yet."""
    shutil.copytree(EXAMPLES / "scale", folder)
    listed = ", ".join(requirements)
    (folder / "conda.yaml").write_text(f"dependencies: [python=3.11.7, {{pip: [{listed}]}}]\n")
    with (folder / "scale_model.py").open("a") as script:
        script.write(f"{code}\n# {folder.name} {time.time_ns()}\n")
    return folder


def write_fleet(folder: Path, members: dict[str, tuple[str, ...]]) -> Path:
    """Write models and the file that lists them."""
    for name, requirements in members.items():
        write_model(folder / name, *requirements)
    listing = folder / "fleet.yaml"
    listing.write_text("".join(f"- {name}\n" for name in members))
    return listing


def built(listing: Path, machine: Machine, **choices: Any) -> FleetReport:  # noqa: ANN401 - those of Choices
    chosen = Choices(engine="oci", base=BASE, smoke=False, **choices)
    return fleet.build(fleet.members(str(listing), machine=machine), chosen, machine=machine)


def started(listing: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "envbuilder", "build", "--all", str(listing), "--engine", "oci", "--base", BASE, *more],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def check_image(store: ImageStore, reference: str) -> str:
    """Return the digest of an image that is there with all its blobs, each with its content."""
    descriptor = store.references()[reference]
    for blob in store.blobs_of(descriptor):
        assert digest.of_file(store.blob_path(blob)) == blob
    return descriptor.digest


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that is empty at first, for all tests of this module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own(machine: Machine, own_cache: Path) -> Machine:
    return replace(machine, settings=replace(machine.settings, cache_dir=own_cache))


def test_two_fleets_at_once_come_to_the_same_images(own_cache: Path, tmp_path: Path) -> None:
    listing = write_fleet(tmp_path, {f"m{number}": (TINY[number % 3],) for number in range(6)})
    children = [
        started(listing, own_cache, "--no-smoke", "--json", "-t", f"{name}/{{name}}:1") for name in ("one", "two")
    ]
    outputs = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    first, second = (json.loads(out)["models"] for out, _ in outputs)
    assert [one["report"]["digest"] for one in first] == [one["report"]["digest"] for one in second]
    store = ImageStore(own_cache / "images")
    for one in (*first, *second):
        assert check_image(store, one["report"]["reference"]) == one["report"]["digest"]


def test_models_with_the_same_environment_have_all_layers_but_the_last_in_common(own: Machine, tmp_path: Path) -> None:
    report = built(write_fleet(tmp_path, {f"m{number}": (TINY[number % 3],) for number in range(12)}), own)
    assert (report.environments, report.count("built"), report.exit_code) == (3, 12, 0)
    layers: dict[str | None, set[tuple[str, ...]]] = {}
    for number, one in enumerate(report.outcomes):
        assert one.report is not None
        assert one.report.references[0] == f"m{number}:latest"
        digests = [item.digest for item in one.report.image.layers]
        layers.setdefault(one.environment, set()).add(tuple(digests[:-1]))
    assert [len(found) for found in layers.values()] == [1, 1, 1]
    own_layers = {one.report.image.layers[-1].digest for one in report.outcomes if one.report is not None}
    assert len(own_layers) == 12


def test_a_failure_stops_no_other_and_what_cannot_be_locked_is_asked_for_once(own: Machine, tmp_path: Path) -> None:
    impossible = ("six==1.17.0", "six==1.16.0")
    listing = write_fleet(tmp_path, {"a": impossible, "b": TINY[:1], "c": impossible, "d": TINY[:1]})
    listing.write_text(listing.read_text() + "- nowhere\n")
    report = built(listing, own)
    assert [one.state for one in report.outcomes] == ["failed", "built", "failed", "built", "failed"]
    first, _, third, _, last = (one.error for one in report.outcomes)
    assert isinstance(first, LockImpossibleError)
    assert third is first
    assert isinstance(last, ModelError)
    assert report.exit_code == 4
    value = report.to_dict()
    assert value["failed"] == 3
    assert value["models"][0]["error"]["exit_code"] == 5
    assert value["models"][0]["report"] is None
    assert value["models"][1]["report"]["reference"] == "b:latest"


def test_a_bug_that_one_model_meets_stops_no_other(own: Machine, tmp_path: Path) -> None:
    class Broken(fleet.Watch):
        def reporter(self, number: int) -> Any:  # noqa: ANN401
            return None if number == 0 else super().reporter(number)

    listing = write_fleet(tmp_path, {"a": TINY[:1], "b": TINY[:1]})
    chosen = Choices(engine="oci", base=BASE, smoke=False)
    report = fleet.build(fleet.members(str(listing), machine=own), chosen, machine=own, watch=Broken())
    assert [one.state for one in report.outcomes] == ["failed", "built"]
    assert report.exit_code == 70
    assert report.to_dict()["models"][0]["error"]["kind"] == "bug"


def test_an_image_takes_no_name_from_another(own: Machine, tmp_path: Path) -> None:
    for folder in ("x", "y", "z"):
        write_model(tmp_path / folder / "model", TINY[0])
    listing = tmp_path / "fleet.yaml"
    listing.write_text("- x/model\n- y/model\n- {model: z/model, tag: 'z:1'}\n")
    report = built(listing, own)
    assert [one.state for one in report.outcomes] == ["failed", "failed", "built"]
    assert f"`{tmp_path}/y/model` has the name `model:latest` too" in str(report.outcomes[0].error)


@pytest.mark.parametrize("choices", [{"tag": "one:1"}, {"lock": EXAMPLES / "a.yml"}, {"output": EXAMPLES / "b"}])
def test_what_can_be_of_one_model_only_is_refused_for_all(choices: dict[str, Any], own: Machine) -> None:
    with pytest.raises(InvalidFileError):
        fleet.build((), Choices(**choices), machine=own)


def test_a_file_that_is_not_there_is_told(own: Machine, tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="cannot be read"):
        fleet.members(str(tmp_path / "fleet.yaml"), machine=own)


def test_a_fleet_is_pushed_and_what_the_registry_has_is_sent_once(
    own: Machine, registry: Registry, tmp_path: Path
) -> None:
    listing = write_fleet(tmp_path, {f"m{number}": (TINY[number % 2],) for number in range(4)})
    choices = {"tag": f"{registry.host}/fleet/{{name}}:1", "push": True}
    report = built(listing, own, **choices)
    assert report.exit_code == 0, report.to_dict()
    for one in report.outcomes:
        assert one.report is not None
        repository = one.report.references[0].removeprefix(f"{registry.host}/").removesuffix(":1")
        path = f"/v2/{repository}/manifests/{one.report.digest}"
        answered = registry.request("GET", path, headers={"Accept": MANIFEST})
        assert len(answered.json()["layers"]) == len(one.report.image.layers)
    sent = [one.report.pushed.size for one in report.outcomes if one.report is not None and one.report.pushed]
    # The server, the environments and the base come with the first models; later ones bring their own layer only.
    assert sum(size > 1_000_000 for size in sent) <= 2, sent
    again = built(listing, own, **choices)
    assert [one.report.pushed.size for one in again.outcomes if one.report is not None and one.report.pushed] == [0] * 4


def test_a_fleet_that_was_killed_is_taken_up_where_it_was(cache: Path, tmp_path: Path) -> None:
    listing = write_fleet(
        tmp_path,
        {f"m{number}": (*SERVING, *TINY[:1] * (number % 3 > 0), *TINY[2:] * (number % 3 > 1)) for number in range(11)},
    )
    write_model(tmp_path / "m11", *SERVING, code="raise ValueError('this model does not load')")
    listing.write_text(listing.read_text() + "- m11\n")
    store = ImageStore(cache / "images")
    prefix = f"killed-{time.time_ns()}"
    options = ("-t", f"{prefix}/{{name}}:1", "--json")

    def named() -> set[str]:
        return {
            name.removesuffix(":1") for name in store.references() if name.startswith(prefix) and name.endswith(":1")
        }

    child = started(listing, cache, *options)
    while len(named()) < 4 and child.poll() is None:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    before = named()
    assert 4 <= len(before) < 12
    for name in before:
        check_image(store, f"{name}:1")
    finished = command_line(cache, "build", "--all", str(listing), "--engine", "oci", "--base", BASE, *options)
    assert finished.returncode == 6, finished.stderr
    report = json.loads(finished.stdout)
    states = {f"{prefix}/{one['model'].rpartition('/')[2]}": one["state"] for one in report["models"]}
    assert report["environments"] == 3
    assert {name for name, state in states.items() if state == "existed"} == before
    assert {name for name, state in states.items() if state == "failed"} == {f"{prefix}/m11"}
    assert named() == set(states) - {f"{prefix}/m11"}
    assert "12/12" in finished.stderr
    assert "this model does not load" in finished.stderr


@pytest.mark.engine
def test_docker_builds_a_fleet(docker_machine: Machine, tmp_path: Path) -> None:
    listing = write_fleet(tmp_path, {"m0": SERVING, "m1": SERVING, "m2": ("six==0.0.1",)})
    chosen = Choices(engine="docker", base=BASE, smoke=False, tag="envbuilder-test-fleet/{name}:1")
    members = fleet.members(str(listing), machine=docker_machine)
    report = fleet.build(members, chosen, machine=docker_machine)
    assert [one.state for one in report.outcomes] == ["built", "built", "failed"], report.to_dict()
    assert report.exit_code == 5
    first, second = (one.report for one in report.outcomes[:2])
    assert first is not None
    assert second is not None
    assert first.image.digest != second.image.digest
    pairs = zip(first.image.layers, second.image.layers, strict=True)
    differing = [one.comment for one, other in pairs if one.digest != other.digest]
    assert len(differing) == 1, (differing, first.image.layers)
