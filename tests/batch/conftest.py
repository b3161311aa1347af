from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alone import alone
from tests.kept_environment import kept_python

REQUIREMENTS = (
    *("mlflow-skinny==3.17.2", "scikit-learn==1.7.2", "pandas==3.1.1", "numpy==2.4.6", "cloudpickle==3.1.2"),
    *("pyarrow", "pillow"),
)


@pytest.fixture(scope="session")
def batch_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of an environment with MLflow, pyarrow and pillow."""
    if sys.version_info < (3, 11):
        pytest.skip("the models' packages need Python 3.11")
    return str(kept_python(request, "batch-environment", REQUIREMENTS))


@pytest.fixture(scope="session")
def batch_models(request: pytest.FixtureRequest, batch_python: str) -> Path:
    """The folder of the saved models, kept as long as the script that saves them is the same."""
    script = Path(__file__).with_name("make_models.py")
    key = hashlib.sha256(script.read_bytes() + batch_python.encode()).hexdigest()[:12]
    folder = request.config.cache.mkdir("batch-models") / key
    with alone(request.config, key):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            subprocess.run((batch_python, script, folder), check=True, cwd=folder)
            (folder / "complete").touch()
    return folder
