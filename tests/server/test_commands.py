from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.served import environment_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.network]

RAISE = b'{"dataframe_records": [{"do": "raise", "argument": 0}]}'
COMMAND = (sys.executable, "-m", "envbuilder.server")


def attempt(model: Path, model_python: str, *arguments: str, wrap: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    command = (*wrap, *COMMAND, "try", *arguments)
    env = environment_for(model, model_python)
    done = subprocess.run(command, env=env, cwd="/proc", stdout=subprocess.PIPE, check=False, timeout=90)
    (line,) = done.stdout.splitlines()
    return done.returncode, json.loads(line)


def test_try_reports_a_model_that_answers_its_example(models: Path, model_python: str) -> None:
    example = str(models / "iris" / "serving_input_example.json")
    code, report = attempt(models / "iris", model_python, "--example", example)
    assert code == 0
    assert 0 < report.pop("predict_seconds") < report.pop("startup_seconds") < 60
    assert report == {
        "ready": True,
        "example": "answered",
        "status": 200,
        "answer": {"predictions": [0, 0, 0]},
        "error": None,
    }


def test_try_works_as_pid_1_without_any_network(models: Path, model_python: str) -> None:
    wrap = ("unshare", "--map-root-user", "--net", "--pid", "--fork")
    if not shutil.which("unshare") or subprocess.run((*wrap, "true"), check=False, capture_output=True).returncode:
        pytest.skip("namespaces cannot be made here")
    code, report = attempt(models / "echo", model_python, "--example", "/nonexistent.json", wrap=wrap)
    assert code == 0
    assert (report["ready"], report["example"], report["status"], report["error"]) == (True, "none", None, None)


def test_try_names_the_exception_of_a_model_that_raises(models: Path, model_python: str, tmp_path: Path) -> None:
    (tmp_path / "example.json").write_bytes(RAISE)
    code, report = attempt(models / "acting", model_python, "--example", str(tmp_path / "example.json"))
    assert code == 1
    assert (report["ready"], report["example"], report["status"]) == (True, "failed", 400)
    assert report["error"]["what"] == "ArithmeticError: the reactor\nis off"
    assert any('raise ArithmeticError("the reactor' in line for line in report["error"]["trace"])


def test_try_says_why_a_model_does_not_load(models: Path, model_python: str) -> None:
    code, report = attempt(models / "unloadable", model_python)
    assert code == 1
    assert (report["ready"], report["example"], report["answer"]) == (False, "none", None)
    assert report["error"]["what"] == "LookupError: no such weights"
    assert report["error"]["trace"][-1] == "LookupError: no such weights"


def test_try_says_how_a_worker_died_on_the_example(models: Path, model_python: str, tmp_path: Path) -> None:
    (tmp_path / "example.csv").write_text("do,argument\nexit,7\n")
    code, report = attempt(models / "acting", model_python, "--example", str(tmp_path / "example.csv"))
    assert (code, report["example"], report["status"]) == (1, "failed", 500)
    assert "the worker exited with code 7" in report["error"]["what"]


def test_try_gives_up_in_time(models: Path, model_python: str) -> None:
    started = time.monotonic()
    code, report = attempt(models / "iris", model_python, "--timeout", "0.5")
    assert time.monotonic() - started < 10
    assert (code, report["ready"]) == (1, False)
    assert "not loaded in time" in report["error"]["what"]


def test_a_missing_environment_is_named(models: Path) -> None:
    code, report = attempt(models / "iris", "/nonexistent/python")
    assert code == 1
    assert "cannot start `/nonexistent/python`" in report["error"]["what"]


def predict(model: Path, model_python: str, body: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command, env = (*COMMAND, "predict", *arguments), environment_for(model, model_python)
    return subprocess.run(command, input=body, env=env, cwd="/proc", capture_output=True, check=False, timeout=90)


def test_predict_answers_on_stdout_only(models: Path, model_python: str) -> None:
    done = predict(models / "echo", model_python, b"a\n1\n", "--content-type", "text/csv")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"predictions": [{"a": 1}]})
    assert b"printed by the model" in done.stderr


@pytest.mark.parametrize(
    ("model", "code"),
    [("acting", "BAD_REQUEST"), ("unloadable", "INTERNAL_ERROR")],
)
def test_predict_fails_with_the_error_on_stderr(models: Path, model_python: str, model: str, code: str) -> None:
    done = predict(models / model, model_python, RAISE)
    assert (done.returncode, done.stdout) == (1, b"")
    assert json.loads(done.stderr.splitlines()[-1])["error_code"] == code


def test_predict_refuses_an_unknown_content_type_before_it_loads(models: Path) -> None:
    done = predict(models / "iris", "/nonexistent/python", RAISE, "--content-type", "text/plain")
    assert done.returncode == 1
    assert "only supports" in json.loads(done.stderr)["message"]


def test_a_setting_that_is_no_number_is_named() -> None:
    env = environment_for("/nonexistent", "/nonexistent", MLFLOW_MODELS_WORKERS="many")
    done = subprocess.run((*COMMAND, "serve"), env=env, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (2, b"error: MLFLOW_MODELS_WORKERS is `many`, expected a number\n")
