"""What a build survives: fifty kills, forty neighbours. No wrong image, and nobody has to clean up."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, stages
from envbuilder.choices import Choices
from envbuilder.image_store import ImageStore
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.process]

KILLS = 50
NEIGHBOURS = 40
MODELS = 10
PINS = ("six==1.17.0", "tomli==2.2.1")

# Builds start at once, so that the moments of the kills are spread over the work and not over imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["envbuilder.stages", "envbuilder.engine.oci", "envbuilder.bases.debian"])


def write_model(folder: Path, number: int) -> Path:
    shutil.copytree(EXAMPLES / "scale", folder)
    (folder / "conda.yaml").write_text(f"dependencies: [python=3.11.7, {{pip: [{PINS[number % len(PINS)]}]}}]\n")
    with (folder / "scale_model.py").open("a") as script:
        script.write(f"# {number}\n")
    return folder


def build(model: Path, cache: Path, tag: str) -> str:
    """Build without a try; return the digest. Runs in processes of its own too."""
    settings = replace(Settings.from_environ(os.environ), cache_dir=cache)
    choices = Choices(engine="oci", base=BASE, tag=tag, smoke=False)
    return stages.build(model, choices, machine=Machine(settings=settings, reporter=Reporter())).digest


def started(model: Path, cache: Path, tag: str) -> ForkServerProcess:
    child = PROCESSES.Process(target=build, args=(model, cache, tag))
    child.start()
    return child


def check(cache: Path) -> None:
    """Every blob that has its name has its content, and every name is that of a whole image."""
    store = ImageStore(cache / "images")
    for blob in (cache / "images" / "blobs" / "sha256").glob("[0-9a-f]*"):
        assert digest.of_file(blob) == f"sha256:{blob.name}"
    for descriptor in store.references().values():
        assert all(store.has(blob) for blob in store.blobs_of(descriptor))
    for wheel in (cache / "wheels").glob("*/*.whl"):
        assert digest.of_file(wheel) == f"sha256:{wheel.parent.name}"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the base, the server's wheels and the locks, as after one build for each environment."""
    folder = tmp_path_factory.mktemp("seeded")
    for number in range(len(PINS)):
        build(write_model(folder / f"model-{number}", number), folder / "cache", f"seed-{number}:1")
    return folder / "cache"


def forget(cache: Path) -> None:
    """Forget what was made of the packages, as pruning does."""
    for name in ("trees", "layers"):
        shutil.rmtree(cache / name, ignore_errors=True)


def test_fifty_kills_leave_no_wrong_image_and_the_next_build_comes_to_the_same(seeded: Path, tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"model-{number}", number) for number in range(len(PINS))]
    expected = [build(model, seeded, f"expected-{number}:1") for number, model in enumerate(models)]
    moments, killed = random.Random(11), 0
    for attempt in range(KILLS):
        if attempt % 5 == 0:
            forget(seeded)
        child = started(models[attempt % 2], seeded, f"killed-{attempt}:1")
        child.join(moments.uniform(0, 1.2))
        if child.exitcode is None:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        killed += child.exitcode != 0
        child.close()
        check(seeded)
        found = ImageStore(seeded / "images").references().get(f"killed-{attempt}:1")
        assert found is None or found.digest == expected[attempt % 2]
    assert killed >= KILLS // 2
    forget(seeded)
    assert [build(model, seeded, f"after-{number}:1") for number, model in enumerate(models)] == expected
    check(seeded)


def test_forty_builds_of_ten_models_at_once_come_to_ten_images(seeded: Path, tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"model-{number}", number) for number in range(MODELS)]
    forget(seeded)
    children = [started(models[number % MODELS], seeded, f"at-once-{number}:1") for number in range(NEIGHBOURS)]
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0] * NEIGHBOURS
    names = ImageStore(seeded / "images").references()
    made = [names[f"at-once-{number}:1"].digest for number in range(NEIGHBOURS)]
    assert len(set(made)) == MODELS
    check(seeded)
    forget(seeded)
    alone = [build(model, seeded, f"alone-{number}:1") for number, model in enumerate(models)]
    assert made == alone * (NEIGHBOURS // MODELS)
