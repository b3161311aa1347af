"""A real MLflow tracking server on a loopback port, and a hostile one. A test module names the fixtures it uses.

The real one lives in an environment of its own, kept in pytest's cache, and passes artifacts on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.kept_environment import kept_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUIREMENTS: Final = ("mlflow[auth]==3.17.2",)
LOGIN: Final = ("reader", "canary/open sesame:42")
_API: Final = "/api/2.0/mlflow"
_ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
_AUTH: Final = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.sqlite
admin_username = {user}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True, slots=True)
class TrackingServer:
    """A running server and what was logged to it."""

    url: str
    folder: Path
    logged: dict[str, Any]

    @property
    def run_id(self) -> str:
        return str(self.logged["run_id"])

    def files(self, place: str) -> Path:
        """Return where the server keeps what it calls `mlflow-artifacts:/PLACE`."""
        return self.folder / "artifacts" / place

    def request(self, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, self.url + path, timeout=20, **options)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text}"
        return response

    def set_alias(self, name: str, alias: str, version: int) -> None:
        body = {"name": name, "alias": alias, "version": str(version)}
        self.request("POST", f"{_API}/registered-models/alias", json=body)

    def put(self, place: str, data: bytes) -> None:
        """Write an artifact, as another client would."""
        self.request("PUT", f"{_ARTIFACTS}/{place}", data=data)

    def downloads(self) -> list[str]:
        """Return the files that clients got so far, in order."""
        log = (self.folder / f"log-{self.url.rpartition(':')[2]}").read_text()
        return re.findall(rf'"GET {_ARTIFACTS}/(\S+) HTTP', log)


@pytest.fixture(scope="session")
def mlflow_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment with the whole of MLflow, made once and kept in pytest's cache."""
    return kept_python(request, "tracking-server-environment", REQUIREMENTS)


@pytest.fixture(scope="session")
def tracking_server(mlflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A server with models in it."""
    folder = tmp_path_factory.mktemp("tracking-server")
    with running_server(mlflow_python, folder) as url:
        script = Path(__file__).with_name("log_models.py")
        iris = script.parent.parent / "examples" / "iris"
        done = subprocess.run(
            (mlflow_python, script, folder, iris),
            env={**_environ(folder), "MLFLOW_TRACKING_URI": url},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        yield TrackingServer(url=url, folder=folder, logged=json.loads((folder / "logged.json").read_text()))


@pytest.fixture(scope="session")
def tracking_server_with_login(mlflow_python: Path, tracking_server: TrackingServer) -> Iterator[TrackingServer]:
    """A second server on the same store, which wants `LOGIN`; it takes its time to check one."""
    with running_server(mlflow_python, tracking_server.folder, "--app-name", "basic-auth") as url:
        yield replace(tracking_server, url=url)


def _environ(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "not secret",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


@contextmanager
def running_server(python: Path, folder: Path, *options: str) -> Iterator[str]:
    """Run a server, and give its address; its process group is gone at the end."""
    (folder / "auth.ini").write_text(_AUTH.format(folder=folder, user=LOGIN[0], password=LOGIN[1]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (
        *(str(python), "-m", "mlflow", "server", "--workers", "1", *options),
        *("--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", f"127.0.0.1:{port}"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.sqlite"),
        *("--artifacts-destination", str(folder / "artifacts")),
    )
    with (
        (folder / f"log-{port}").open("wb") as log,
        subprocess.Popen(
            command, env=_environ(folder), cwd=folder, stdout=log, stderr=log, start_new_session=True
        ) as child,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", child, Path(log.name))
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(child)


def _wait(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(600):
            if child.poll() is not None:
                break
            try:
                if session.get(url, timeout=5).ok:
                    return
            except requests.exceptions.RequestException:
                time.sleep(0.1)
    pytest.fail(f"the tracking server did not start: {log.read_text()[-2000:]}")


def _end(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)


@dataclass
class FakeServer:
    """A server that answers what a test wants: the few calls that fetching a model makes."""

    url: str
    artifact_uri: str = "mlflow-artifacts:/model"
    """Where it says that the files of every run are."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path below `model`."""

    listings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What is listed for a folder, where that is not what `files` says."""

    status: int = 200
    """What artifacts are answered with."""

    served: list[str] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)
    on_file: Callable[[str], object] = str
    """Called in the middle of a file."""

    def listing(self, folder: str) -> list[dict[str, Any]]:
        if folder in self.listings:
            return self.listings[folder]
        prefix = f"{folder}/" if folder else ""
        inside = [path.removeprefix(prefix) for path in self.files if path.startswith(prefix)]
        folders = {path.partition("/")[0] for path in inside if "/" in path}
        return [
            *({"path": name, "is_dir": True} for name in sorted(folders)),
            *(
                {"path": path, "is_dir": False, "file_size": len(self.files[prefix + path])}
                for path in inside
                if "/" not in path
            ),
        ]


@pytest.fixture
def fake_server() -> Iterator[Callable[[], FakeServer]]:
    """Starts fake servers, and ends them with the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start() -> FakeServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        server.fake = FakeServer(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
        return server.fake  # type: ignore[attr-defined, no-any-return]

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fake: FakeServer = self.server.fake  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        fake.logins.add(self.headers.get("Authorization", ""))
        if parts.path == f"{_API}/runs/get":
            run_id = parse_qs(parts.query)["run_id"][0]
            info = {"run_id": run_id, "run_uuid": run_id, "experiment_id": "0", "artifact_uri": fake.artifact_uri}
            self._answer({"run": {"info": info, "data": {}}})
        elif not parts.path.startswith(_ARTIFACTS):
            self._answer({"error_code": "ENDPOINT_NOT_FOUND"}, 404)
        elif fake.status != 200:
            self._answer({"message": f"refused to {self.headers.get('Authorization')}"}, fake.status)
        elif parts.path == _ARTIFACTS:
            folder = parse_qs(parts.query)["path"][0].removeprefix("model").lstrip("/")
            self._answer({"files": fake.listing(folder)})
        elif (path := parts.path.removeprefix(f"{_ARTIFACTS}/model/")) in fake.files:
            self._send_file(path, fake)
        else:
            self._answer({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"No such artifact: '{path}'"}, 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({"error_code": "ENDPOINT_NOT_FOUND"}, 404)

    def _send_file(self, path: str, fake: FakeServer) -> None:
        content = fake.files[path]
        fake.served.append(path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        try:
            self.wfile.write(content[:half])
            self.wfile.flush()
            fake.on_file(path)
            self.wfile.write(content[half:])
        except OSError:
            self.close_connection = True

    def _answer(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
