"""An index that a model names: asked only where the workspace allows it, its password shown and written nowhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conftest import BASE, EXAMPLES, command_line
from tests.package_index import PackageIndex, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.process]

CANARY = "canary-9f3b"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index(login=("somebody", CANARY)) as started:
        started.add(wheel("in_house", "1.2"))
        yield started


@pytest.fixture
def model(tmp_path: Path, index: PackageIndex) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    (folder / "conda.yaml").write_text(
        f"dependencies:\n- python=3.11\n- pip:\n  - in-house\n  - --extra-index-url {index.url_with_login}\n"
    )
    return folder


def test_a_models_index_is_not_asked_where_the_workspace_does_not_allow_it(
    model: Path, index: PackageIndex, cache: Path
) -> None:
    finished = command_line(cache, "lock", str(model), "--engine", "oci", "--base", BASE)
    assert finished.returncode == 5, finished.stderr
    assert index.asked == []
    shown = command_line(cache, "resolve", str(model))
    assert "`allowed_indexes` of envbuilder.yaml" in shown.stderr
    assert CANARY not in shown.stdout + shown.stderr + finished.stderr


def test_an_allowed_index_is_asked_with_its_password_which_is_written_nowhere(
    model: Path, index: PackageIndex, cache: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "envbuilder.yaml").write_text(f"allowed_indexes: ['{index.url}/']\n")
    where = ("--workspace", str(workspace))
    spec = json.loads(command_line(cache, "resolve", str(model), *where, "--json").stdout)
    assert [item["value"] for item in spec["indexes"]] == [f"extra_index_url {index.url.replace('//', '//***@')}"]
    lock = tmp_path / "model.conda-lock.yml"
    finished = command_line(cache, "lock", str(model), "--engine", "oci", "--base", BASE, "-o", str(lock), "-v", *where)
    assert finished.returncode == 0, finished.stderr
    assert "in-house" in lock.read_text()
    for text in (finished.stdout, finished.stderr, lock.read_text(), json.dumps(spec)):
        assert CANARY not in text


def test_an_amendments_index_is_asked_with_the_password_of_the_environment_file(
    model: Path, index: PackageIndex, cache: Path, tmp_path: Path
) -> None:
    (model / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [in-house]}]\n")
    environment = tmp_path / "indexed.yaml"
    environment.write_text(f"name: indexed\namend: {{extra_index_urls: {{add: ['{index.url_with_login}']}}}}\n")
    finished = command_line(
        cache, "lock", str(model), "--engine", "oci", "--base", BASE, "--environment", str(environment), "-v"
    )
    assert finished.returncode == 0, finished.stderr
    assert "in-house" in finished.stdout
    assert CANARY not in finished.stdout + finished.stderr
    refused = command_line(cache, "environment", "register", str(environment), "--workspace", str(tmp_path))
    assert refused.returncode == 2
    assert "credentials in an environment that is to be registered" in refused.stderr
    assert CANARY not in refused.stderr
