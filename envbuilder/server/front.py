"""The HTTP side: MLflow's scoring routes over a pool of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import content_type
from .pool import UnavailableError
from .worker_process import RequestTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from starlette.requests import Request

    from .pool import Pool

JSON = "application/json"
TIMEOUT_TEXT = "Request processing time exceeded limit"


class BodyTooLargeError(Exception):
    """The request's body is larger than the limit."""


def application(pool: Pool, max_body: int) -> Starlette:
    """Make the ASGI application."""

    async def ping(_: Request) -> Response:
        return Response("\n", media_type=JSON) if pool.is_ready else _unavailable()

    async def version(_: Request) -> Response:
        # MLflow's version in the model's environment, which is known once a worker has imported it.
        return Response(pool.mlflow_version, media_type=JSON) if pool.mlflow_version else _unavailable()

    async def invocations(request: Request) -> Response:
        try:
            media_type = content_type.parse(request.headers.get("content-type"))
            body = await _body(request, max_body)
            answer = await pool.ask(media_type, body)
        except content_type.UnsupportedContentTypeError as error:
            return Response(str(error), 415, media_type="text/plain")
        except BodyTooLargeError:
            return _error(413, "BAD_REQUEST", f"The request's body is larger than {max_body} bytes.")
        except UnavailableError:
            return _unavailable()
        except RequestTimeoutError:
            return Response(TIMEOUT_TEXT, 504, media_type="text/plain")
        except WorkerDiedError as error:
            return _error(500, "INTERNAL_ERROR", f"No answer: {error}.")
        return Response(answer.body, answer.status, media_type=JSON)

    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/health", ping),
            Route("/version", version),
            Route("/invocations", invocations, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _detail, ClientDisconnect: _gone, 500: _bug},
    )


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLargeError
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error_code": code, "message": message}, status)


def _unavailable() -> Response:
    body = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "No worker has the model loaded; try again shortly."}
    return JSONResponse(body, 503, headers={"retry-after": "1"})


async def _detail(_: Request, error: Exception) -> Response:
    status, detail, headers = 500, "Internal Server Error", None
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
    return JSONResponse({"detail": detail}, status, headers=headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _bug(_: Request, __: Exception) -> Response:
    return _error(500, "INTERNAL_ERROR", "Internal Server Error")
