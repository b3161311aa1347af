"""A conda channel with small packages, served from a folder or by a real HTTP server, and a real forward proxy.

Packages and repodata.json are written by hand, member by member: the same bytes every time, and in a tenth of a second.
"""

from __future__ import annotations

import base64
import bz2
import functools
import hashlib
import importlib
import io
import json
import select
import socket
import ssl
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SUBDIRS: Final = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")
LOGIN: Final = ("reader", "open-sesame")
TOKEN: Final = "tk-canary-token-1234"

PLACEHOLDER: Final = "/opt/placeholder_" + "x" * 80
"""Stands for the prefix in the files of packages."""
_2024: Final = 1_704_067_200_000
"""The timestamp of packages that are given none: the first of January 2024, in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaFile:
    """A conda package: its file name, its bytes, and its record in repodata.json."""

    name: str
    subdir: str
    data: bytes
    record: dict[str, Any]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def package(  # noqa: PLR0913 - a test says only what it is about
    name: str,
    version: str = "1.0",
    *,
    build: str = "0",
    build_number: int = 0,
    subdir: str = "noarch",
    depends: tuple[str, ...] = (),
    constrains: tuple[str, ...] = (),
    noarch: Literal["python", "generic"] | None = None,
    entry_points: tuple[str, ...] = (),
    files: Mapping[str, bytes] | None = None,
    executables: tuple[str, ...] = (),
    links: Mapping[str, str] | None = None,
    listed: Mapping[str, Mapping[str, str]] | None = None,
    extension: Literal[".conda", ".tar.bz2"] = ".conda",
    timestamp: int | None = _2024,
    more: Mapping[str, object] | None = None,
) -> CondaFile:
    """Write a package; `more` is added to its record. The placeholder in its files stands for the prefix.

    `listed` are paths that it says it has, and what it says of them.
    """
    kind = noarch or ("generic" if subdir == "noarch" else None)
    members = dict(files if files is not None else {f"share/{name}/version": version.encode()})
    index: dict[str, Any] = {
        "build": build,
        "build_number": build_number,
        "depends": list(depends),
        "license": "BSD-3-Clause",
        "name": name,
        "subdir": subdir,
        "version": version,
    }
    index |= {"constrains": list(constrains)} if constrains else {}
    index |= {"noarch": kind} if kind is not None else {}
    index |= {"timestamp": timestamp} if timestamp is not None else {}
    links = links or {}
    paths = [_path(path, members[path]) for path in sorted(members)]
    paths += [{"_path": path, "path_type": "softlink"} for path in sorted(links)]
    paths += [{"_path": path, "path_type": "hardlink", **about} for path, about in (listed or {}).items()]
    info: dict[str, bytes] = {
        "info/about.json": _json({"summary": f"{name}, for tests"}),
        "info/files": "".join(f"{path}\n" for path in sorted({*members, *links})).encode(),
        "info/index.json": _json(index),
        "info/paths.json": _json({"paths": paths, "paths_version": 1}),
    }
    if kind == "python":
        link = {"noarch": {"type": "python", "entry_points": list(entry_points)}, "package_metadata_version": 1}
        info["info/link.json"] = _json(link)
    stem = f"{name}-{version}-{build}"
    if extension == ".tar.bz2":
        data = bz2.compress(_tar(info | members, executables, links), 1)
    else:
        parts = {f"pkg-{stem}": _tar(members, executables, links), f"info-{stem}": _tar(info)}
        data = _conda(parts)
    record = {**index, "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(), **(more or {})}
    record |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return CondaFile(name=f"{stem}{extension}", subdir=subdir, data=data, record=record)


def python_package(name: str, version: str = "1.0", *, depends: tuple[str, ...] = (), **options: Any) -> CondaFile:  # noqa: ANN401 - passed on
    """Write a noarch package with one Python module and its metadata."""
    dist_info = f"site-packages/{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"site-packages/{name.replace('-', '_')}.py": f"version = {version!r}\ndef main(): print(version)\n".encode(),
        f"{dist_info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{dist_info}/INSTALLER": b"conda\n",
    }
    options.setdefault("build", "pyhd8ed1ab_0")
    return package(name, version, noarch="python", files=files, depends=depends or ("python >=3.7",), **options)


def python(version: str, subdir: str) -> CondaFile:
    """Write a Python that only says its version; its files lie where a real one's do."""
    minor = ".".join(version.split(".")[:2])
    windows = subdir == "win-64"
    site_packages = "Lib/site-packages" if windows else f"lib/python{minor}/site-packages"
    stub = f'#!/bin/sh\n# {PLACEHOLDER}/bin/python\necho "Python {version}"\n'.encode()
    names = ("python.exe",) if windows else (f"bin/python{minor}", "bin/python3", "bin/python")
    depends = {"linux-64": ("__glibc >=2.17",), "osx-arm64": ("__osx >=11.0",), "osx-64": ("__osx >=10.13",)}
    return package(
        "python",
        version,
        build="h0d1ab_0_cpython",
        subdir=subdir,
        depends=(*depends.get(subdir, ()), "libffi >=3.4,<4.0a0", "tzdata"),
        constrains=(f"python_abi {minor}.* *_cp{minor.replace('.', '')}",),
        files={**dict.fromkeys(names, stub), f"{site_packages}/README.txt": b"packages go here\n"},
        executables=names,
        more={"python_site_packages_path": site_packages},
    )


