"""JSON lines, as SageMaker's batch transform sends and takes them: one row a line, one prediction a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .prediction import JSON, RefusedError

if TYPE_CHECKING:
    from typing import Any

MEDIA_TYPES = ("application/jsonlines", "application/x-ndjson")


def translated(body: bytes) -> tuple[str, bytes]:
    """Return the content type and the body that workers read for lines; raises RefusedError."""
    rows = [_row(number, line) for number, line in enumerate(body.splitlines(), 1) if line.strip()]
    if not rows:
        raise RefusedError(400, "BAD_REQUEST", "The request's body holds no line.")
    are_records = all(isinstance(row, dict) for row in rows)
    return JSON, json.dumps({"dataframe_records" if are_records else "instances": rows}).encode()


def written(body: bytes) -> bytes:
    """Return the lines of a worker's answer."""
    document = json.loads(body)
    predictions = document.get("predictions", document) if isinstance(document, dict) else document
    rows = predictions if isinstance(predictions, list) else [predictions]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _row(number: int, line: bytes) -> Any:  # noqa: ANN401 - decoded JSON
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise RefusedError(400, "BAD_REQUEST", f"Line {number} of the request's body is not valid JSON.") from None
