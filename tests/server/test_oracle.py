from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder.server import content_type
from tests.server.served import ROOT, end, run_cases, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]

SHARED = Path(os.environ.get("ENVBUILDER_SHARED") or ROOT.parent / "shared")
CASES = SHARED / "oracle" / "cases-3.17.2.jsonl"
MODELS = SHARED / "oracle" / "models-3.17.2"

# Where the answers differ from those of MLflow's server on purpose: (model, content type, note or request) -> reason.
DIFFERENCES: dict[tuple[str, str | None, str], str] = {
    ("named_double", None, "no content type"): "a missing header is refused with 415; there the server fails with 500",
    ("out", "application/json", "df"): "NaN is not JSON: null",
    ("all_types", "application/json", "boolean=None"): "null is not False: refused",
    ("all_types", "application/json", "boolean='x'"): "a text is not True: refused",
    ("all_types", "application/json", "integer=1.5"): "1.5 is not 1: refused",
    ("all_types", "application/json", "datetime=0"): "a number is no date: refused",
    ("out", "application/json", "nan"): "NaN and Infinity are not JSON: null",
}


def _read(text: str) -> bytes:
    """Requests that are not text were recorded as Python's bytes literals."""
    return ast.literal_eval(text) if text.startswith("b'") else text.encode()


def _request(case: dict[str, Any]) -> tuple[str, bytes] | str:
    """Return what goes to a worker, or the text of the refusal."""
    try:
        return content_type.parse(case["content_type"]), _read(case["request"])
    except content_type.UnsupportedContentTypeError as error:
        return str(error)


@pytest.mark.skipif(not CASES.is_file(), reason=f"no recorded answers at {CASES.parent}")
def test_answers_are_those_of_mlflows_server(model_python: str, tmp_path: Path) -> None:
    cases = _cases()
    answers: list[tuple[int, Any]] = []
    asked = []
    for case in cases:
        request = _request(case)
        answers.append((415, request))
        if not isinstance(request, str):
            asked.append(
                (len(answers) - 1, {"model": case["model"], "content_type": request[0], "body": request[1].hex()})
            )
    for (index, _), answer in zip(
        asked, run_cases(model_python, MODELS, [case for _, case in asked], tmp_path), strict=True
    ):
        answers[index] = answer
    _compare(cases, answers)


@pytest.mark.skipif(not CASES.is_file(), reason=f"no recorded answers at {CASES.parent}")
def test_answers_over_http_are_the_same_without_mlflow_in_the_environment(bare_python: str, tmp_path: Path) -> None:
    cases = _cases()
    answers: dict[int, tuple[int, Any]] = {}
    for model in dict.fromkeys(case["model"] for case in cases):
        served = start(MODELS / model, bare_python, tmp_path)
        try:
            served.wait_ready()
            for index, case in enumerate(cases):
                if case["model"] == model:
                    answers[index] = _ask(served, case)
        finally:
            end(served)
    _compare(cases, [answers[index] for index in range(len(cases))])


def _cases() -> list[dict[str, Any]]:
    return [case for case in map(json.loads, CASES.read_text().splitlines()) if "path" not in case]


def _ask(served: Served, case: dict[str, Any]) -> tuple[int, Any]:
    headers = {} if case["content_type"] is None else {"content-type": case["content_type"]}
    status, sent, body = served.request("POST", "/invocations", _read(case["request"]), headers)
    return status, json.loads(body) if sent["content-type"] == "application/json" else body.decode()


def _compare(cases: list[dict[str, Any]], answers: list[tuple[int, Any]]) -> None:
    differing, same_text = {}, 0
    for case, (status, body) in zip(cases, answers, strict=True):
        if _comparable(case["status"], case["body"]) != _comparable(status, body):
            differing[case["model"], case["content_type"], case["note"] or case["request"]] = (case, status, body)
        same_text += _without_trace(case["body"]) == body
    print(f"{len(cases) - len(differing)} of {len(cases)} answers match, {same_text} to the letter")
    unexplained = [value for key, value in differing.items() if key not in DIFFERENCES]
    assert not unexplained, "\n".join(map(str, unexplained))
    assert set(DIFFERENCES) == set(differing), "a difference that is gone"


@pytest.mark.skipif(not CASES.is_file(), reason=f"no recorded answers at {CASES.parent}")
def test_addresses_answer_as_those_of_mlflows_server(shared_server: Callable[[str], Served]) -> None:
    cases = [case for case in map(json.loads, CASES.read_text().splitlines()) if "path" in case]
    assert cases
    for case in cases:
        status, headers, body = shared_server("iris").request(case["method"], case["path"], None)
        assert (status, headers["content-type"], body.decode()) == (case["status"], case["ctype"], case["body"])


def _comparable(status: int, body: object) -> object:
    """An error is its status and code; its text may carry a set in any order, or another library's words."""
    return (status, body["error_code"]) if isinstance(body, dict) and "error_code" in body else (status, repr(body))


def _without_trace(body: object) -> object:
    """Stack traces are not sent to clients."""
    return {key: value for key, value in body.items() if key != "stack_trace"} if isinstance(body, dict) else body