def _compiled(name: str, version: str, minor: str, subdir: str, **options: Any) -> CondaFile:  # noqa: ANN401 - passed on
    tag = minor.replace(".", "")
    after = f"3.{int(minor.partition('.')[2]) + 1}"
    needs = tuple(options.pop("depends", ()))
    options.setdefault("build", f"py{tag}h0d1ab_0")
    path = f"lib/python{minor}/site-packages/{name}/core.so"
    files = {path: f"\x7fELF {name} {version} {PLACEHOLDER}/lib\0".encode()}
    depends = (f"python >={minor},<{after}.0a0", f"python_abi {minor}.* *_cp{tag}", *needs)
    return package(name, version, subdir=subdir, depends=depends, files=files, **options)


@functools.cache
def sample() -> tuple[CondaFile, ...]:
    """Return the packages that most tests use, for every subdir."""
    found = [
        *(
            python_package(name, version)
            for name, version in (("pip", "24.0"), ("setuptools", "69.0"), ("wheel", "0.43"))
        ),
        package("tzdata", "2024a"),
        package("python_abi", "3.11", build="4_cp311", constrains=("python 3.11.*",)),
        package("python_abi", "3.9", build="4_cp39", constrains=("python 3.9.*",)),
        python_package("six", "1.15.0"),
        python_package("six", "1.16.0", extension=".tar.bz2"),
        python_package("hello", "1.0", depends=("python", "six"), entry_points=("hello = hello:main",)),
        python_package("hello", "2.0", depends=("python", "six"), entry_points=("hello = hello:main",)),
        package("shared", "1.0"),
        package("shared", "2.0"),
        package("left", depends=("shared >=2",)),
        package("right", depends=("shared <2",)),
        package("dated", "1.0", timestamp=1_577_836_800_000),
        package("dated", "2.0"),
        package("undated", "1.0", timestamp=None),
        package("cudalib", "12.4", depends=("__cuda >=12",)),
        package("fresh", depends=("__glibc >=2.38",)),
        package("modern-kernel", depends=("__linux >=6",)),
    ]
    for subdir in SUBDIRS:
        found += [python("3.9.18", subdir), python("3.11.7", subdir)]
        found += [
            package("libffi", "3.4.2", subdir=subdir, extension=".tar.bz2"),
            package("libblas", "3.9.0", subdir=subdir),
            _compiled("numpy", "1.26.4", "3.9", subdir, depends=("libblas >=3.9",)),
            *(
                _compiled("numpy", one, "3.11", subdir, depends=("libblas >=3.9",))
                for one in ("1.24.4", "1.26.4", "2.0.1")
            ),
            _compiled(
                "pytorch",
                "2.3.1",
                "3.11",
                subdir,
                build="cpu_py311_0",
                depends=("numpy <2",),
                more={"purls": ["pkg:pypi/torch@2.3.1"]},
            ),
        ]
    cuda = ("numpy <2", "cudalib >=12", "__cuda >=12")
    found.append(_compiled("pytorch", "2.3.1", "3.11", "linux-64", build="cuda_py311_1", build_number=1, depends=cuda))
    return tuple(found)


def repodata(files: Iterable[CondaFile], subdir: str) -> bytes:
    """Return the repodata.json of one subdir."""
    here = sorted((one for one in files if one.subdir == subdir), key=lambda one: one.name)
    return _json(
        {
            "info": {"subdir": subdir},
            "packages": {one.name: one.record for one in here if one.name.endswith(".tar.bz2")},
            "packages.conda": {one.name: one.record for one in here if one.name.endswith(".conda")},
            "removed": [],
            "repodata_version": 1,
        }
    )


