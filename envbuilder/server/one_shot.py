"""The `predict` command: one request body in, one answer out, through the same worker as `serve`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from . import content_type, prediction, runner
from .pool import Pool
from .worker_process import Answer, Question, RequestTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from typing import Any, Mapping

    from .settings import Settings


async def predict(settings: Settings, environment: Mapping[str, str], header: str, body: bytes) -> Answer:
    """Answer one request; what `serve` would say in another form than JSON comes as an error body too."""
    try:
        media_type = content_type.parse(header)
    except content_type.UnsupportedContentTypeError as error:
        return _refused(415, "BAD_REQUEST", str(error))
    task = asyncio.current_task()
    if task is not None:
        runner.on_stop(lambda: _cancel(task))
    pool = Pool(settings, environment)
    pool.start()
    try:
        loaded = asyncio.ensure_future(pool.loaded.wait())
        either: set[asyncio.Future[Any]] = {loaded, pool.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if pool.failed.done():
            loaded.cancel()
            return _refused(500, "INTERNAL_ERROR", f"The model does not load: {pool.failed.result().what}")
        return await pool.ask(Question(media_type, body))
    except RequestTimeoutError:
        return _refused(504, "DEADLINE_EXCEEDED", prediction.TIMEOUT_TEXT)
    except WorkerDiedError as error:
        return _refused(500, "INTERNAL_ERROR", f"No answer: {error}.")
    finally:
        await pool.close()


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _refused(status: int, code: str, message: str) -> Answer:
    return Answer(status, json.dumps({"error_code": code, "message": message}).encode())
