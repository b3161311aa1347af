"""A proxy in front of a real registry that misbehaves as a test wants it to: error statuses, cuts, delays."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.registry_server import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens instead of the registry's answer."""

    status: int = 0
    """0: no answer; the connection is cut."""

    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0
    """How many bytes of the request's body the registry still gets before a cut."""


@dataclass(slots=True)
class Proxy:
    """A running proxy; `fault` decides for each request."""

    host: str
    fault: Callable[[str, str], Fault | None]
    requests: list[tuple[str, str]] = field(default_factory=list)

    def count(self, method: str, part: str = "") -> int:
        return sum(asked == method and part in path for asked, path in self.requests)


def first(number: int, method: str, fault: Fault, *, part: str = "") -> Callable[[str, str], Fault | None]:
    """Give the fault to the first `number` requests of the method whose path holds `part`."""
    left = [number]
    lock = threading.Lock()

    def decide(asked: str, path: str) -> Fault | None:
        with lock:
            if asked != method or part not in path or left[0] == 0:
                return None
            left[0] -= 1
            return fault

    return decide


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.proxy = Proxy(host=f"127.0.0.1:{self.server_port}", fault=lambda *_: None)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that are killed break their connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        self.server.proxy.requests.append((self.command, self.path))
        wanted = self.server.proxy.fault(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if wanted is not None and not wanted.status:
            self.cut(min(wanted.after, length))
            return
        body = self.rfile.read(length) if "Transfer-Encoding" not in self.headers else self.pieces()
        if wanted is not None:
            self.reply(wanted.status, wanted.headers, b"")
            return
        registry = self.server.registry
        with requests.Session() as session:
            session.trust_env = False
            found = session.request(
                self.command,
                f"{registry.scheme}://{registry.host}{self.path}",
                headers={name: value for name, value in self.headers.items() if name != "Transfer-Encoding"},
                data=body,
            )
        self.reply(found.status_code, dict(found.headers), found.content)

    def pieces(self) -> bytes:
        """Read a body whose length nobody told, as Docker's engine sends it."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def cut(self, count: int) -> None:
        """Let the registry have the beginning, as after a broken connection, and answer nothing."""
        name, _, port = self.server.registry.host.partition(":")
        with socket.create_connection((name, int(port))) as upstream:
            head = [f"{self.command} {self.path} HTTP/1.1"]
            head += [f"{key}: {value}" for key, value in self.headers.items()]
            upstream.sendall("\r\n".join([*head, "", ""]).encode() + self.rfile.read(count))
        self.close_connection = True

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names are of http.server

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_proxy(registry: Registry, fault: Callable[[str, str], Fault | None]) -> Iterator[Proxy]:
    """Pass requests on to the registry until the block ends."""
    with _Server(registry) as server:
        server.proxy.fault = fault
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.proxy
        finally:
            server.shutdown()
            thread.join()
