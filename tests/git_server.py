"""Real Git repositories behind git's own `http-backend`, on loopback: plain or TLS, with or without a login."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.package_index import _basic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_AUTHOR = {
    "GIT_AUTHOR_NAME": "author",
    "GIT_AUTHOR_EMAIL": "author@mail.example",
    "GIT_AUTHOR_DATE": "2024-01-02T03:04:05+00:00",
    "GIT_COMMITTER_NAME": "author",
    "GIT_COMMITTER_EMAIL": "author@mail.example",
    "GIT_COMMITTER_DATE": "2024-01-02T03:04:05+00:00",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A repository with a work tree, whose `.git` is what a server offers."""

    folder: Path

    def git(self, *arguments: str) -> str:
        command = (shutil.which("git") or "git", *arguments)
        environ = {**_AUTHOR, "PATH": os.environ["PATH"], "HOME": str(self.folder)}
        done = subprocess.run(command, cwd=self.folder, env=environ, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], *, tag: str | None = None, note: str | None = None) -> str:
        """Commit the files and return the commit; `note` makes the tag an object of its own."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "change")
        if tag is not None:
            self.git("tag", *(("-a", "-m", note) if note is not None else ()), tag)
        return self.git("rev-parse", "HEAD")


def new_repository(folder: Path) -> Work:
    """Make an empty repository in the new directory `folder`."""
    folder.mkdir(parents=True)
    work = Work(folder=folder)
    work.git("init", "--quiet", "--initial-branch=main")
    return work


@dataclass(slots=True)
class GitServer:
    """What is served below `root`, and what was asked."""

    url: str
    root: Path
    login: tuple[str, str] | None = None
    dumb: bool = False
    """Whether it offers files only, as a plain web server does."""

    redirect: str | None = None
    """Where every request is sent to."""

    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    """The Authorization headers of all requests."""


@contextmanager
def running_git(
    root: Path, *, login: tuple[str, str] | None = None, certificate: tuple[Path, Path] | None = None
) -> Iterator[GitServer]:
    """Serve the repositories below `root` until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    served = GitServer(url=f"http{'s' if certificate else ''}://127.0.0.1:{port}", root=root, login=login)
    _Handler.servers[port] = served
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    servers: dict[int, GitServer] = {}  # noqa: RUF012 - one for each running server

    def handle(self) -> None:
        # A client that does not trust the certificate hangs up; that is what a test wants.
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = self.servers[self.connection.getsockname()[1]]
        server.asked.append(self.path)
        given = self.headers.get("Authorization")
        if given is not None:
            server.logins.append(given)
        if server.redirect is not None:
            self._send(302, [("Location", server.redirect + self.path)], b"")
        elif server.login is not None and given != _basic(server.login):
            self._send(401, [("WWW-Authenticate", 'Basic realm="tests"')], b"")
        elif server.dumb:
            path, _, query = self.path.partition("?")
            file = server.root / path.lstrip("/")
            found = file.is_file() and (not query or path.endswith("/info/refs"))
            self._send(200 if found else 404, [("Content-Type", "text/plain")], file.read_bytes() if found else b"")
        else:
            self._backend(server)

    def _backend(self, server: GitServer) -> None:
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        for header, name in (("Git-Protocol", "GIT_PROTOCOL"), ("Content-Encoding", "HTTP_CONTENT_ENCODING")):
            if self.headers.get(header) is not None:
                environ[name] = self.headers[header]
        command = (shutil.which("git") or "git", "http-backend")
        done = subprocess.run(command, input=self._body(), env=environ, capture_output=True, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = [(name, value.strip()) for name, _, value in (x.partition(":") for x in head.decode().splitlines())]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self._send(status, [item for item in headers if item[0] != "Status"], body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args
