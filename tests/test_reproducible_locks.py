"""A large old environment locks to the same bytes from nothing, twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from envbuilder.lockfile import Lockfile
from tests.conftest import EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path

PINNED = {
    "astunparse": "1.6.3",
    "cffi": "1.15.0",
    "configparser": "3.7.4",
    "defusedxml": "0.7.1",
    "fastai": "2.4.1",
    "google-api-core": "2.7.1",
    "ipython": "8.2.0",
    "psutil": "5.9.0",
}
DATE = "2026-11-01"


@pytest.mark.network
@pytest.mark.process
def test_two_empty_caches_give_the_same_bytes(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    pip = ["mlflow", *(f"{name}=={version}" for name, version in PINNED.items())]
    asked = {"channels": ["conda-forge"], "dependencies": ["python=3.8.5", "pip", {"pip": pip}], "name": "mlflow-env"}
    (model / "conda.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    texts = []
    for number in (1, 2):
        arguments = ("--no-base", "--platform", "linux-64", "--exclude-newer", DATE)
        finished = command_line(tmp_path / f"cache {number}", "lock", str(model), *arguments)
        assert finished.returncode == 0, finished.stderr
        texts.append(finished.stdout)
    first, second = texts
    assert first == second
    (lock,) = Lockfile.parse(first, file="conda-lock.yml").locks
    versions = {one.name: one.version for one in lock.packages}
    assert PINNED.items() <= versions.items()
    assert {"mlflow", "torch"} <= versions.keys()
    assert lock.python_version == "3.8.5"
    assert len(versions) > 100
