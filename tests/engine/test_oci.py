"""The embedded engine: reproducible to the bit, layers reused, nothing lost to kill -9 or a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, engine_choice, stages
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.engine import oci
from envbuilder.errors import BaseImageError
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import Image, Platform, RunConfig
from tests.conftest import BASE, EXAMPLES
from tests.two_machines import layouts_of

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine

pytestmark = [pytest.mark.network, pytest.mark.process]


def with_cache(machine: Machine, cache: Path) -> Machine:
    return replace(machine, settings=replace(machine.settings, cache_dir=cache))


def test_two_builds_of_two_machines_are_byte_identical(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", model)
    # A large wheel with native code, and a small one; files below folders.
    (model / "conda.yaml").write_text("dependencies: [python=3.11.7, {pip: [numpy==2.2.6, six==1.17.0]}]\n")
    for name in ("b", "a", "c"):
        (model / "code" / name).mkdir(parents=True)
        (model / "code" / name / "part.py").write_text(f"name = {name!r}\n")
    first, second = layouts_of(model, tmp_path)
    assert len(first) > 9
    assert first == second


def test_only_the_model_layer_is_made_when_only_the_model_changed(machine: Machine, tmp_path: Path) -> None:
    choices = Choices(engine="oci", base=BASE, tag="envbuilder-test-changed:1")
    stages.build(EXAMPLES / "scale", choices, machine=machine)
    model = tmp_path / "scale"
    shutil.copytree(EXAMPLES / "scale", model)
    script = model / "scale_model.py"
    script.write_text(script.read_text() + f"# {time.time_ns()}\n")
    report = stages.build(model, choices, machine=machine)
    assert [item.comment for item in report.image.layers if not item.reused] == ["model"]


def test_a_layout_and_a_tar_serve_as_bases_too(machine: Machine, tmp_path: Path) -> None:
    made = oci.base_image(BaseReference.parse(BASE), platform=engine_choice.platform_of(Choices()), machine=machine)
    assert made.image is not None
    layout = tmp_path / "base"
    machine.store.export(made.image.descriptor(), ("base:1",), layout)
    choices = Choices(engine="oci", base=str(layout), tag="envbuilder-test-layout:1")
    report = stages.build(EXAMPLES / "scale", choices, machine=machine)
    assert report.existed or report.smoke is not None
    assert report.image.layers[0].digest == made.image.layers[0].blob.digest


def test_a_base_without_python_is_refused(machine: Machine, tmp_path: Path) -> None:
    import tarfile  # noqa: PLC0415

    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc/hostname"))
    choices = Choices(engine="oci", base=str(root))
    with pytest.raises(BaseImageError, match="no `python3`"):
        stages.build(EXAMPLES / "scale", choices, machine=machine)


def command(cache: Path, tag: str, *more: str) -> tuple[list[str], dict[str, str]]:
    arguments = ["build", str(EXAMPLES / "text"), "--engine", "oci", "--base", BASE, "-t", tag, "--no-smoke", *more]
    return [sys.executable, "-m", "envbuilder", *arguments], {**os.environ, "ENVBUILDER_CACHE_DIR": str(cache)}


def check_caches(cache: Path) -> None:
    """Every blob and wheel that has its final name has its content, and the index can be read."""
    store = ImageStore(cache / "images")
    for descriptor in store.references().values():
        for blob in store.blobs_of(descriptor):
            assert digest.of_file(store.blob_path(blob)) == blob
    for blob_path in (cache / "images" / "blobs" / "sha256").glob("[0-9a-f]*"):
        assert digest.of_file(blob_path) == f"sha256:{blob_path.name}"
    for wheel in (cache / "wheels").glob("*/*.whl"):
        assert digest.of_file(wheel) == f"sha256:{wheel.parent.name}"


def test_a_build_killed_at_any_moment_loses_nothing_but_time(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    arguments, environ = command(cache, "killed:1")
    moments = random.Random(7)
    for _ in range(8):
        child = subprocess.Popen(
            arguments, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(0.5, 6))
        ended = child.poll() is not None
        if not ended:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        check_caches(cache)
        if ended:
            break
        assert "killed:1" not in ImageStore(cache / "images").references()
    finished = subprocess.run(arguments, env=environ, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    check_caches(cache)
    assert "killed:1" in ImageStore(cache / "images").references()


def test_two_builds_at_once_share_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    children = []
    for tag in ("one:1", "two:1"):
        arguments, environ = command(cache, tag)
        children.append(
            subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert outputs[0][0].partition("@")[2] == outputs[1][0].partition("@")[2]
    check_caches(cache)
    assert {"one:1", "two:1"} <= ImageStore(cache / "images").references().keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_leaves_the_caches_intact(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    arguments, environ = command(cache, "full:1")
    script = 'mount -t tmpfs -o size=60m tmpfs "$0" && "$@"; code=$?; cp -r "$0" "$0.kept"; exit $code'
    mounted = ["unshare", "--mount", "sh", "-c", script]
    finished = subprocess.run(
        [*mounted, str(cache), *arguments], env=environ, capture_output=True, check=False, text=True
    )
    assert finished.returncode == 10, finished.stderr
    assert "no space left" in finished.stderr
    assert "ENVBUILDER_CACHE_DIR" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    check_caches(tmp_path / "cache.kept")


def test_an_image_whose_documents_are_damaged_is_not_found_and_so_made_again(machine: Machine, tmp_path: Path) -> None:
    own = with_cache(machine, tmp_path)
    image = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(), layers=())
    own.store.tag(own.store.add_image(image), "damaged:1")
    assert oci.find("damaged:1", machine=own) is not None
    for blob in (image.config_descriptor().digest, image.descriptor().digest):
        own.store.blob_path(blob).write_bytes(b"{")
        assert oci.find("damaged:1", machine=own) is None
