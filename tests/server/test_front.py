from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]

JSON = {"content-type": "application/json"}


def test_a_classifier_answers_in_each_form(shared_server: Callable[[str], Served], models: Path) -> None:
    served = shared_server("iris")
    example = json.loads((models / "iris" / "serving_input_example.json").read_text())
    split = example["dataframe_split"]
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    columns = {name: [row[name] for row in records] for name in split["columns"]}
    for form in (example, {"dataframe_records": records}, {"instances": records}, {"inputs": columns}):
        assert served.ask(form) == (200, {"predictions": [0, 0, 0]})
    csv = "\n".join((",".join(split["columns"]), *(",".join(map(str, row)) for row in split["data"])))
    status, headers, body = served.request("POST", "/invocations", csv.encode(), {"content-type": "text/csv"})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {"predictions": [0, 0, 0]}


def test_health_and_version_are_mlflows(shared_server: Callable[[str], Served]) -> None:
    served = shared_server("iris")
    for path, expected in (("/ping", b"\n"), ("/health", b"\n"), ("/version", b"3.17.2")):
        status, headers, body = served.request("GET", path)
        assert (status, headers["content-type"], body) == (200, "application/json", expected)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/invocations", 405), ("POST", "/other", 404)])
def test_wrong_addresses_get_a_detail(
    shared_server: Callable[[str], Served], method: str, path: str, status: int
) -> None:
    answer = shared_server("iris").request(method, path, b"")
    assert answer[0] == status
    assert list(json.loads(answer[2])) == ["detail"]


def test_a_missing_content_type_is_415(shared_server: Callable[[str], Served]) -> None:
    status, headers, body = shared_server("iris").request("POST", "/invocations", b"{}")
    assert (status, headers["content-type"]) == (415, "text/plain; charset=utf-8")
    assert body.endswith(b"Got ''.")


def test_the_signature_is_enforced(shared_server: Callable[[str], Served]) -> None:
    status, body = shared_server("iris").ask({"dataframe_records": [{"sepal length (cm)": 1}]})
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "Model is missing inputs" in body["message"]


def test_params_reach_the_model(shared_server: Callable[[str], Served]) -> None:
    served = shared_server("params")
    data = {"dataframe_records": [{"x": 3}]}
    assert served.ask(data) == (200, {"predictions": [6.0]})
    assert served.ask({**data, "params": {"factor": 5.0}}) == (200, {"predictions": [15.0]})
    assert served.ask({**data, "params": {"factor": "x"}})[0] == 400


def test_what_a_model_prints_goes_to_the_log(shared_server: Callable[[str], Served]) -> None:
    served = shared_server("echo")
    assert served.ask({"messages": [{"role": "user"}]}) == (200, {"messages": [{"role": "user"}]})
    assert "printed by the model" in served.log.read_text()
    assert "written by the model" in served.log.read_text()


def test_a_large_body_survives(shared_server: Callable[[str], Served]) -> None:
    rows = [{"a": index, "text": "x" * 100} for index in range(20_000)]
    assert shared_server("echo").ask({"dataframe_records": rows}) == (200, {"predictions": rows})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("nan", [1.0, None, None]),
        ("array", [[1.5, None]]),
        ("scalars", {"i": 1, "f": 0.5, "b": True, "keys": {"3": 1}}),
        ("dates", ["2021-01-02T03:04:05", None]),
        ("frame", [{"a": 1.0, "t": "2021-01-01T00:00:00"}, {"a": None, "t": None}]),
        ("bytes", base64.encodebytes(b"abc").decode()),
    ],
)
def test_answers_are_valid_json(shared_server: Callable[[str], Served], kind: str, expected: object) -> None:
    assert shared_server("acting").act(kind) == (200, {"predictions": expected})


def test_an_answer_without_a_json_form_is_an_internal_error(shared_server: Callable[[str], Served]) -> None:
    status, body = shared_server("acting").act("object")
    assert (status, body["error_code"]) == (500, "INTERNAL_ERROR")
    assert "cannot be written as JSON" in body["message"]


def test_an_exception_in_the_model_keeps_its_trace_in_the_log(shared_server: Callable[[str], Served]) -> None:
    served = shared_server("acting")
    status, body = served.act("raise")
    assert (status, body["error_code"]) == (400, "BAD_REQUEST")
    assert "stack_trace" not in body
    assert "ArithmeticError: the reactor" in served.log.read_text()


def test_the_limit_of_the_body_holds_with_and_without_a_length(serve: Callable[..., Served]) -> None:
    served = serve("echo", ENVBUILDER_MAX_BODY_BYTES="1000")
    assert served.request("POST", "/invocations", b"x" * 1001, JSON)[0] == 413
    connection = served.connect()
    connection.request("POST", "/invocations", iter([b"x" * 600, b"x" * 600]), JSON, encode_chunked=True)
    assert connection.getresponse().status == 413
    assert served.ask({"inputs": [1]})[0] == 200
