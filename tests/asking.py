"""Asking a server for a prediction, from when it begins to start."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import pytest


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, body: object) -> tuple[int, Any]:
    """POST as JSON; waits for the server to be ready."""
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return error.code, json.load(error)
        except OSError:
            pass
        if time.monotonic() > deadline:
            pytest.fail("the server was not ready within 120 s")
        time.sleep(0.1)
