"""`envbuilder predict` from one end to the other: models and images come to what MLflow's own server answers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import batch, stages
from envbuilder.batch import Batch
from envbuilder.choices import Choices
from envbuilder.errors import InvalidFileError, PredictionFailedError, ServingFailedError
from tests.conftest import BASE, EXAMPLES, command_line, expected

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.choices import EngineName
    from envbuilder.machine import Machine


def requests(example: str, folder: Path) -> list[tuple[Path, dict[str, Any] | None, list[Any]]]:
    """Write the rows of each good request as json lines; return these with their parameters and the predictions."""
    found = []
    for number, case in enumerate(expected(example)):
        request = case["request"]
        if case["status"] != 200:
            continue
        ((form, content),) = ((key, value) for key, value in request.items() if key != "params")
        if form == "dataframe_split":
            content = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
        elif isinstance(content, dict):
            content = [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]
        path = folder / f"{example}-{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        wanted = case["body"]["predictions"]
        if isinstance(wanted, dict):
            wanted = [dict(zip(wanted, row, strict=True)) for row in zip(*wanted.values(), strict=True)]
        found.append((path, request.get("params"), wanted))
    assert found
    return found


def predictions(output: Path) -> list[Any]:
    """Return what was predicted, as a server would say it."""
    found = []
    for number, line in enumerate(output.read_text().splitlines()):
        row = json.loads(line)
        assert row.pop("row") == number
        assert row.pop("file_name").endswith(".jsonl")
        named = {key.removeprefix("prediction."): value for key, value in row.items()}
        found.append(named["prediction"] if list(named) == ["prediction"] else named)
    return found


def answers(given: str, example: str, folder: Path, machine: Machine, engine: EngineName = "auto") -> None:
    folder.mkdir()
    for path, params, wanted in requests(example, folder):
        output = path.with_suffix(".out.jsonl")
        report = batch.predict(
            given, Batch(inputs=(path,), output=output, params=params), Choices(), engine=engine, machine=machine
        )
        assert (report.output, report.rows, report.failed, report.failures) == (output, len(wanted), 0, None)
        assert predictions(output) == wanted


@pytest.mark.process
@pytest.mark.network
@pytest.mark.parametrize("example", ["iris", "text", "scale", "trees", "boost", "graph"])
def test_a_model_predicts_what_its_server_answers(example: str, machine: Machine, tmp_path: Path) -> None:
    answers(str(EXAMPLES / example), example, tmp_path / "local", machine)


@pytest.mark.process
@pytest.mark.network
@pytest.mark.parametrize("example", ["iris", "text", "scale"])
def test_an_image_of_the_embedded_engine_does_too(example: str, machine: Machine, tmp_path: Path) -> None:
    name = f"batch-{example}:1"
    stages.build(EXAMPLES / example, Choices(engine="oci", base=BASE, tag=name), machine=machine)
    answers(name, example, tmp_path / "oci", machine, "oci")


@pytest.mark.engine
@pytest.mark.process
@pytest.mark.network
def test_an_image_of_docker_does_too_and_what_it_writes_is_ours(docker_machine: Machine, tmp_path: Path) -> None:
    stages.build(EXAMPLES / "text", Choices(engine="docker", base=BASE, tag="batch-text:1"), machine=docker_machine)
    answers("batch-text:1", "text", tmp_path / "docker", docker_machine, "docker")
    assert {path.stat().st_uid for path in (tmp_path / "docker").iterdir()} == {os.getuid()}


@pytest.mark.process
@pytest.mark.network
def test_an_image_tells_what_is_wrong_in_the_places_of_this_machine(machine: Machine, tmp_path: Path) -> None:
    stages.build(EXAMPLES / "scale", Choices(engine="oci", base=BASE, tag="batch-scale:1"), machine=machine)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.csv").write_text("value\n1\nx\n")
    wanted = Batch(inputs=(tmp_path / "in",), output=tmp_path / "out.csv")
    with pytest.raises(PredictionFailedError, match=r"bad\.csv, row 1, column `value`: a text where a double"):
        batch.predict("batch-scale:1", wanted, Choices(), engine="oci", machine=machine)
    (tmp_path / "in/other.txt").touch()
    with pytest.raises(InvalidFileError) as raised:
        batch.predict("batch-scale:1", wanted, Choices(), engine="oci", machine=machine)
    assert f"`{tmp_path}/in/other.txt` is of no kind" in raised.value.problems[0].what
    with pytest.raises(InvalidFileError, match="does not exist"):
        batch.predict("batch-scale:1", replace(wanted, inputs=(tmp_path / "none",)), Choices(), machine=machine)


@pytest.mark.process
@pytest.mark.network
def test_the_command_predicts_prints_its_output_and_has_nothing_to_do_again(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("value\n" + "1.5\n" * 50)
    words = ("predict", str(EXAMPLES / "scale"), "-i", "in.csv", "-o", "out.csv", "--params", '{"factor": 4}')
    ended = command_line(cache, *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "out.csv\n"), ended.stderr
    assert "50 rows" in ended.stderr
    assert (tmp_path / "out.csv").read_text() == "row,prediction,file_name\n" + "".join(
        f"{row},6.0,in.csv\n" for row in range(50)
    )
    again = command_line(cache, *words, "--json", cwd=tmp_path)
    assert {**json.loads(again.stdout), "seconds": 0} == {
        "output": "out.csv",
        "rows": 50,
        "failed": 0,
        "files": 1,
        "failures": None,
        "seconds": 0,
    }
    other = command_line(cache, *words[:-2], cwd=tmp_path)
    assert (other.returncode, "is not the output of this run" in other.stderr) == (2, True)


@pytest.mark.process
@pytest.mark.network
def test_rows_that_may_fail_are_told_with_their_list(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("value\n1\nmany\n")
    words = ("predict", str(EXAMPLES / "scale"), "-i", "in.csv", "-o", "out.csv")
    refused = command_line(cache, *words, cwd=tmp_path)
    assert refused.returncode == PredictionFailedError.exit_code
    assert "in.csv, row 1, column `value`: a text where a double is expected" in refused.stderr
    allowed = command_line(cache, *words, "--error-threshold", "1", cwd=tmp_path)
    assert (allowed.returncode, "see out.csv.failures.jsonl" in allowed.stderr) == (0, True)


@pytest.mark.process
@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--params", "[1]"), "is no JSON object"),
        (("--params", "{"), "is no JSON object"),
        (("--shard", "3/3"), "`3/3` is no shard of 3: they are 0 to 2"),
        (("--shard", "3"), "`3` names no index, and JOB_COMPLETION_INDEX is not set"),
        (("-o", "absent/out.csv"), "the output's directory does not exist"),
    ],
    ids=["list", "cut", "shard", "index", "folder"],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    more: tuple[str, ...], what: str, cache: Path, tmp_path: Path
) -> None:
    words = ("predict", str(EXAMPLES / "scale"), "-i", "in.csv", "-o", "out.csv", *more)
    ended = command_line(cache, *words, cwd=tmp_path)
    assert ended.returncode == InvalidFileError.exit_code
    assert what in ended.stderr


@pytest.mark.process
@pytest.mark.network
def test_a_model_that_does_not_load_is_told(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in (EXAMPLES / "scale").iterdir():
        if path.is_file():
            (model / path.name).write_bytes(path.read_bytes())
    (model / "scale_model.py").write_text("raise RuntimeError('the weights are gone')\n")
    (tmp_path / "in.csv").write_text("value\n1\n")
    wanted = Batch(inputs=(tmp_path / "in.csv",), output=tmp_path / "out.csv")
    with pytest.raises(ServingFailedError, match="the weights are gone"):
        batch.predict(str(model), wanted, Choices(), machine=machine)
