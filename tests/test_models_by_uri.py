"""A registered model from its URI to an image, through the command line and a real tracking server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import tracking_server as tracking_servers
from tests.conftest import BASE, command_line

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.tracking_server import TrackingServer

mlflow_python = tracking_servers.mlflow_python
tracking_server = tracking_servers.tracking_server
pytestmark = [pytest.mark.network, pytest.mark.process]


def call(server: TrackingServer, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command_line(cache, *arguments, MLFLOW_TRACKING_URI=server.url)


def test_what_a_registered_model_asks_for_is_told_in_the_words_of_its_uri(
    tracking_server: TrackingServer, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "envbuilder.yaml").write_text(
        "rules:\n- name: churn\n  environment: {amend: {environment_variables: {add: {A: b}}}}\n"
    )
    finished = call(tracking_server, cache, "resolve", "models:/churn@champion", "--workspace", str(tmp_path), "--json")
    assert finished.returncode == 0, finished.stderr
    assert "version 1" in finished.stderr
    spec = json.loads(finished.stdout)
    assert spec["python"]["source"] == {"file": "models:/churn@champion/conda.yaml", "key": "dependencies[0]"}
    assert [item["value"] for item in spec["variables"]] == ["A=b"]


def test_an_image_is_built_of_a_logged_model_and_named_after_its_path(
    tracking_server: TrackingServer, cache: Path
) -> None:
    uri = f"runs:/{tracking_server.run_id}/iris"
    finished = call(tracking_server, cache, "build", uri, "--engine", "oci", "--base", BASE)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("iris:latest@sha256:")


def test_two_versions_are_compared(tracking_server: TrackingServer, cache: Path) -> None:
    finished = call(tracking_server, cache, "diff", "models:/churn/1", "models:/churn/1")
    assert (finished.returncode, finished.stdout) == (0, "no difference\n")


def test_a_path_with_a_colon_is_a_path(tracking_server: TrackingServer, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models:v1"
    folder.mkdir()
    finished = call(tracking_server, cache, "resolve", str(folder))
    assert finished.returncode == 9
    assert "the directory is empty" in finished.stderr


def test_a_fleet_is_what_the_registry_has_a_version_of(tracking_server: TrackingServer, cache: Path) -> None:
    finished = call(tracking_server, cache, "build", "--all", "models:/", "--engine", "oci", "--base", BASE, "--json")
    assert finished.returncode in (0, 5), finished.stderr
    report = json.loads(finished.stdout)
    assert [one["model"] for one in report["models"]] == ["models:/churn/latest"]
    finished = call(tracking_server, cache, "build", "--all", "models:/ch*@nobody")
    assert finished.returncode == 9
    assert "no model `ch*` with the alias `nobody`" in finished.stderr
