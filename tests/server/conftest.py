from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.alone import alone
from tests.kept_environment import kept_python
from tests.server.served import Served, end, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUIREMENTS = ("mlflow-skinny==3.17.2", "scikit-learn", "pandas==3.1.1", "numpy==2.4.6", "cloudpickle==3.1.2")

BARE = ("scikit-learn==1.7.2", "skops", "pandas==3.1.1", "numpy==2.4.6", "cloudpickle==3.1.2", "pyarrow")
OTHERS = ("lightgbm", "onnxruntime", "xgboost-cpu")


@pytest.fixture(scope="session")
def bare_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of an environment with the models' libraries and without MLflow."""
    if sys.version_info < (3, 11):
        pytest.skip("the models' packages need Python 3.11")
    return str(kept_python(request, "server-bare-environment", BARE + OTHERS))


@pytest.fixture(scope="session")
def model_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of an environment with MLflow and scikit-learn, made once and kept in pytest's cache."""
    if sys.version_info < (3, 11):
        pytest.skip("the models' packages need Python 3.11")
    return str(kept_python(request, "server-model-environment", REQUIREMENTS))


@pytest.fixture(scope="session")
def models(request: pytest.FixtureRequest, model_python: str) -> Path:
    """The folder of the saved models, kept as long as the script that saves them is the same."""
    script = Path(__file__).with_name("make_models.py")
    key = hashlib.sha256(script.read_bytes() + model_python.encode()).hexdigest()[:12]
    folder = request.config.cache.mkdir("server-models") / key
    with alone(request.config, key):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            subprocess.run((model_python, script, folder), check=True, cwd=folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture
def serve(models: Path, model_python: str, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers, in a folder that nobody can write to, and ends them with the test."""
    running: list[Served] = []

    def start_one(
        model: str, *arguments: str, ready: bool = True, wrap: tuple[str, ...] = (), **environment: str
    ) -> Served:
        running.append(start(models / model, model_python, tmp_path, *arguments, wrap=wrap, **environment))
        if ready:
            running[-1].wait_ready()
        return running[-1]

    yield start_one
    for served in running:
        end(served)


@pytest.fixture(scope="session")
def shared_server(
    models: Path, model_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Served]]:
    """Servers that tests use together: one for each model."""
    running: dict[str, Served] = {}

    def get(model: str) -> Served:
        if model not in running:
            running[model] = start(models / model, model_python, tmp_path_factory.mktemp("server"))
            running[model].wait_ready()
        return running[model]

    yield get
    for served in running.values():
        end(served)
