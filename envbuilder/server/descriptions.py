"""The routes that describe the server: OpenAPI, Azure's swagger, and a page to read and to try it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from . import azure_swagger, openapi

if TYPE_CHECKING:
    from starlette.requests import Request

    from .contract import Contract
    from .settings import Settings

_PAGE = Path(__file__).with_name("docs.html")
_LARGEST = 100_000
"""Bytes of an example that is shown."""


def routes(contract: Contract | None, settings: Settings, example: Path) -> list[Route]:
    """Return the routes; `example` is a request that the model was tried with, where there is one."""
    known = _request(example)
    document = openapi.describe(contract, title=settings.service_name, example=known, has_token=bool(settings.token))

    async def described(_: Request) -> Response:
        return JSONResponse(document)

    async def swagger(request: Request) -> Response:
        asked = request.query_params.get("version", "2")
        version = azure_swagger.VERSIONS.get(asked)
        if version is None:
            message = f"Swagger version [{asked[:20]}] is not valid. Supported versions: [2, 3, 3.1]."
            return JSONResponse({"message": message}, 404)
        return JSONResponse(azure_swagger.describe(contract, name=settings.service_name, version=version))

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

    return [Route("/openapi.json", described), Route("/swagger.json", swagger), Route("/docs", page)]


def _request(example: Path) -> object:
    if example.suffix != ".json" or not example.is_file() or example.stat().st_size > _LARGEST:
        return None
    try:
        return json.loads(example.read_bytes())
    except ValueError:
        return None
