"""The command line: results on standard output, the rest on standard error, and what the README says of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.asking import free_port
from tests.conftest import BASE, EXAMPLES, REPOSITORY, command_line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.process]


def result(cache: Path, *arguments: str) -> Any:  # noqa: ANN401 - decoded JSON
    finished = command_line(cache, *arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_resolve_prints_yaml_with_the_place_of_each_line(cache: Path) -> None:
    finished = command_line(cache, "resolve", str(EXAMPLES / "iris"))
    assert finished.returncode == 0
    spec = yaml.safe_load(finished.stdout)
    assert spec["python"] == "3.11.7"
    assert "scikit-learn==1.7.2" in spec["requirements"]
    assert "conda.yaml: dependencies[2].pip[3]" in finished.stdout


def test_a_setting_that_cannot_be_read_is_an_error_like_others(cache: Path) -> None:
    finished = command_line(cache, "resolve", str(EXAMPLES / "iris"), "--json", ENVBUILDER_FIND_LINKS="/srv/wheels")
    assert finished.returncode == 2
    assert json.loads(finished.stdout)["error"]["problems"][0]["where"]["file"] == "ENVBUILDER_FIND_LINKS"
    assert "error: `/srv/wheels` is a folder of this machine" in finished.stderr


def test_another_python_can_be_chosen(cache: Path) -> None:
    spec = result(cache, "resolve", str(EXAMPLES / "iris"), "--python", "3.12")
    assert spec["python"]["value"] == "3.12"
    assert [item["value"] for item in spec["overridden"]] == ["3.11.7"]


def test_resolve_shows_people_where_each_line_comes_from_and_what_it_replaced(cache: Path) -> None:
    workspace = ("--workspace", str(EXAMPLES / "workspace"))
    finished = command_line(cache, "resolve", str(EXAMPLES / "iris"), *workspace)
    assert "environments/lean.yaml: amend.pip.bump[0]" in finished.stderr
    assert "scikit-learn==1.7.2 (conda.yaml: dependencies[2].pip[3])" in finished.stderr
    assert "the model does not ask for `mlflow`" in finished.stderr
    assert yaml.safe_load(finished.stdout)["environment"] == "lean:1"
    spec = result(cache, "resolve", str(EXAMPLES / "iris"), *workspace)
    (bumped,) = [item for item in spec["requirements"] if item["name"] == "scikit-learn"]
    assert [item["value"] for item in bumped["replaced"]] == ["scikit-learn==1.7.2"]


def test_a_repair_is_named_with_its_reason(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    (tmp_path / "requirements.txt").write_text("mlflow==2.9.2\n")
    finished = command_line(cache, "resolve", str(tmp_path))
    assert "envbuilder: repairs.setuptools-for-pkg-resources" in finished.stderr
    assert "repaired by the rule `setuptools-for-pkg-resources`: it imports pkg_resources" in finished.stderr
    (told,) = result(cache, "resolve", str(tmp_path))["repairs"]
    assert told["name"] == "setuptools-for-pkg-resources"
    assert result(cache, "resolve", str(tmp_path), "--no-repairs")["repairs"] == []


def test_diff_exits_with_1_where_two_specs_differ(cache: Path) -> None:
    workspace = ("--workspace", str(EXAMPLES / "workspace"))
    iris = str(EXAMPLES / "iris")
    finished = command_line(cache, "diff", iris, "lean", *workspace)
    assert finished.returncode == 1
    assert "requirements: -scikit-learn==1.7.2  +scikit-learn==1.7.1\n" in finished.stdout
    assert "variables: +OMP_NUM_THREADS=1\n" in finished.stdout
    same = command_line(cache, "diff", iris, iris, *workspace)
    assert (same.returncode, same.stdout) == (0, "no difference\n")


def test_environments_are_registered_listed_and_shown(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.yaml").write_text("environments: {gpu: {labels: {tested: '1'}}}\n")
    file = tmp_path / "gpu.yaml"
    file.write_text(
        "name: gpu\ndescription: for tests\nimage: python:3.11-slim\nconda_file: {dependencies: [python=3.11]}\n"
    )
    where = ("--workspace", str(tmp_path))
    assert command_line(cache, "environment", "register", str(file), *where).stdout == "gpu:1\n"
    again = result(cache, "environment", "register", str(file), *where)
    assert (again["reference"], again["existed"]) == ("gpu:1", True)
    file.write_text(file.read_text().replace("3.11-slim", "3.12-slim"))
    refused = command_line(cache, "environment", "register", str(file), "--version", "1", *where)
    assert refused.returncode == 2
    assert "registered with other content" in refused.stderr
    (row,) = result(cache, "environment", "list", *where)
    assert (row["reference"], row["labels"], row["kind"]) == ("gpu:1", ["latest", "tested"], "replacement")
    shown = yaml.safe_load(command_line(cache, "environment", "show", "gpu@tested", *where).stdout)
    assert shown["conda_file"] == {"dependencies": ["python=3.11"]}


def test_the_folder_one_is_in_is_the_workspace_where_it_holds_one(cache: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "envbuilder", "resolve", str(EXAMPLES / "iris"), "-q"],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache)},
        cwd=EXAMPLES / "workspace",
        capture_output=True,
        text=True,
        check=True,
    )
    assert yaml.safe_load(finished.stdout)["environment"] == "lean:1"
    assert finished.stderr == ""


def test_a_lock_is_written_once_and_the_same_again(cache: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.yml", tmp_path / "b.yml"
    for target in (first, second):
        made = result(cache, "lock", str(EXAMPLES / "iris"), "--engine", "oci", "--base", BASE, "-o", str(target))
        assert made["file"] == str(target)
        assert all(item["sha256"].startswith("sha256:") for item in made["locks"][0]["packages"])
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path) not in first.read_text()
    assert "file:" not in first.read_text()


def test_a_build_prints_reference_and_digest_and_takes_the_lock_given(cache: Path, tmp_path: Path) -> None:
    lock = tmp_path / "scale.conda-lock.yml"
    where = ("--engine", "oci", "--base", BASE)
    made = result(cache, "lock", str(EXAMPLES / "scale"), *where, "-o", str(lock))
    finished = command_line(cache, "build", str(EXAMPLES / "scale"), *where, "--lock", str(lock), "-t", "cli-scale:1")
    assert finished.returncode == 0, finished.stderr
    assert re.fullmatch(r"cli-scale:1@sha256:[0-9a-f]{64}\n", finished.stdout)
    assert "tried" in finished.stderr or "existed already" in finished.stderr
    again = result(cache, "build", str(EXAMPLES / "scale"), *where, "--lock", str(lock), "-t", "cli-scale:1")
    assert again["lock_digest"] == made["locks"][0]["digest"]
    assert again["existed"] is True


def test_render_writes_a_context_and_refuses_to_overwrite_one(cache: Path, tmp_path: Path) -> None:
    target = tmp_path / "context"
    arguments = ("render", str(EXAMPLES / "scale"), "--engine", "oci", "--base", BASE, "-o", str(target))
    written = result(cache, *arguments)
    assert "Dockerfile" in written["files"]
    assert (target / "Dockerfile").read_text().startswith("# Generated by envbuilder")
    assert command_line(cache, *arguments).returncode == 2


def test_run_serves_until_it_is_told_to_stop(cache: Path) -> None:
    built = result(cache, "build", str(EXAMPLES / "scale"), "--engine", "oci", "--base", BASE, "-t", "cli-run:1")
    child = subprocess.Popen(
        [sys.executable, "-m", "envbuilder", "run", built["reference"], "-p", str(free_port())],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), "DOCKER_HOST": "unix:///nowhere.sock"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{url}/ping", timeout=5) as response:
                    assert response.status == 200
                    break
            except OSError:
                assert time.monotonic() < deadline, "not ready within 60 s"
                time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGINT)
        _, log = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in log
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/ping", timeout=5)


def test_run_on_a_port_that_is_taken_says_so(cache: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finished = command_line(cache, "run", "any:1", "--engine", "oci", "-p", str(taken.getsockname()[1]))
    assert finished.returncode == 12
    assert "cannot be used (Address already in use)" in finished.stderr


def test_run_of_an_unknown_image_says_what_was_looked_at(cache: Path) -> None:
    finished = command_line(cache, "run", "never-built:1", "--engine", "oci")
    assert finished.returncode == 3
    assert "has no image of that name" in finished.stderr
    assert "envbuilder build" in finished.stderr


def test_doctor_looks_at_everything(cache: Path) -> None:
    finished = command_line(cache, "doctor", "--json")
    subjects = {item["subject"]: item for item in json.loads(finished.stdout)}
    assert {
        "engine docker",
        "engine podman",
        "engine oci",
        "package index",
        "Debian mirror",
        "cache",
    } <= subjects.keys()
    assert subjects["package index"]["ok"]
    assert all(item["fix"] for item in subjects.values() if not item["ok"])


def test_a_bug_says_so_and_leaves_a_report(tmp_path: Path) -> None:
    script = (
        "from envbuilder import model_environment\n"
        "def broken(*arguments, **options): raise ZeroDivisionError('provoked by https://u:canary@h/simple')\n"
        "model_environment.resolve = broken\n"
        "from envbuilder.cli import main\n"
        f"main(['resolve', {str(EXAMPLES / 'iris')!r}])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 70
    assert "bug of envbuilder" in finished.stderr
    (report,) = (tmp_path / "logs").glob("bug-*.txt")
    assert "ZeroDivisionError: provoked by https://***@h/simple" in report.read_text()
    assert "canary" not in finished.stderr + report.read_text().replace(script, "")


def test_the_readme_names_every_verb_and_exit_code(cache: Path) -> None:
    from envbuilder import errors  # noqa: PLC0415

    readme = (REPOSITORY / "README.md").read_text()
    helped = command_line(cache, "--help").stdout
    verbs = re.findall(r"^  (\w+)  ", helped, re.MULTILINE)
    assert verbs == [
        *("resolve", "diff", "environment", "lock", "render", "build", "run"),
        *("serve", "predict", "reproduce", "verify", "audit", "cache", "doctor"),
    ]
    for verb in verbs:
        assert f"| `{verb} " in readme or f"| `{verb}`" in readme
    codes = {kind.exit_code for kind in errors.EnvBuilderError.__subclasses__()}
    table = readme[readme.index("## Exit codes") : readme.index("## How it works")]
    for code in codes:
        assert re.search(rf"\| {code}[ ,|]", table), f"exit code {code} is not in the README"


def test_the_readmes_session_holds(cache: Path, tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    session = readme[readme.index("## A session") :]
    lines = re.findall(r"^\$ (envbuilder (?:resolve|diff|environment|lock|build)[^#\n]*)", session, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        words = [word.replace("examples/", f"{EXAMPLES}/") for word in shlex.split(line)[1:]]
        finished = subprocess.run(
            [sys.executable, "-m", "envbuilder", *words],
            env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), "DOCKER_HOST": "unix:///nowhere.sock"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == (1 if words[0] == "diff" else 0), (line, finished.stderr)
