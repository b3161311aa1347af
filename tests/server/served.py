"""Servers as processes, for the tests: to start, to ask, to end, and to find all that is left of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbuilder import server_contract

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "envbuilder" / "server" / "worker.py"
MARK = "ENVBUILDER_TEST_MARK"

# As PID 1 the front gets the orphans of its container; as a subreaper it gets those of its descendants.
AS_SUBREAPER = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])",
)


@dataclass
class Served:
    """A server process of a test, and a client for it."""

    process: subprocess.Popen[bytes]
    port: int
    mark: str
    log: Path
    connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        return connection

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.headers.items()}, response.read()

    def ask(self, body: object) -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        status, _, answer = self.request("POST", "/invocations", json.dumps(body).encode(), headers)
        return status, json.loads(answer)

    def act(self, do: str, argument: float = 0) -> tuple[int, Any]:
        return self.ask({"dataframe_records": [{"do": do, "argument": argument}]})

    def wait_ready(self, seconds: float = 60) -> None:
        wait_until(self._is_ready, seconds, self.log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return self.request("GET", "/ping")[0] == 200
        return False

    def processes(self) -> set[int]:
        """All living processes that descend from the server, however far."""
        return marked(self.mark)

    def workers(self) -> set[int]:
        return self.processes() - {self.process.pid}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def marked(mark: str) -> set[int]:
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float = 10, log: Path | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else "waited in vain"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_for(model: Path | str, model_python: str, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ENVBUILDER_", "MLFLOW_", "COV_"))}
    own = {"ENVBUILDER_MODEL_DIR": str(model), "ENVBUILDER_MODEL_PYTHON": model_python, "PYTHONPATH": str(ROOT)}
    return {**kept, **own, **more}


def write_contract(model: Path, path: Path) -> dict[str, str]:
    """Write what an image has beside its server; returns the variable that names it."""
    path.write_bytes(server_contract.make((model / "MLmodel").read_bytes(), file="MLmodel"))
    return {"ENVBUILDER_CONTRACT": str(path)}


def start(
    model: Path, model_python: str, folder: Path, *arguments: str, wrap: tuple[str, ...] = (), **environment: str
) -> Served:
    """Start a server in a folder that nobody can write to."""
    mark, port, log = uuid.uuid4().hex, free_port(), folder / f"{model.name}-{uuid.uuid4().hex[:6]}.log"
    command = (*wrap, sys.executable, "-m", "envbuilder.server", "serve", "--host", "127.0.0.1", "--port", str(port))
    env = environment_for(model, model_python, **{MARK: mark, **write_contract(model, log.with_suffix(".json"))})
    env.update(environment)
    with log.open("wb") as output:
        process = subprocess.Popen((*command, *arguments), stdout=output, stderr=output, env=env, cwd="/proc")
    return Served(process, port, mark, log)


def end(served: Served) -> None:
    for connection in served.connections:
        connection.close()
    if served.process.poll() is None:
        served.process.kill()
        served.process.wait()
    for pid in served.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_cases(
    python: str, models: Path, cases: list[dict[str, Any]], folder: Path, **environment: str
) -> list[tuple[int, Any]]:
    """Have a worker's code answer `cases` (model, content type, body in hex) in one process, without a front."""
    reading, writing = os.pipe()
    script = Path(__file__).with_name("run_cases.py")
    for model in {case["model"] for case in cases}:
        write_contract(models / model, folder / f"{model}.json")
    process = subprocess.Popen(
        (python, "-I", str(script), str(WORKER), str(models), str(folder), str(writing)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(writing,),
        env={**environment_for(models, python), **environment},
    )
    os.close(writing)
    _, errors = process.communicate("".join(json.dumps(case) + "\n" for case in cases).encode())
    with os.fdopen(reading) as answers:
        found = [json.loads(line) for line in answers]
    assert process.returncode == 0, errors.decode()
    return [(answer["status"], json.loads(answer["body"])) for answer in found]
