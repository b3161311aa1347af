"""What surrounds every request: an id, a line in the log, a place in the metrics, and the token where one is wanted."""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import AbstractSet

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .metrics import Metrics

log = logging.getLogger("envbuilder.server.requests")

_ID = re.compile(rb"[!-~]{1,100}")
REQUEST_ID = b"x-request-id"


class Observed:
    """An application, observed."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, token: str, paths: AbstractSet[str], probes: AbstractSet[str]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._token = f"Bearer {token}".encode() if token else b""
        self._paths = paths
        """The routes that are named in the metrics."""
        self._probes = probes
        """The routes that need no token, and are logged for debugging only."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        identity = headers.get(REQUEST_ID, b"")
        if not _ID.fullmatch(identity):
            identity = uuid.uuid4().hex.encode()
        scope["request_id"] = identity.decode()
        status, started = 499, time.perf_counter()  # nginx's word for a client that went away

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, identity)]
            await send(message)

        self._metrics.began()
        try:
            if self._token and not self._is_let_in(scope["path"], headers):
                await _refuse(noted)
            else:
                await self._app(scope, receive, noted)
        finally:
            self._ended(scope, status, time.perf_counter() - started)

    def _is_let_in(self, path: str, headers: dict[bytes, bytes]) -> bool:
        return path in self._probes or hmac.compare_digest(headers.get(b"authorization", b""), self._token)

    def _ended(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        self._metrics.ended(path if path in self._paths else "other", status, seconds)
        level = logging.DEBUG if path in self._probes else logging.INFO
        if log.isEnabledFor(level):
            fields = {
                "method": scope["method"],
                "path": path[:200],
                "status": status,
                "milliseconds": round(seconds * 1000, 2),
                "request_id": scope["request_id"],
            }
            log.log(level, "request", extra={"fields": fields})


async def _refuse(send: Send) -> None:
    body = json.dumps({"error_code": "UNAUTHENTICATED", "message": "A bearer token is needed."}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
