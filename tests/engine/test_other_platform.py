"""Images for another platform than this machine's, without emulation."""

from __future__ import annotations

import json
import platform
import shutil
from typing import TYPE_CHECKING

import pytest

from envbuilder import stages
from envbuilder.choices import Choices
from envbuilder.engine import oci, still_probe
from envbuilder.errors import BaseImageError, BuildFailedError
from tests import skopeo as skopeo_program
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine
    from tests.conftest import RecordingReporter
    from tests.skopeo import Skopeo

pytestmark = [
    pytest.mark.network,
    pytest.mark.process,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="arm64 is this machine's own platform"),
]

skopeo = skopeo_program.skopeo

OTHER = "linux/arm64"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", folder)
    (folder / "conda.yaml").write_text("dependencies: [python=3.11.2, {pip: [numpy==2.2.6, six==1.17.0]}]\n")
    return folder


def test_an_image_for_another_platform_has_its_wheels_and_bytecode_and_is_not_tried(
    model: Path, machine: Machine, reporter: RecordingReporter, tmp_path: Path, skopeo: Skopeo
) -> None:
    layout = tmp_path / "layout"
    choices = Choices(engine="oci", base=BASE, platform=OTHER, tag="other:1", output=layout)
    report = stages.build(model, choices, machine=machine)
    assert report.smoke is None
    assert report.references == ("other:1",)
    assert any("is for `linux/arm64` and cannot be tried here" in text for text in reporter.warnings)
    inspected = json.loads(skopeo("inspect", f"oci:{layout}:other:1"))
    assert (inspected["Os"], inspected["Architecture"]) == ("linux", "arm64")
    own = stages.build(model, Choices(engine="oci", base=BASE, tag="own:1", smoke=False), machine=machine)
    there, here = (
        oci.files(one.image, "/opt", machine=machine) | oci.files(one.image, "/usr/lib/python3.11", machine=machine)
        for one in (report, own)
    )
    native = [path for path in there if path.endswith(".so") and "/numpy/" in path]
    assert native
    assert all("aarch64-linux-gnu" in path for path in native)
    # Bytecode does not depend on the machine, and that of a base and of wheels for all machines is the same bytes.
    for name in ("six.cpython-311.pyc", "json/__pycache__/decoder.cpython-311.pyc", "server/__pycache__/front."):
        found = [path for path in there if name in path]
        assert found, name
        assert [there[path] for path in found] == [here[path] for path in found]


def test_a_pure_environment_differs_in_the_base_only(model: Path, machine: Machine) -> None:
    (model / "conda.yaml").write_text("dependencies: [python=3.11.2, {pip: [six==1.17.0]}]\n")
    images = [
        stages.build(
            model, Choices(engine="oci", base=BASE, platform=one, tag="pure:1", smoke=False), machine=machine
        ).image
        for one in (OTHER, "linux/amd64")
    ]
    environment = [{item.digest for item in image.layers if "environment" in item.comment} for image in images]
    assert environment[0] == environment[1]
    assert images[0].layers[0].digest != images[1].layers[0].digest


def test_what_would_have_to_run_is_refused_with_the_reason(model: Path, machine: Machine) -> None:
    (model / "conda.yaml").write_text("dependencies: [python=3.11.2, {pip: [docopt==0.6.2]}]\n")
    choices = Choices(engine="oci", base=BASE, platform=OTHER, tag="built:1", allow_source=("docopt",))
    with pytest.raises((BaseImageError, BuildFailedError), match="does not run here"):
        stages.build(model, choices, machine=machine)


def test_a_base_whose_files_do_not_tell_its_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    (tmp_path / "usr/bin/python3.11").touch()
    with pytest.raises(BaseImageError, match="do not tell which Python"):
        still_probe.read(tmp_path, "/usr/bin/python3", environ={}, reference="base.tar")


def test_links_of_a_base_lead_nowhere_else(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "status").write_text("Package: libc6\nVersion: 9.9-1\n")
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to(outside)
    (root / "etc").symlink_to("../../outside")
    with pytest.raises(BaseImageError, match="do not tell which Python"):
        still_probe.read(root, "/usr/local/bin/python3.11", environ={"PYTHON_VERSION": "3.11.7"}, reference="b")


def test_an_official_image_tells_its_python_in_a_variable(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("Package: libc6\nStatus: ok\nVersion: 2.36-9+deb12u13\n\n")
    (tmp_path / "usr/lib/aarch64-linux-gnu").mkdir(parents=True)
    (tmp_path / "usr/lib/aarch64-linux-gnu/libm.so.6").touch()
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/python3").symlink_to("/usr/local/bin/python3.11")
    found = still_probe.read(
        tmp_path, "/usr/local/bin/python3", environ={"PYTHON_VERSION": "3.11.7"}, reference="python:3.11.7-slim"
    )
    assert json.loads(found) == {
        "version": "3.11.7",
        "executable": "/usr/local/bin/python3.11",
        "glibc": "2.36",
        "os_release": "ID=debian\n",
        "has_apt": False,
        "libraries": ["libm.so.6"],
    }
