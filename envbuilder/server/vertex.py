"""Vertex AI's contract: its own names of the routes, `instances` with `parameters` in, `predictions` out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .prediction import JSON, RefusedError

if TYPE_CHECKING:
    from typing import Any


def translated(body: bytes) -> tuple[str, bytes]:
    """Return the content type and the body that workers read for Vertex AI's; raises RefusedError."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not valid JSON.") from None
    if not isinstance(document, dict) or "instances" not in document:
        raise RefusedError(400, "BAD_REQUEST", "The request's body is not a JSON object with `instances`.")
    found = {"instances": document["instances"]}
    if document.get("parameters"):
        found["params"] = document["parameters"]
    return JSON, json.dumps(found).encode()
