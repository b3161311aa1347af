"""What a user sees when something is wrong: through the command line, each failure with its message and exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from envbuilder.image_store import ImageStore
from tests.conda_channel import sample, write_channel
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.process]


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def envbuilder(cache: Path) -> Callable[..., Outcome]:
    def call(*arguments: str, **environ: str) -> Outcome:
        finished = subprocess.run(
            [sys.executable, "-m", "envbuilder", *arguments],
            env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), "COLUMNS": "200", **environ},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Outcome(finished.returncode, finished.stdout, finished.stderr)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of an example, to be spoiled."""
    target = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", target)
    return target


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def check(outcome: Outcome, code: int, *texts: str) -> None:
    assert outcome.code == code, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert "error: " in outcome.stderr
    assert "hint: " in outcome.stderr
    for text in texts:
        assert text in outcome.stderr, outcome.stderr


def build(envbuilder: Callable[..., Outcome], model: Path, *more: str, **environ: str) -> Outcome:
    return envbuilder("build", str(model), "--engine", "oci", "--base", BASE, "-t", "spoiled:1", *more, **environ)


@pytest.fixture(autouse=True)
def nothing_is_named(cache: Path) -> object:
    yield
    assert "spoiled:1" not in ImageStore(cache / "images").references()


def test_a_missing_directory(envbuilder: Callable[..., Outcome], tmp_path: Path) -> None:
    check(build(envbuilder, tmp_path / "nowhere"), 9, "nowhere")


def test_an_empty_directory(envbuilder: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check(build(envbuilder, tmp_path / "empty"), 9, "empty")


def test_a_directory_without_mlmodel(envbuilder: Callable[..., Outcome], model: Path) -> None:
    (model / "MLmodel").unlink()
    check(build(envbuilder, model), 9, "MLmodel")


def test_broken_yaml(envbuilder: Callable[..., Outcome], model: Path) -> None:
    (model / "conda.yaml").write_text("dependencies: [python=3.11\nname: x\n")
    check(build(envbuilder, model), 2, "conda.yaml")


def test_no_python_function_flavor(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "MLmodel", "python_function", "crate")
    check(build(envbuilder, model), 9, "python_function", "crate")


def test_a_requirement_that_does_not_exist(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "conda.yaml", "pandas==2.3.3", "no-such-package-envbuilder==1.0")
    check(build(envbuilder, model), 5, "no-such-package-envbuilder", "conda.yaml: dependencies[2].pip[2]")


def test_requirements_that_contradict_each_other(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "conda.yaml", "numpy==2.2.6", "numpy==1.21.0")
    check(build(envbuilder, model), 5, "numpy==1.21.0", "conda.yaml: dependencies[2].pip[1]")


def test_a_python_that_no_base_provides(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "conda.yaml", "python=3.11.7", "python=2.7.18")
    outcome = envbuilder("build", str(model), "--engine", "oci", "-t", "spoiled:1")
    check(outcome, 8, "2.7.18", "conda.yaml: dependencies[0]")


def test_a_base_with_another_python(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "conda.yaml", "python=3.11.7", "python=3.9.18")
    check(build(envbuilder, model), 8, "3.9.18", "provides Python 3.11", "--base")


def test_an_unreachable_index(envbuilder: Callable[..., Outcome], model: Path) -> None:
    # Another set of packages than any other test locks, so that nothing is kept for it.
    edit(model / "conda.yaml", "pandas==2.3.3", "pandas==2.3.2")
    outcome = build(envbuilder, model, ENVBUILDER_INDEX_URL="http://somebody:hidden-word@127.0.0.1:9/simple")
    check(outcome, 7, "did not answer", "ENVBUILDER_INDEX_URL")
    assert "hidden-word" not in outcome.stderr


def test_a_registry_that_cannot_be_reached_says_what_to_pass(envbuilder: Callable[..., Outcome], model: Path) -> None:
    outcome = envbuilder("build", str(model), "--engine", "oci", "--base", "127.0.0.1:9/base:1", "-t", "spoiled:1")
    check(outcome, 7, "--base debian:")


def test_a_model_that_raises_on_its_own_example(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "scale_model.py", "params = params or {}", 'raise RuntimeError("no luck today")')
    check(build(envbuilder, model), 6, "RuntimeError", "no luck today", str(model))


def test_a_model_that_does_not_load(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "scale_model.py", "import mlflow\n", "import mlflow\nimport no_such_module\n")
    check(build(envbuilder, model), 6, "did not start", "no_such_module")


def test_a_conda_package_that_no_channel_has(envbuilder: Callable[..., Outcome], model: Path, tmp_path: Path) -> None:
    edit(model / "conda.yaml", "- pip\n", "- pip\n- openblas=0.3\n")
    write_channel(tmp_path / "channels" / "conda-forge", sample())
    outcome = build(envbuilder, model, ENVBUILDER_CHANNEL_ALIAS=(tmp_path / "channels").as_uri())
    check(outcome, 5, "openblas", "conda.yaml: dependencies[2]")


def test_a_channel_that_cannot_be_reached(envbuilder: Callable[..., Outcome], model: Path) -> None:
    edit(model / "conda.yaml", "- pip\n", "- pip\n- openblas=0.3\n")
    outcome = build(envbuilder, model, ENVBUILDER_CHANNEL_ALIAS="http://somebody:hidden-word@127.0.0.1:9")
    check(outcome, 7, "conda-forge", "conda.yaml: channels[0]")
    assert "hidden-word" not in outcome.stderr


def test_a_lock_of_another_model(envbuilder: Callable[..., Outcome], model: Path, tmp_path: Path) -> None:
    lock = tmp_path / "other.conda-lock.yml"
    made = envbuilder("lock", str(model), "--engine", "oci", "--base", BASE, "-o", str(lock))
    assert made.code == 0, made.stderr
    edit(model / "conda.yaml", "pandas==2.3.3", "pandas==2.3.2")
    check(build(envbuilder, model, "--lock", str(lock)), 11, "changed since it was locked", "envbuilder lock")


def test_errors_are_json_when_asked_for(envbuilder: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = envbuilder("resolve", str(tmp_path / "nowhere"), "--json")
    assert outcome.code == 9
    error = json.loads(outcome.stdout)["error"]
    assert error["exit_code"] == 9
    assert error["problems"][0]["fix"]


def test_an_output_that_exists_is_not_overwritten(
    envbuilder: Callable[..., Outcome], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "layout").mkdir()
    check(build(envbuilder, model, "-o", str(tmp_path / "layout")), 2, "exists already")


def test_offline_without_a_cache_says_what_is_missing(
    envbuilder: Callable[..., Outcome], model: Path, tmp_path: Path
) -> None:
    outcome = build(envbuilder, model, "--offline", ENVBUILDER_CACHE_DIR=str(tmp_path / "new"))
    assert outcome.code in (7, 8), outcome.stderr
    check(outcome, outcome.code, "offline")