def write_channel(folder: Path, files: Iterable[CondaFile]) -> str:
    """Write a channel into a folder and return its `file://` address."""
    kept = tuple(files)
    for path, data in _tree(kept).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder.as_uri()


def _tree(files: tuple[CondaFile, ...]) -> dict[str, bytes]:
    tree = {f"{subdir}/repodata.json": repodata(files, subdir) for subdir in (*SUBDIRS, "noarch")}
    return tree | {f"{one.subdir}/{one.name}": one.data for one in files}


@functools.cache
def _sample_tree() -> dict[str, bytes]:
    return _tree(sample())


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _path(path: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {
        "_path": path,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if PLACEHOLDER.encode() in data:
        entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in data else "text"}
    return entry


def _tar(
    members: Mapping[str, bytes], executables: tuple[str, ...] = (), links: Mapping[str, str] | None = None
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(members):
            member = tarfile.TarInfo(path)
            member.size = len(members[path])
            member.mode = 0o755 if path in executables else 0o644
            member.mtime = 1_577_836_800
            archive.addfile(member, io.BytesIO(members[path]))
        for path, target in sorted((links or {}).items()):
            member = tarfile.TarInfo(path)
            member.type, member.linkname, member.mtime = tarfile.SYMTYPE, target, 1_577_836_800
            archive.addfile(member)
    return buffer.getvalue()


def _conda(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        contents = {"metadata.json": b'{"conda_pkg_format_version": 2}'}
        contents |= {f"{name}.tar.zst": _zstd(data) for name, data in parts.items()}
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            found = importlib.import_module(name)
        except ImportError:
            continue
        compressed: bytes = found.compress(data, 3)
        return compressed
    message = "this Python has no zstd"
    raise RuntimeError(message)


@dataclass(slots=True)
class ChannelServer:
    """What the server holds and what it was asked; a test changes it while it runs."""

    host: str
    scheme: str = "http"
    login: tuple[str, str] | None = None
    """User and password that every request must have."""

    bearer: str | None = None
    """Token that every request must have in its Authorization header."""

    token: str | None = None
    """Token that every path must begin with, as anaconda's servers want it: `/t/TOKEN/…`."""

    channels: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Channel → path → content."""

    failures: list[int] = field(default_factory=list)
    """Statuses that the next answers have, whatever is asked."""

    statuses: dict[str, int] = field(default_factory=dict)
    """Path inside a channel → the status of every answer."""

    cut_off: set[str] = field(default_factory=set)
    """Paths inside a channel of which only the first half is sent, though the whole length was promised."""

    silent: set[str] = field(default_factory=set)
    """Paths inside a channel for which the connection is closed without an answer."""

    etag: str | None = None
    """The ETag of every answer, whatever it holds; None: one that tells contents apart."""

    hanging: threading.Event | None = None
    """Answers are held back until it is set."""

    asked: list[str] = field(default_factory=list)
    """The paths of all requests."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def url_with_login(self) -> str:
        user, password = self.login or LOGIN
        return f"{self.scheme}://{user}:{password}@{self.host}"

    def add(self, channel: str, files: Iterable[CondaFile] | None = None) -> None:
        """Serve a channel; without files, the sample."""
        self.channels[channel] = dict(_sample_tree()) if files is None else _tree(tuple(files))

    def put(self, channel: str, path: str, data: bytes) -> None:
        """Serve other bytes at a path of the channel, e.g. a package whose hash is not the one in repodata.json."""
        self.channels[channel][path] = data


@contextmanager
def running_channel(
    *,
    login: tuple[str, str] | None = None,
    bearer: str | None = None,
    token: str | None = None,
    certificate: tuple[Path, Path] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[ChannelServer]:
    """Serve no channel yet, until the block ends; `certificate` is its PEM file and its key."""
    server = ThreadingHTTPServer((address, 0), _ChannelHandler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # Handshakes wait until a thread of its own reads the connection.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state = ChannelServer(
        host=f"{address}:{server.server_address[1]}",
        scheme="https" if certificate else "http",
        login=login,
        bearer=bearer,
        token=token,
    )
    _ChannelHandler.servers[server.server_address[1]] = state
    with _serving(server):
        yield state


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _QuietHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        # A client that does not trust the certificate, or that is cut off, hangs up; that is what a test wants.
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args

    def send(self, status: int, data: bytes, headers: Mapping[str, str], *, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _ChannelHandler(_QuietHandler):
    servers: ClassVar[dict[int, ChannelServer]] = {}

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = self.servers[self.connection.getsockname()[1]]
        server.asked.append(self.path)
        if server.hanging is not None:
            server.hanging.wait(60)
        channel, _, path = self._without_token(server).strip("/").partition("/")
        if server.failures:
            self._send(server.failures.pop(0))
        elif path in server.silent:
            self.close_connection = True
        elif (refused := self._refusal(server)) is not None:
            self._send(refused)
        elif path in server.statuses:
            self._send(server.statuses[path])
        elif (data := server.channels.get(channel, {}).get(path)) is None:
            self._send(404)
        elif path in server.cut_off:
            self._send(200, data[: len(data) // 2], length=len(data), etag=server.etag)
            self.close_connection = True
        elif self.headers.get("If-None-Match") == (server.etag or _etag(data)):
            self._send(304)
        else:
            self._send(200, data, etag=server.etag)

    def _send(self, status: int, data: bytes = b"", *, length: int | None = None, etag: str | None = None) -> None:
        headers = {"WWW-Authenticate": 'Basic realm="tests"'} if status == 401 else {"ETag": etag or _etag(data)}
        self.send(status, data, headers, length=length)

    def _without_token(self, server: ChannelServer) -> str:
        return self.path.removeprefix(f"/t/{server.token}") if server.token is not None else self.path

    def _refusal(self, server: ChannelServer) -> int | None:
        given = self.headers.get("Authorization")
        if server.login is not None and given != _basic(server.login):
            return 401 if given is None else 403
        if server.bearer is not None and given != f"Bearer {server.bearer}":
            return 401
        if server.token is not None and not self.path.startswith(f"/t/{server.token}/"):
            return 404 if "/t/" not in self.path else 403
        return None


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _basic(login: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"


@dataclass(slots=True)
class Proxy:
    """What a forward proxy was asked, and whom it lets through."""

    host: str
    login: tuple[str, str] | None = None
    refuse: bool = False
    """Answer 403 to everything."""

    asked: list[str] = field(default_factory=list)
    """The URLs, and the hosts of CONNECT."""

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def url_with_login(self) -> str:
        user, password = self.login or LOGIN
        return f"http://{user}:{password}@{self.host}"


@contextmanager
def running_proxy(*, login: tuple[str, str] | None = None, address: str = "127.0.0.1") -> Iterator[Proxy]:
    """Run a forward proxy until the block ends."""
    server = ThreadingHTTPServer((address, 0), _ProxyHandler)
    server.daemon_threads = True
    state = Proxy(host=f"{address}:{server.server_address[1]}", login=login)
    _ProxyHandler.proxies[server.server_address[1]] = state
    with _serving(server):
        yield state


class _ProxyHandler(_QuietHandler):
    proxies: ClassVar[dict[int, Proxy]] = {}

    def _let_through(self) -> bool:
        proxy = self.proxies[self.connection.getsockname()[1]]
        proxy.asked.append(self.path)
        if proxy.login is not None and self.headers.get("Proxy-Authorization") != _basic(proxy.login):
            self.send(407, b"", {"Proxy-Authenticate": 'Basic realm="proxy"'})
            return False
        if proxy.refuse:
            self.send(403, b"", {})
            return False
        return True

    def do_HEAD(self) -> None:
        self._forward()

    def do_GET(self) -> None:
        self._forward()

    def _forward(self) -> None:
        if not self._let_through():
            return
        kept = {name: value for name, value in self.headers.items() if name.lower() in {"authorization", "accept"}}
        parts = urlsplit(self.path)
        opener = build_opener(ProxyHandler({}))
        request = Request(f"http://{parts.netloc}{parts.path}", headers=kept, method=self.command)
        # Statuses of the server are passed on, so errors are answers.
        opener.process_response = {}  # type: ignore[attr-defined]
        with opener.open(request, timeout=30) as answer:
            passed = {name: answer.headers[name] for name in ("Content-Type", "ETag") if answer.headers[name]}
            self.send(answer.status, answer.read(), passed)

    def do_CONNECT(self) -> None:
        if not self._let_through():
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                readable, _, _ = select.select(list(ends), [], [], 30)
                for end in readable:
                    data = end.recv(1 << 16)
                    if not data:
                        self.close_connection = True
                        return
                    ends[end].sendall(data)
                if not readable:
                    return
