from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder.server import losses
from envbuilder.server.contract import Contract
from envbuilder.server.invalid_input import InvalidInputError
from tests.server.served import run_cases

if TYPE_CHECKING:
    from pathlib import Path

TENSOR = {"type": "tensor", "name": "x", "tensor-spec": {"dtype": "int32", "shape": [-1, 2]}}


def check(kind: str | dict[str, Any], form: str, content: object) -> str | None:
    entry = kind if isinstance(kind, dict) else {"type": kind, "name": "x"}
    try:
        losses.check(form, content, Contract({"signature": {"inputs": [entry]}}))
    except InvalidInputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("kind", "cell", "why"),
    [
        ("integer", 1.5, "a fraction"),
        ("integer", 3_000_000_000, "a number out of range"),
        ("integer", 1e300, "a number out of range"),
        ("integer", float("inf"), "a number out of range"),
        ("integer", -(2**31), None),
        ("integer", 1.0, None),
        ("integer", "1", None),
        ("long", 2**63, "a number out of range"),
        ("long", 2**63 - 1, None),
        ("float", 1e300, "a number out of range"),
        ("float", 1e38, None),
        ("float", float("inf"), None),
        ("double", 1e300, None),
        ("boolean", "false", "str that is neither true nor false"),
        ("boolean", None, "null that is neither true nor false"),
        ("boolean", 2, "int that is neither true nor false"),
        ("boolean", 1, None),
        ("boolean", True, None),
        ("datetime", 0, "a number that is no date"),
        ("datetime", "2021-01-02", None),
        ("binary", "!!!", "text that is not base64"),
        ("binary", "YWJj\n", None),
        ("string", 1.5, None),
    ],
)
@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "dataframe_split without columns"])
def test_a_value_that_would_become_another_is_refused(form: str, kind: str, cell: object, why: str | None) -> None:
    entry: dict[str, Any] = {"type": kind, "name": "x"}
    content: object = [{"y": 1, "x": cell}]
    if form.startswith("dataframe_split"):
        content = {"columns": ["y", "x"], "data": [[1, cell]]}
    if form.endswith("without columns"):
        entry, content = {"type": kind}, {"data": [[cell]]}
    said = check(entry, form.split(maxsplit=1)[0], content)
    if why is None:
        assert said is None
    else:
        assert said is not None
        assert said.endswith(f"to type '{kind}'. Error: '{why} in row 0'")


@pytest.mark.parametrize("content", [[[1, 2.5]], {"x": [[1, 2], [3, 4.5]]}, [{"x": [1, 2]}, {"x": [2**40, 0]}]])
def test_tensors_are_checked_in_every_form(content: object) -> None:
    said = check(TENSOR, "inputs", content)
    assert said is not None
    assert "x" in said


@pytest.mark.parametrize("content", [None, 1, "x", {}, [], {"data": 1}, {"data": [1]}, {"columns": 1, "data": [[1]]}])
@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_what_has_another_form_is_left_to_the_parser(form: str, content: object) -> None:
    assert check("double", form, content) is None


REQUESTS = {
    "iris": [
        {"dataframe_split": {"columns": ["sepal length (cm)", "q"], "data": [["CANARY", 1]]}},
        {"dataframe_split": {"columns": ["CANARY"], "data": [["CANARY"]]}},
        {"dataframe_records": [{"sepal length (cm)": "CANARY"}]},
        {"instances": "CANARY"},
        {"inputs": {"sepal length (cm)": ["CANARY"]}},
        {"inputs": {"sepal length (cm)": [[1], "CANARY"]}},
        {"CANARY": 1},
    ],
    "params": [
        {"dataframe_records": [{"x": 1.5}], "params": {"factor": "CANARY"}},
        {"dataframe_records": [{"x": 1.5}], "params": "CANARY"},
    ],
}


@pytest.mark.process
@pytest.mark.network
@pytest.mark.parametrize("environment", ["model_python", "bare_python"], ids=["with MLflow", "without MLflow"])
def test_errors_do_not_repeat_the_data(
    environment: str, models: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    asked = [
        {"model": model, "content_type": "application/json", "body": json.dumps(one).encode().hex()}
        for model, requests in REQUESTS.items()
        for one in requests
    ]
    answers = run_cases(request.getfixturevalue(environment), models, asked, tmp_path)
    for case, (status, body) in zip(asked, answers, strict=True):
        assert status == 400, (case, body)
        # The name of an unknown column is told: who sends it looks for it.
        message = body["message"].replace("extra inputs: ['CANARY']", "")
        assert "CANARY" not in message, (bytes.fromhex(case["body"]), message)


ECHO = """\
class Echo:
    def predict(self, data):
        return data["x"].tolist()

def _load_pyfunc(path):
    return Echo()
"""


@pytest.mark.process
@pytest.mark.network
def test_a_setting_asks_for_mlflows_behaviour(bare_python: str, tmp_path: Path) -> None:
    model = tmp_path / "echo"
    (model / "code").mkdir(parents=True)
    (model / "code" / "echo_loader.py").write_text(ECHO)
    signature = json.dumps({"inputs": json.dumps([{"type": "integer", "name": "x"}])})
    flavor = "flavors: {python_function: {loader_module: echo_loader, code: code}}"
    (model / "MLmodel").write_text(f"{flavor}\nsignature: {signature}\n")
    body = json.dumps({"dataframe_records": [{"x": 1.5}]}).encode().hex()
    asked = [{"model": "echo", "content_type": "application/json", "body": body}]
    ((status, refusal),) = run_cases(bare_python, tmp_path, asked, tmp_path)
    assert (status, "a fraction in row 0" in refusal["message"]) == (400, True)
    answers = run_cases(bare_python, tmp_path, asked, tmp_path, ENVBUILDER_STRICT_MLFLOW="1")
    assert answers == [(200, {"predictions": [1]})]
