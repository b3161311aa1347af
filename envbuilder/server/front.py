"""The HTTP side: every host's routes over one pool of workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import azure, content_type, descriptions, inference_protocol, json_lines, metrics, vertex
from .content_type import ARROW
from .metrics import Metrics
from .observed import Observed
from .prediction import JSON, Predictor, RefusedError, unavailable

if TYPE_CHECKING:
    from typing import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from .contract import Contract
    from .pool import Pool
    from .prediction import Translate
    from .settings import Settings

_OK = 200
_PROBES = ("/", "/ping", "/health", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
_PLAIN = (415, 504)
"""What MLflow's server answers in plain text."""


def application(pool: Pool, settings: Settings, contract: Contract | None) -> ASGIApp:
    """Make the ASGI application; `contract` is what the signature says, None where it is not known."""
    measured = Metrics()
    predictor = Predictor(pool, settings, measured)
    measured.watch(pool, predictor)
    routes = [
        *_mlflow(predictor),
        *_operations(pool, measured),
        *azure.routes(predictor),
        *inference_protocol.routes(predictor, contract),
        *descriptions.routes(contract, settings, Path(settings.example)),
        *_sagemaker(settings),
        *_vertex(predictor, settings),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _detail, ClientDisconnect: _gone, 500: _bug})
    paths = {route.path for route in routes if "{" not in route.path}
    probes = {*_PROBES, *([settings.health_route] if settings.health_route else [])}
    return Observed(app, measured, token=settings.token, paths=paths, probes=probes)


def _mlflow(predictor: Predictor) -> list[Route]:
    pool = predictor.pool

    async def ping(_: Request) -> Response:
        return Response("\n", media_type=JSON) if pool.is_ready else _refusal(unavailable())

    async def version(_: Request) -> Response:
        # MLflow's version in the model's environment, which is known once a worker has imported it.
        return Response(pool.mlflow_version, media_type=JSON) if pool.mlflow_version else _refusal(unavailable())

    async def invocations(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind in json_lines.MEDIA_TYPES:
            return await _answered(predictor, request, json_lines.translated, json_lines.written, kind)
        try:
            media_type = content_type.parse(request.headers.get("content-type"))
        except content_type.UnsupportedContentTypeError as error:
            return _refusal(RefusedError(415, "BAD_REQUEST", str(error)))
        return await _answered(predictor, request, lambda body: (media_type, body))

    return [
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", version),
        Route("/invocations", invocations, methods=["POST"]),
    ]


def _operations(pool: Pool, measured: Metrics) -> list[Route]:
    async def alive(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def ready(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain") if pool.is_ready else _refusal(unavailable())

    async def told(_: Request) -> Response:
        return Response(measured.to_text(), headers={"content-type": metrics.CONTENT_TYPE})

    return [Route("/livez", alive), Route("/readyz", ready), Route("/metrics", told)]


def _sagemaker(settings: Settings) -> list[Route]:
    async def execution_parameters(_: Request) -> Response:
        # A batch transform asks once how it may send: as many requests at a time as there are workers.
        return JSONResponse(
            {
                "MaxConcurrentTransforms": settings.workers,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(1, min(100, settings.max_body // 1_000_000)),
            }
        )

    return [Route("/execution-parameters", execution_parameters)]


def _vertex(predictor: Predictor, settings: Settings) -> list[Route]:
    async def predict(request: Request) -> Response:
        return await _answered(predictor, request, vertex.translated)

    async def health(_: Request) -> Response:
        return Response("ok\n") if predictor.pool.is_ready else _refusal(unavailable())

    routes = []
    if settings.predict_route and settings.predict_route != "/invocations":
        routes.append(Route(settings.predict_route, predict, methods=["POST"]))
    if settings.health_route and settings.health_route not in _PROBES:
        routes.append(Route(settings.health_route, health))
    return routes


async def _answered(
    predictor: Predictor,
    request: Request,
    translate: Translate,
    write: Callable[[bytes], bytes] | None = None,
    kind: str = JSON,
) -> Response:
    """Answer as MLflow's server does, with `write` for what is well."""
    try:
        accept = ARROW if write is None and ARROW in request.headers.get("accept", "") else ""
        answer = await predictor.predict(request, translate, accept=accept)
    except RefusedError as refused:
        return _refusal(refused)
    if write is not None and answer.status == _OK:
        return Response(write(answer.body), media_type=kind)
    return Response(answer.body, answer.status, media_type=answer.content_type)


def _refusal(refused: RefusedError) -> Response:
    if refused.status in _PLAIN:
        return Response(refused.message, refused.status, media_type="text/plain")
    body = {"error_code": refused.code, "message": refused.message}
    return JSONResponse(body, refused.status, headers=refused.headers)


async def _detail(_: Request, error: Exception) -> Response:
    status, detail, headers = 500, "Internal Server Error", None
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
    return JSONResponse({"detail": detail}, status, headers=headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _bug(_: Request, __: Exception) -> Response:
    return JSONResponse({"error_code": "INTERNAL_ERROR", "message": "Internal Server Error"}, 500)
