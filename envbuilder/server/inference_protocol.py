"""The Open Inference Protocol, version 2, over HTTP, as KServe speaks it: inference_rest.md of its repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import tensors
from .prediction import JSON, RefusedError

if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request

    from .contract import Contract
    from .prediction import Predictor

_OK = 200
NAME = "model"
_SERVER = {"name": "envbuilder", "version": "2", "extensions": []}


def routes(predictor: Predictor, contract: Contract | None) -> list[Route]:
    """Return the protocol's routes; whatever a model is called, it is the one that is served."""

    async def server(_: Request) -> Response:
        return JSONResponse(_SERVER)

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        return JSONResponse({"live": predictor.pool.is_ready}, 200 if predictor.pool.is_ready else 503)

    async def model_ready(request: Request) -> Response:
        is_ready = predictor.pool.is_ready
        return JSONResponse({"name": request.path_params["name"], "ready": is_ready}, 200 if is_ready else 503)

    async def metadata(request: Request) -> Response:
        return JSONResponse(described(request.path_params["name"], contract))

    async def infer(request: Request) -> Response:
        try:
            return await _inferred(request, predictor, contract)
        except RefusedError as refused:
            return JSONResponse({"error": refused.message}, refused.status, refused.headers)

    paths = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        *(Route(path, metadata) for path in paths),
        *(Route(f"{path}/ready", model_ready) for path in paths),
        *(Route(f"{path}/infer", infer, methods=["POST"]) for path in paths),
    ]


async def _inferred(request: Request, predictor: Predictor, contract: Contract | None) -> Response:
    asked: dict[str, Any] = {}

    def translate(body: bytes) -> tuple[str, bytes]:
        asked.update(_document(body))
        return JSON, translated(asked, contract)

    answer = await predictor.predict(request, translate)
    if answer.status != _OK:
        return JSONResponse({"error": _message(answer.body)}, answer.status)
    document = json.loads(answer.body)
    predictions = document.get("predictions", document) if isinstance(document, dict) else document
    wanted = {one.get("name") for one in asked.get("outputs") or () if isinstance(one, dict)}
    outputs = written(predictions, contract)
    found: dict[str, Any] = {"model_name": request.path_params["name"]}
    if "version" in request.path_params:
        found["model_version"] = request.path_params["version"]
    if "id" in asked:
        found["id"] = asked["id"]
    found["outputs"] = [one for one in outputs if not wanted or one["name"] in wanted]
    return JSONResponse(found)


def described(name: str, contract: Contract | None) -> dict[str, Any]:
    """Return the model's metadata, from its signature."""
    inputs = contract.inputs if contract is not None else None
    outputs = contract.outputs if contract is not None else None
    return {
        "name": name,
        "platform": "mlflow",
        "inputs": _tensors(inputs or [], "input"),
        "outputs": _tensors(outputs or [], "output"),
    }


def translated(document: dict[str, Any], contract: Contract | None) -> bytes:
    """Return the body that workers read for an inference request; raises RefusedError."""
    given = document.get("inputs")
    if not isinstance(given, list) or not given:
        raise RefusedError(400, "BAD_REQUEST", "The request has no `inputs`.")
    values = {}
    for tensor in given:
        value = tensors.nested(tensor)
        values[tensor["name"]] = value
    body: dict[str, Any] = {"inputs": _as_read(values, document, contract)}
    parameters = document.get("parameters")
    if isinstance(parameters, dict):
        params = {name: value for name, value in parameters.items() if name not in ("content_type", "headers")}
        if params:
            body["params"] = params
    return json.dumps(body).encode()


def written(predictions: Any, contract: Contract | None) -> list[dict[str, Any]]:  # noqa: ANN401 - decoded JSON
    """Return predictions as tensors: a column or a named array each, else one."""
    entries = (contract.outputs if contract is not None else None) or []
    known = {str(one["name"]): _type_of(one) for one in entries if one.get("name")}
    if isinstance(predictions, dict):
        return [tensors.written(str(name), value, known.get(str(name))) for name, value in predictions.items()]
    if isinstance(predictions, list) and predictions and all(isinstance(row, dict) for row in predictions):
        names = list(dict.fromkeys(name for row in predictions for name in row))
        return [tensors.written(name, [row.get(name) for row in predictions], known.get(name)) for name in names]
    only = _type_of(entries[0]) if len(entries) == 1 else None
    return [tensors.written(next(iter(known), "output-0"), predictions, only)]


def _as_read(values: dict[str, Any], document: dict[str, Any], contract: Contract | None) -> Any:  # noqa: ANN401
    entries = contract.inputs if contract is not None else None
    parameters = document.get("parameters")
    is_frame = isinstance(parameters, dict) and parameters.get("content_type") == "pd"
    if is_frame or (entries and not _is_tensor(entries[0])):
        if entries and not any(one.get("name") for one in entries) and len(values) == 1:
            return next(iter(values.values()))
        return {name: tensors.columns(value) for name, value in values.items()}
    if len(values) == 1 and not (entries and entries[0].get("name")):
        return next(iter(values.values()))
    return values


def _tensors(entries: list[dict[str, Any]], unnamed: str) -> list[dict[str, Any]]:
    return [
        {
            "name": str(entry.get("name") or f"{unnamed}-{number}"),
            "datatype": _type_of(entry),
            "shape": list(entry["tensor-spec"]["shape"]) if _is_tensor(entry) else [-1, 1],
        }
        for number, entry in enumerate(entries)
    ]


def _is_tensor(entry: dict[str, Any]) -> bool:
    return entry.get("type") == "tensor"


def _type_of(entry: dict[str, Any]) -> str:
    return tensors.datatype(str(entry["tensor-spec"].get("dtype") if _is_tensor(entry) else entry.get("type")))


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not a JSON object.")
    return document


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError):
        return body.decode("utf-8", "replace")
