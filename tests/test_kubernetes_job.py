from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from envbuilder.errors import InvalidFileError
from envbuilder.kubernetes_job import KubernetesJob
from tests.conftest import command_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = "registry.example/team/churn@sha256:" + "0" * 64
VERSION = "1.35"


def job(**chosen: Any) -> KubernetesJob:  # noqa: ANN401
    given: dict[str, Any] = {
        "inputs": ("data:2024/in",),
        "output": "results:churn.parquet",
        "shards": 10,
        "name": "churn",
    }
    return KubernetesJob.of(IMAGE, **{**given, **chosen})


def test_a_job_is_what_the_schemas_ask_for_and_says_what_it_was_told() -> None:
    made = job(workers=2, memory="4Gi", parallelism=50, error_threshold=-1)
    text = made.to_text()
    found = yaml.safe_load(text)
    kubernetes_validate.validate(found, VERSION, strict=True)
    assert found == made.to_dict()
    spec = found["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 10, 10)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [
        "predict",
        "--input=/mnt/input/0/2024/in",
        "--output=/mnt/output/churn.parquet",
        "--shard=10",
        "--workers=2",
        "--error-threshold=-1",
    ]
    assert container["volumeMounts"] == [
        {"name": "claim-0", "mountPath": "/mnt/input/0", "readOnly": True},
        {"name": "claim-1", "mountPath": "/mnt/output"},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
    ]
    assert [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"][:2]] == ["data", "results"]
    assert pod["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_one_claim_may_hold_inputs_and_output() -> None:
    made = job(inputs=("data:a", "data:", "more:b.csv"), output="data:out.csv", parallelism=3)
    found = made.to_dict()
    kubernetes_validate.validate(found, VERSION, strict=True)
    pod = found["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["claim-0", "claim-1", "tmp"]
    args = pod["containers"][0]["args"]
    assert args[1:5] == [
        "--input=/mnt/input/0/a",
        "--input=/mnt/input/0",
        "--input=/mnt/input/1/b.csv",
        "--output=/mnt/output/out.csv",
    ]
    assert found["spec"]["parallelism"] == 3


def _misspelt(found: dict[str, Any]) -> None:
    found["spec"]["backoffLimitPerIndx"] = 1


def _mistyped(found: dict[str, Any]) -> None:
    found["spec"]["completions"] = "ten"


def _incomplete(found: dict[str, Any]) -> None:
    del found["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]


@pytest.mark.parametrize("broken", [_misspelt, _mistyped, _incomplete])
def test_the_schemas_refuse_what_is_no_job(broken: Callable[[dict[str, Any]], None]) -> None:
    found = copy.deepcopy(job().to_dict())
    broken(found)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSION, strict=True)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidFileError) as raised:
        job(
            inputs=("in", "Data:x", "data:/x", "data:../x", "data:a/../../x", "data:a\nb"),
            output="data:out.txt",
            name="Churn\n",
            memory="2 GB",
        )
    assert [problem.what for problem in raised.value.problems] == [
        "`in` names no claim",
        "`Data:x` names no claim",
        "`/x` is no path in the claim",
        "`../x` is no path in the claim",
        "`a/../../x` is no path in the claim",
        "`a�b` is no path in the claim",
        "`out.txt` names no file of predictions",
        "`Churn�` is no name of a Job",
        "`2 GB` is no amount of memory",
    ]
    assert all(problem.fix for problem in raised.value.problems)
    with pytest.raises(InvalidFileError) as raised:
        job(inputs=(), output="")
    assert [problem.what for problem in raised.value.problems] == ["no input is named", "`` names no claim"]


@pytest.mark.process
def test_render_writes_a_job(cache: Path, tmp_path: Path) -> None:
    words = ("render", IMAGE, "--job", "4", "--input", "data:in", "--predictions", "data:out.csv", "-o", "job.yaml")
    ended = command_line(cache, *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "job.yaml\n"), ended.stderr
    found = yaml.safe_load((tmp_path / "job.yaml").read_text())
    kubernetes_validate.validate(found, VERSION, strict=True)
    assert (found["metadata"]["name"], found["spec"]["completions"]) == ("churn", 4)
    again = command_line(cache, *words, cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    moving = command_line(cache, "render", "team/churn_1:2", *words[2:-1], "other.yaml", cwd=tmp_path)
    assert "names no digest" in moving.stderr
    assert yaml.safe_load((tmp_path / "other.yaml").read_text())["metadata"]["name"] == "churn-1"
    alone = command_line(cache, "render", "m", "--input", "data:in", "-o", "x", cwd=tmp_path)
    assert (alone.returncode, "are of a Job" in alone.stderr) == (2, True)
