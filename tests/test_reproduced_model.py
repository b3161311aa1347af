"""A model that MLflow saved in one environment predicts the same, bit for bit, in the one made from the model alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import reproduction, verification
from envbuilder.choices import Choices
from envbuilder.reproduction import Wish
from tests.kept_environment import kept_python

if TYPE_CHECKING:
    from envbuilder.machine import Machine

pytestmark = [pytest.mark.network, pytest.mark.process]

PROGRAM = Path(__file__).with_name("train_model.py")
TRAINING = (
    "mlflow-skinny==3.17.2",
    "numpy==2.2.6",
    "pandas==2.3.3",
    "scikit-learn==1.7.2",
    "scipy==1.15.3",
    "skops==0.16.0",
)


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The model's directory, and what it predicts where it was trained."""
    python = kept_python(request, "training", TRAINING)
    folder = tmp_path_factory.mktemp("trained")
    run(python, "train", folder / "model")
    said = run(python, "predict", folder / "model")
    # The model alone: nothing is left of where it was trained.
    moved = folder / "elsewhere" / "model"
    moved.parent.mkdir()
    shutil.move(folder / "model", moved)
    return moved, said


def run(python: Path | str, *words: object) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    command = [str(python), "-W", "ignore", str(PROGRAM), *(str(word) for word in words)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_predictions_are_equal_bit_for_bit_and_the_environment_is_as_locked(
    trained: tuple[Path, str], machine: Machine, tmp_path: Path
) -> None:
    model, expected = trained
    made = reproduction.reproduce(model, Wish(prefix=tmp_path / "env"), Choices(), machine=machine)
    assert run(made.python, "predict", model) == expected
    assert expected.startswith("float64 (1000,) ")
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    found = verification.verify(made.prefix, None, machine=offline)
    assert found.deviations == ()
    assert found.files > 5000

    # One byte of the code that predicted.
    module = next(made.prefix.rglob("sklearn/svm/_classes.py"))
    data = bytearray(module.read_bytes())
    data[len(data) // 2] ^= 1
    module.write_bytes(data)
    assert str(module.relative_to(made.prefix)) in {
        one.path for one in verification.verify(made.prefix, None, machine=offline).deviations
    }
