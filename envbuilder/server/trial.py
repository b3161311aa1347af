"""The `try` command: starts `serve` as it will be started, asks it everything once, and reports in one line of JSON.

It talks over a Unix socket, so a network namespace without even a loopback device is enough.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Deque, Mapping

CONTENT_TYPES = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}
TRACE_LINES = 20
POLL = 0.05
STOP_SECONDS = 30.0
OK = 200


@dataclass(frozen=True)
class Report:
    """What came of a trial."""

    ready: bool = False
    startup_seconds: float = 0.0
    example: str = "none"
    """`answered`, `none` or `failed`."""
    status: int | None = None
    predict_seconds: float | None = None
    answer: Any = None
    error: dict[str, Any] | None = None
    """`what` and `trace` (a list of lines)."""

    @property
    def passed(self) -> bool:
        """Whether the image may be tagged."""
        return self.ready and self.example != "failed" and self.error is None

    def to_text(self) -> str:
        """Write the line of JSON."""
        return json.dumps(asdict(self))


class _Server:
    """The served model as a child process."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        self.path = str(Path(folder, "http"))
        self.log: Deque[str] = deque(maxlen=TRACE_LINES)
        self._failure, ours = os.pipe()
        command = (sys.executable, "-m", "envbuilder.server", "serve", "--uds", self.path, "--failure-fd", str(ours))
        # A model that fails to load fails again: no second attempt, and the reason in full.
        overrides = {"ENVBUILDER_LOAD_ATTEMPTS": "1", "ENVBUILDER_STACK_TRACES": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=subprocess.PIPE,
            pass_fds=(ours,),
            env={**environment, **overrides},
        )
        os.close(ours)
        self._copier = threading.Thread(target=self._copy, daemon=True)
        self._copier.start()

    def request(
        self, method: str, path: str, timeout: float, *, body: bytes = b"", kind: str = ""
    ) -> tuple[int, bytes]:
        connection = _UnixConnection(self.path, timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, {"content-type": kind} if kind else {})
            response = connection.getresponse()
            return response.status, response.read()

    def failure(self) -> dict[str, Any]:
        """Return why the process ended by itself."""
        code = self.process.wait()
        self._copier.join(1)
        with os.fdopen(self._failure, "rb", closefd=False) as pipe:
            text = pipe.read()
        if text:
            return dict(json.loads(text))
        return {"what": f"the server exited with code {code}", "trace": list(self.log)}

    def stop(self) -> str | None:
        """End the process as an orchestrator does; returns what was wrong with its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"the server did not end within {STOP_SECONDS:g} s of SIGTERM"
        finally:
            os.close(self._failure)
            self._copier.join(1)
        return f"the server exited with code {code} after SIGTERM" if code else None

    def _copy(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 - it is a pipe
        with self.process.stderr as lines:
            for raw in lines:
                line = raw.decode("utf-8", "replace")
                self.log.append(line.rstrip("\n"))
                sys.stderr.write(line)
                sys.stderr.flush()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def attempt(example: Path, environment: Mapping[str, str], timeout: float) -> Report:
    """Try the model on its example; without that file only whether it gets ready."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="envbuilder-") as folder:
        server = _Server(folder, environment)
        stopped = None
        try:
            report = _try(server, example, started, timeout)
        except (OSError, http.client.HTTPException) as cause:
            report = Report(error=_error(f"no answer: {type(cause).__name__}: {cause}", "\n".join(server.log)))
        finally:
            stopped = server.stop()
    if report.passed and stopped:
        return Report(**{**asdict(report), "error": _error(stopped)})
    return report


def _try(server: _Server, example: Path, started: float, timeout: float) -> Report:
    error = _wait_until_ready(server, started + timeout)
    startup = round(time.monotonic() - started, 3)
    if error is not None:
        return Report(startup_seconds=startup, error=error)
    for path in ("/health", "/version"):
        status, body = server.request("GET", path, timeout)
        if status != OK:
            return Report(startup_seconds=startup, error=_error(f"{path} answers {status}", _text(body)))
    if not example.is_file():
        return Report(ready=True, startup_seconds=startup)
    kind = CONTENT_TYPES.get(example.suffix, "application/json")
    begun = time.monotonic()
    try:
        left = max(1.0, started + timeout - begun)
        status, body = server.request("POST", "/invocations", left, body=example.read_bytes(), kind=kind)
    except (OSError, http.client.HTTPException) as cause:
        error = _error(f"the example got no answer: {type(cause).__name__}: {cause}", "\n".join(server.log))
        return Report(ready=True, startup_seconds=startup, example="failed", error=error)
    answer = _decoded(body)
    return Report(
        ready=True,
        startup_seconds=startup,
        example="answered" if status == OK else "failed",
        status=status,
        predict_seconds=round(time.monotonic() - begun, 4),
        answer=answer,
        error=None if status == OK else _refusal(status, answer),
    )


def _wait_until_ready(server: _Server, deadline: float) -> dict[str, Any] | None:
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            return server.failure()
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = server.request("GET", "/ping", max(POLL, deadline - time.monotonic()))
            if status == OK:
                return None
        time.sleep(POLL)
    return _error("the model was not loaded in time", "\n".join(server.log))


def _refusal(status: int, answer: Any) -> dict[str, Any]:  # noqa: ANN401 - decoded JSON
    if not isinstance(answer, dict):
        return _error(f"the example is answered with {status}: {answer}")
    what = answer.get("message", f"the example is answered with {status}")
    # The message of an exception inside the model is always the same one; its type and text say more.
    if answer.get("exception") and "unexpected error while evaluating" in what:
        what = answer["exception"]
    return _error(what, answer.get("stack_trace", ""))


def _error(what: str, trace: str = "") -> dict[str, Any]:
    return {"what": what, "trace": trace.splitlines()[-TRACE_LINES:]}


def _decoded(body: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(body)
    except ValueError:
        return _text(body)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
