"""Azure ML's contract: `/score` with `input_data`, `/` for its probes, and its headers.

After the routes of azureml-inference-server-http 1.5, with one difference: what is wrong with the data is told with 400
and a reason, where Azure's own server answers 500 and keeps the reason to its log.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .prediction import JSON, RefusedError

if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request

    from .prediction import Predictor

_OK = 200
_SERVER_ERROR = 500
_WRAPPED = b'{"predictions": '
_ECHOED = ("x-ms-client-request-id", "traceid")


def routes(predictor: Predictor) -> list[Route]:
    """Return Azure's routes."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("Healthy", media_type="text/html")

    async def score(request: Request) -> Response:
        started = time.perf_counter()
        try:
            if request.method == "GET":
                answer = await predictor.ask(JSON, translated(_query(request)))
            else:
                _check_type(request)
                answer = await predictor.predict(request, lambda body: (JSON, translated(_document(body))))
            status, body = answer.status, unwrapped(answer.body) if answer.status == _OK else _told(answer.body)
        except RefusedError as refused:
            status, body = refused.status, json.dumps({"message": refused.message}).encode()
        headers = _headers(request)
        if status in (_OK, _SERVER_ERROR):
            headers["x-ms-run-function-failed"] = str(status == _SERVER_ERROR)
            headers["x-ms-run-fn-exec-ms"] = f"{(time.perf_counter() - started) * 1000:.3f}"
        return Response(body, status, headers, JSON)

    async def options(_: Request) -> Response:
        return Response()

    return [
        Route("/", healthy),
        Route("/score", score, methods=["GET", "POST"]),
        Route("/score", options, methods=["OPTIONS"]),
    ]


def translated(document: Any) -> bytes:  # noqa: ANN401 - decoded JSON
    """Return the body that workers read for Azure's; raises RefusedError."""
    if not isinstance(document, dict) or "input_data" not in document:
        raise RefusedError(400, "BAD_REQUEST", "A value is not provided for the 'input_data' parameter.")
    data = document["input_data"]
    body: dict[str, Any]
    if isinstance(data, dict) and {"columns", "data"} <= data.keys() <= {"columns", "index", "data"}:
        body = {"dataframe_split": {"columns": data["columns"], "data": data["data"]}}
    elif isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        body = {"dataframe_records": data}
    else:
        body = {"inputs": data}
    if document.get("params"):
        body["params"] = document["params"]
    return json.dumps(body).encode()


def unwrapped(body: bytes) -> bytes:
    """Return the predictions themselves, as Azure's server gives them."""
    if body.startswith(_WRAPPED) and body.endswith(b"}"):
        return body[len(_WRAPPED) : -1]
    return body


def _query(request: Request) -> dict[str, Any]:
    found = {}
    for name in request.query_params:
        values = [_decoded(value.encode()) for value in request.query_params.getlist(name)]
        found[name] = values if len(values) > 1 else values[0]
    return found


def _check_type(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise RefusedError(415, "BAD_REQUEST", "Expects Content-Type to be application/json")


def _document(body: bytes) -> Any:  # noqa: ANN401 - decoded JSON
    document = _decoded(body)
    if not isinstance(document, dict):
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not a JSON object.")
    return document


def _decoded(body: bytes) -> Any:  # noqa: ANN401 - decoded JSON
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not valid JSON.") from None


def _told(body: bytes) -> bytes:
    try:
        message = json.loads(body).get("message", "")
    except (ValueError, AttributeError):
        message = body.decode("utf-8", "replace")
    return json.dumps({"message": message}).encode()


def _headers(request: Request) -> dict[str, str]:
    headers = {name: request.headers[name] for name in _ECHOED if name in request.headers}
    deprecated = request.headers.get("x-ms-request-id") or headers.get("x-ms-client-request-id")
    headers["x-ms-request-id"] = deprecated or str(request.scope.get("request_id", ""))
    return headers
