"""Answers without data frames, and several requests answered by one prediction."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.served import WORKER, environment_for, write_contract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.process, pytest.mark.network]

JSON = "application/json"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def native_models(bare_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run((bare_python, HERE / "make_native_models.py", folder), check=True)
    return folder


@pytest.fixture(scope="module")
def ask(
    native_models: Path, bare_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Ask a model lists of requests, each list at once."""
    contract = tmp_path_factory.mktemp("contract") / "contract.json"
    with subprocess.Popen(
        (bare_python, "-I", HERE / "ask_worker.py", WORKER),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment_for("", bare_python),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def ask_worker(model: str, *asked: list[tuple[str, str]], **environment: str) -> Any:  # noqa: ANN401
            told = write_contract(native_models / model, contract)
            job = {"model": str(native_models / model), "asked": asked, "environment": {**told, **environment}}
            requests.write(json.dumps(job).encode() + b"\n")
            requests.flush()
            return json.loads(answers.readline())

        yield ask_worker
        requests.close()


def split(*rows: Sequence[object], columns: str = "abc") -> tuple[str, str]:
    return JSON, json.dumps({"dataframe_split": {"columns": list(columns), "data": rows}})


UNUSUAL = {
    "null": split([None, 1, 2]),
    "a text": split(["1.5", 1, 2]),
    "true": split([True, 1, 2]),
    "a large integer": split([2**70, 1, 2]),
    "other order": split([3, 2, 1], columns="cba"),
    "one column more": split([1, 2, 3, 4], columns="abcd"),
    "one column less": split([1, 2], columns="ab"),
    "rows of different lengths": split([1, 2, 3], [1, 2]),
    "no rows": split(),
    "a list in a cell": split([[1], 2, 3]),
    "twice a column": split([1, 2, 3], columns="aab"),
    "fractions": split([1.5, 2, 3]),
    "records": (JSON, json.dumps({"dataframe_records": [{"a": 1, "b": 2, "c": 3}, {"c": 1, "b": 2, "a": 3}]})),
    "uneven records": (JSON, json.dumps({"dataframe_records": [{"a": 1, "b": 2, "c": 3}, {"c": 1}]})),
    "instances": (JSON, json.dumps({"instances": [{"a": 1, "b": 2, "c": 3}]})),
    "rows of instances": (JSON, json.dumps({"instances": [[1, 2, 3]]})),
    "inputs": (JSON, json.dumps({"inputs": {"c": [1, 2], "b": [3, 4], "a": [5, 6]}})),
    "uneven inputs": (JSON, json.dumps({"inputs": {"c": [1, 2], "b": [3], "a": [5, 6]}})),
    "parameters": (JSON, '{"params": {"x": 1}, "inputs": {"a": [1], "b": [1], "c": [1]}}'),
    "no number": (JSON, '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[NaN, 1, 1]]}}'),
    "no object": (JSON, "[1]"),
    "nothing": (JSON, ""),
    "csv": ("text/csv", "a,b,c\n1,2,3\n"),
}


@pytest.mark.parametrize("model", ["linear", "integers"])
def test_the_short_way_answers_as_the_long_one_whatever_the_request(model: str, ask: Callable[..., Any]) -> None:
    asked = [[request] for request in UNUSUAL.values()]
    short, long = ask(model, *asked), ask(model, *asked, ENVBUILDER_DIRECT="0")
    assert (short["direct"], long["direct"]) == (True, False)
    for name, one, other in zip(UNUSUAL, short["asked"], long["asked"], strict=True):
        assert one["answers"] == other["answers"], name


@pytest.mark.parametrize("model", ["columns", "by_name", "texts"])
def test_a_model_that_answers_arrays_otherwise_gets_data_frames(model: str, ask: Callable[..., Any]) -> None:
    assert ask(model)["direct"] is False


def test_requests_of_a_row_wise_model_are_one_prediction(ask: Callable[..., Any]) -> None:
    requests = [split([1, 2, 3], [4, 5, 6]), split([7, 8, 9.5]), split([3, 2, 1], columns="cba")]
    alone = ask("picky", *[[one] for one in requests])
    together = ask("picky", requests, ENVBUILDER_ROW_WISE="1")["asked"][0]
    assert together["rows"] == [4]
    assert together["answers"] == [one["answers"][0] for one in alone["asked"]]
    assert [body["predictions"] for _, body in together["answers"]] == [[6, 15], [24.5], [6]]


def test_a_model_that_is_not_declared_row_wise_is_asked_once_for_each_request(ask: Callable[..., Any]) -> None:
    found = ask("picky", [split([1, 2, 3]), split([1, 2, 3])])
    assert (found["row_wise"], found["asked"][0]["rows"]) == (False, [1, 1])


def test_a_models_metadata_declares_it_row_wise_and_a_setting_has_the_last_word(ask: Callable[..., Any]) -> None:
    assert ask("declared")["row_wise"] is True
    assert ask("declared", ENVBUILDER_ROW_WISE="0")["row_wise"] is False


@pytest.mark.parametrize("way", ["1", "0"], ids=["arrays", "data frames"])
def test_a_bad_request_of_a_batch_fails_alone(way: str, ask: Callable[..., Any]) -> None:
    bad = [split([-7777.5, 2, 3]), split([1, 2], columns="ab"), (JSON, "{"), ("text/csv", "\xff")]
    requests = [split([1, 2, 3]), bad[0], split([4, 5, 6]), *bad[1:]]
    answers = ask("picky", requests, ENVBUILDER_ROW_WISE="1", ENVBUILDER_DIRECT=way)["asked"][0]["answers"]
    assert [status for status, _ in answers] == [200, 400, 200, 400, 400, 400]
    assert (answers[0][1], answers[2][1]) == ({"predictions": [6]}, {"predictions": [15]})
    assert "7777.5" not in json.dumps(answers)


def test_an_answer_that_cannot_be_split_is_asked_for_again(ask: Callable[..., Any]) -> None:
    answers = ask("total", [split([1, 2, 3]), split([4, 5, 6])], ENVBUILDER_ROW_WISE="1")["asked"][0]["answers"]
    assert answers == [[200, {"predictions": [6]}], [200, {"predictions": [15]}]]


def test_a_batch_is_bounded_by_its_rows(ask: Callable[..., Any]) -> None:
    requests = [split([1, 2, 3], [1, 2, 3]) for _ in range(5)] + [split(*[[1, 2, 3]] * 9)]
    found = ask("picky", requests, ENVBUILDER_ROW_WISE="1", ENVBUILDER_BATCH_ROWS="4")["asked"][0]
    assert found["rows"] == [4, 4, 2, 9]
    assert all(status == 200 for status, _ in found["answers"])


def test_what_is_not_alike_is_predicted_apart(ask: Callable[..., Any]) -> None:
    requests = [split([1, 2, 3]), ("text/csv", "a,b,c\n1,2,3\n"), ("text/csv", "a,b,c\n4,5,6\n"), split([None, 1, 1])]
    found = ask("picky", requests, ENVBUILDER_ROW_WISE="1")["asked"][0]
    assert sum(found["rows"]) == 4
    assert [status for status, _ in found["answers"]] == [200] * 4
