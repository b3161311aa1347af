"""One prediction over HTTP, whichever host asks: a body within limits, a worker's answer, refusals as exceptions."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .pool import UnavailableError
from .worker_process import Question, RequestTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from typing import Callable, Tuple

    from starlette.requests import Request

    from .metrics import Metrics
    from .pool import Pool
    from .settings import Settings
    from .worker_process import Answer

    Translate = Callable[[bytes], Tuple[str, bytes]]
    """From a host's body to what workers read: its content type and bytes; raises RefusedError."""


JSON = "application/json"
TIMEOUT_TEXT = "Request processing time exceeded limit"


class RefusedError(Exception):
    """A request that gets no prediction; each host says it in its own words."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        """As MLflow calls it."""
        self.message = message
        self.retry_after = retry_after
        """Seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


class Predictor:
    """Reads requests and has them answered, holding no more of them than the settings allow."""

    def __init__(self, pool: Pool, settings: Settings, metrics: Metrics) -> None:
        self.pool = pool
        self.held = 0
        """Bytes of the bodies that are being read, wait, or are being answered."""
        self._settings = settings
        self._metrics = metrics

    async def predict(self, request: Request, translate: Translate, *, accept: str = "") -> Answer:
        """Return the answer of a worker, or raise RefusedError."""
        started = time.perf_counter()
        held = _Held(self)
        try:
            body = await self._read(request, held)
            self._metrics.phase("read", time.perf_counter() - started)
            return await self.ask(*translate(body), accept=accept)
        finally:
            held.release()

    async def ask(self, media_type: str, body: bytes, *, accept: str = "") -> Answer:
        """Return a worker's answer to what it can read, or raise RefusedError."""
        try:
            answer = await self.pool.ask(Question(media_type, body, accept))
        except UnavailableError:
            raise unavailable() from None
        except RequestTimeoutError:
            raise RefusedError(504, "DEADLINE_EXCEEDED", TIMEOUT_TEXT) from None
        except WorkerDiedError as error:
            raise RefusedError(500, "INTERNAL_ERROR", f"No answer: {error}.") from None
        self._metrics.phase("queue", answer.queue_seconds)
        self._metrics.phase("predict", answer.predict_seconds)
        return answer

    async def _read(self, request: Request, held: _Held) -> bytes:
        limit = self._settings.max_body
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        try:
            return await asyncio.wait_for(self._chunks(request, limit, held), self._settings.body_timeout)
        except asyncio.TimeoutError:
            raise RefusedError(408, "DEADLINE_EXCEEDED", "The request's body did not come in time.") from None

    async def _chunks(self, request: Request, limit: int, held: _Held) -> bytes:
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if self.held + len(chunk) > self._settings.max_held:
                raise unavailable("Too much waits to be answered; try again shortly.")
            held.add(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)


class _Held:
    """What one request holds."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._size = 0

    def add(self, size: int) -> None:
        self._size += size
        self._predictor.held += size

    def release(self) -> None:
        self._predictor.held -= self._size
        self._size = 0


def unavailable(message: str = "No worker has the model loaded; try again shortly.") -> RefusedError:
    """Return the refusal of a server that cannot answer now."""
    return RefusedError(503, "TEMPORARILY_UNAVAILABLE", message, retry_after=1)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "BAD_REQUEST", f"The request's body is larger than {limit} bytes.")
