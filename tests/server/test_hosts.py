"""The contracts of hosts other than MLflow, asked of running servers."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.server.served import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]

JSON = {"content-type": "application/json"}


@pytest.fixture
def split(models: Path) -> dict[str, list[object]]:
    example = json.loads((models / "iris" / "serving_input_example.json").read_text())
    found: dict[str, list[object]] = example["dataframe_split"]
    return found


def post(served: Served, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], object]:
    status, found, answer = served.request("POST", path, json.dumps(body).encode(), {**JSON, **headers})
    return status, found, json.loads(answer)


def test_azure_gets_bare_predictions_and_its_headers(
    shared_server: Callable[[str], Served], split: dict[str, list[object]]
) -> None:
    served = shared_server("iris")
    assert served.request("GET", "/")[::2] == (200, b"Healthy")
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]  # type: ignore[call-overload]
    for data in (split, {**split, "index": [0, 1, 2]}, records):
        asked = {"x-ms-client-request-id": "mine", "x-request-id": "other"}
        status, headers, body = post(served, "/score", {"input_data": data}, **asked)
        assert (status, body) == (200, [0, 0, 0])
        assert headers["x-ms-run-function-failed"] == "False"
        assert float(headers["x-ms-run-fn-exec-ms"]) > 0
        assert headers["x-ms-client-request-id"] == headers["x-ms-request-id"] == "mine"
        assert headers["x-request-id"] == "other"
    query = json.dumps(split).replace(" ", "%20").replace('"', "%22")
    assert served.request("GET", f"/score?input_data={query}")[::2] == (200, b"[0, 0, 0]")
    assert served.request("OPTIONS", "/score")[::2] == (200, b"")


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b'{"inputs": []}', "application/json", 400, "A value is not provided for the 'input_data' parameter."),
        (b"[]", "application/json", 400, "not a JSON object"),
        (b"{", "application/json", 400, "not valid JSON"),
        (b"{}", "text/csv", 415, "Expects Content-Type to be application/json"),
        (b'{"input_data": {"columns": ["x"], "data": [[1]]}}', "application/json", 400, "Model is missing inputs"),
    ],
)
def test_azures_errors_have_a_message_and_say_what_is_wrong_with_the_data(
    body: bytes, kind: str, status: int, message: str, shared_server: Callable[[str], Served]
) -> None:
    answer = shared_server("iris").request("POST", "/score", body, {"content-type": kind})
    assert answer[0] == status
    told = json.loads(answer[2])
    assert list(told) == ["message"]
    assert message in told["message"]


def test_the_open_inference_protocol_is_spoken(
    shared_server: Callable[[str], Served], split: dict[str, list[object]]
) -> None:
    served = shared_server("iris")
    assert json.loads(served.request("GET", "/v2")[2])["name"] == "envbuilder"
    assert served.request("GET", "/v2/health/live")[::2] == (200, b'{"live":true}')
    assert served.request("GET", "/v2/health/ready")[0] == 200
    assert json.loads(served.request("GET", "/v2/models/iris/ready")[2]) == {"name": "iris", "ready": True}
    inputs = [
        {
            "name": name,
            "shape": [len(split["data"]), 1],
            "datatype": "FP64",
            "data": [row[number] for row in split["data"]],  # type: ignore[index]
        }
        for number, name in enumerate(split["columns"])
    ]
    status, _, body = post(served, "/v2/models/iris/versions/3/infer", {"id": "7", "inputs": inputs})
    assert status == 200
    assert body == {
        "model_name": "iris",
        "model_version": "3",
        "id": "7",
        "outputs": [{"name": "output-0", "shape": [3], "datatype": "INT64", "data": [0, 0, 0]}],
    }
    status, _, body = post(served, "/v2/models/iris/infer", {"inputs": inputs[:1]})
    assert status == 400
    assert "Model is missing inputs" in body["error"]  # type: ignore[index]


def test_vertex_names_its_own_routes_and_port(serve: Callable[..., Served], split: dict[str, list[object]]) -> None:
    served = serve("iris", AIP_PREDICT_ROUTE="/v1/endpoints/1/deployedModels/2:predict", AIP_HEALTH_ROUTE="/v1/healthy")
    assert served.request("GET", "/v1/healthy")[0] == 200
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]  # type: ignore[call-overload]
    route = "/v1/endpoints/1/deployedModels/2:predict"
    assert post(served, route, {"instances": records, "parameters": {}})[::2] == (200, {"predictions": [0, 0, 0]})
    assert post(served, route, {"inputs": records})[0] == 400


def test_sagemakers_batch_transform_sends_lines_and_gets_lines(
    shared_server: Callable[[str], Served], split: dict[str, list[object]]
) -> None:
    served = shared_server("iris")
    told = json.loads(served.request("GET", "/execution-parameters")[2])
    assert told == {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 100}
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]  # type: ignore[call-overload]
    lines = "\n".join(json.dumps(record) for record in records).encode()
    answer = served.request("POST", "/invocations", lines, {"content-type": "application/jsonlines"})
    assert answer[::2] == (200, b"0\n0\n0\n")
    assert answer[1]["content-type"] == "application/jsonlines"
    answer = served.request("POST", "/invocations", b"{}\n{", {"content-type": "application/jsonlines"})
    assert answer[0] == 400
    assert "Line 2" in json.loads(answer[2])["message"]


def test_metrics_count_what_happened(serve: Callable[..., Served], split: dict[str, list[object]]) -> None:
    served = serve("iris")
    post(served, "/invocations", {"dataframe_split": split})
    post(served, "/score", {"input_data": split})
    served.request("GET", "/nowhere/else")
    status, headers, body = served.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.decode().splitlines()
    assert 'envbuilder_requests_total{route="/invocations",status="200"} 1.0' in lines
    assert 'envbuilder_requests_total{route="/score",status="200"} 1.0' in lines
    assert 'envbuilder_requests_total{route="other",status="404"} 1.0' in lines
    assert 'envbuilder_phase_seconds_count{phase="predict"} 2.0' in lines
    assert "envbuilder_workers_ready 1.0" in lines
    assert "envbuilder_worker_restarts_total 0.0" in lines
    assert "envbuilder_held_bytes 0.0" in lines
    (loaded,) = (line for line in lines if line.startswith("envbuilder_model_load_seconds "))
    assert float(loaded.split()[1]) > 0


def test_a_token_is_asked_for_but_not_of_probes(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    served = serve("iris", ENVBUILDER_TOKEN_FILE=str(tmp_path / "token"))
    for path in ("/ping", "/", "/livez", "/readyz", "/v2/health/live"):
        assert served.request("GET", path)[0] == 200
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "open sesame"}):
        status, found, body = served.request("GET", "/metrics", headers=headers)
        assert (status, found["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["error_code"] == "UNAUTHENTICATED"
    assert served.request("GET", "/metrics", headers={"authorization": "Bearer open sesame"})[0] == 200
    assert "sesame" not in served.log.read_text()


def test_the_log_is_json_where_it_is_asked_for_and_names_each_request(
    serve: Callable[..., Served], split: dict[str, list[object]]
) -> None:
    served = serve("iris", ENVBUILDER_LOG_FORMAT="json")
    post(served, "/invocations", {"dataframe_split": split}, **{"x-request-id": "seven"})
    post(served, "/invocations", {"dataframe_split": split}, **{"x-request-id": "not\tone"})

    def entries() -> list[dict[str, object]]:
        lines = [line for line in served.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry["message"] == "request"]

    wait_until(lambda: len(entries()) == 2, log=served.log)
    first, second = entries()
    assert (first["method"], first["path"], first["status"], first["request_id"]) == (
        "POST",
        "/invocations",
        200,
        "seven",
    )
    assert len(str(second["request_id"])) == 32


def test_more_than_may_be_held_or_wait_is_refused_at_once(serve: Callable[..., Served]) -> None:
    served = serve("acting", ENVBUILDER_MAX_HELD_BYTES="1000", ENVBUILDER_MAX_WAITING="1")
    status, headers, body = post(
        served, "/invocations", {"dataframe_records": [{"do": "sleep", "argument": "x" * 2000}]}
    )
    assert (status, headers["retry-after"]) == (503, "1")
    assert "Too much waits" in body["message"]  # type: ignore[index]
    threads = [threading.Thread(target=served.act, args=("sleep", 1.5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: b"envbuilder_queue_requests 1.0" in served.request("GET", "/metrics")[2])
    assert served.act("sleep")[0] == 503
    for thread in threads:
        thread.join()
    assert served.act("sleep")[0] == 200
