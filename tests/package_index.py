"""A real package index (PEP 503) on a loopback port, and the small wheels that it serves.

Wheels are written by hand, member by member, so that a test can also write wheels that no build tool would.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import io
import ipaddress
import ssl
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from envbuilder import digest
from envbuilder.locked import LockedPackage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from envbuilder.digest import Digest

LOGIN: Final = ("reader", "open-sesame")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A wheel: its file name and its bytes."""

    name: str
    data: bytes

    @property
    def digest(self) -> Digest:
        return digest.of_bytes(self.data)

    def locked(self, url: str = "https://index.example") -> LockedPackage:
        """Return the package as a lock would name it, served below `url`."""
        name, version = self.name.split("-")[:2]
        return LockedPackage(name=name, version=version, url=f"{url}/{self.name}", sha256=self.digest)


def wheel(  # noqa: PLR0913 - a test says only what it is about
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    python: str | None = None,
    metadata: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    files: Mapping[str, bytes] | None = None,
    entry_points: str = "",
    executables: tuple[str, ...] = (),
    recorded: bool = True,
) -> WheelFile:
    """Write a wheel with a package of its name, or with `files`.

    `metadata` are more lines of METADATA, `recorded=False` leaves RECORD out.
    """
    info = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"{line}\n" for line in metadata)]
    lines += [f"Requires-Dist: {requirement}\n" for requirement in requires]
    lines += [f"Requires-Python: {python}\n"] if python is not None else []
    root = str(tag.endswith("-any")).lower()
    members = dict(files if files is not None else {f"{name}/__init__.py": f"version = {version!r}\n".encode()})
    members[f"{info}/METADATA"] = "".join(lines).encode()
    members[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {root}\nTag: {tag}\n".encode()
    if entry_points:
        members[f"{info}/entry_points.txt"] = entry_points.encode()
    if recorded:
        rows = [f"{path},sha256={record_hash(data)},{len(data)}\n" for path, data in members.items()]
        members[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in members.items():
            member = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            member.external_attr = (0o100755 if path in executables else 0o100644) << 16
            archive.writestr(member, data)
    return WheelFile(name=f"{name}-{version}-{tag}.whl", data=buffer.getvalue())


def record_hash(data: bytes) -> str:
    """Return the sha256 of `data` as RECORD spells it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


@dataclass(slots=True)
class PackageIndex:
    """What the index holds and what it was asked; a test changes it while it runs."""

    host: str
    scheme: str = "http"
    login: tuple[str, str] | None = None
    token: str | None = None
    """Token that every path must begin with, as anaconda's servers want it: `/t/TOKEN/…`."""

    redirects: dict[str, str] = field(default_factory=dict)
    """Path → where the answer sends one."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    """File names of which only the first half is sent."""

    yanked: dict[str, str] = field(default_factory=dict)
    """File name → why it was taken back; may be empty."""

    failures: list[int] = field(default_factory=list)
    """Statuses that the next answers have, whatever is asked."""

    asked: list[str] = field(default_factory=list)
    """The paths of all requests."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}/simple"

    @property
    def url_with_login(self) -> str:
        user, password = self.login or LOGIN
        return f"{self.scheme}://{user}:{password}@{self.host}/simple"

    @property
    def before(self) -> str:
        """What every path begins with."""
        return f"/t/{self.token}" if self.token is not None else ""

    def file_url(self, name: str) -> str:
        return f"{self.scheme}://{self.host}/files/{name}"

    def add(self, *wheels: WheelFile) -> None:
        self.files.update({item.name: item.data for item in wheels})

    def _mark(self, file: str) -> str:
        return f' data-yanked="{html.escape(self.yanked[file])}"' if file in self.yanked else ""

    def page(self, path: str) -> bytes | None:
        """Return what is at `path`, or None."""
        top, _, name = path.strip("/").partition("/")
        if top == "files":
            return self.files.get(name)
        found = sorted(file for file in self.files if file.partition("-")[0].replace("_", "-").lower() == name)
        links = (
            f'<a href="{self.before}/files/{file}#sha256={hashlib.sha256(self.files[file]).hexdigest()}"'
            f"{self._mark(file)}>{file}</a>"
            for file in found
        )
        return "<!DOCTYPE html><html><body>{}</body></html>".format("\n".join(links)).encode() if found else None


@contextmanager
def running_index(
    *,
    login: tuple[str, str] | None = None,
    token: str | None = None,
    certificate: tuple[Path, Path] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[PackageIndex]:
    """Serve an empty index until the block ends; `certificate` is its PEM file and its key."""
    server = ThreadingHTTPServer((address, 0), _Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # Handshakes wait until a thread of its own reads the connection.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    index = PackageIndex(
        host=f"{address}:{server.server_address[1]}",
        scheme="https" if certificate else "http",
        login=login,
        token=token,
    )
    _Handler.indexes[server.server_address[1]] = index
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    indexes: dict[int, PackageIndex] = {}  # noqa: RUF012 - one for each running server

    def handle(self) -> None:
        # A client that does not trust the certificate, or that is cut off, hangs up; that is what a test wants.
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        index = self.indexes[self.connection.getsockname()[1]]
        index.asked.append(self.path)
        if index.failures:
            self._send(index.failures.pop(0), b"", body=body)
            return
        if index.login is not None and self.headers.get("Authorization") != _basic(index.login):
            self._send(401, b"", body=body)
            return
        if not self.path.startswith(f"{index.before}/"):
            self._send(403, b"", body=body)
            return
        if self.path in index.redirects:
            self._send(302, b"", body=body, location=index.redirects[self.path])
            return
        found = index.page(self.path.removeprefix(index.before))
        name = self.path.rpartition("/")[2]
        if found is not None and name in index.cut_off:
            self._send(200, found[: len(found) // 2], body=body, length=len(found))
            self.close_connection = True
            return
        self._send(404 if found is None else 200, found or b"", body=body)

    def _send(self, status: int, data: bytes, *, body: bool, length: int | None = None, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
        self.send_header("Content-Type", "text/html" if data.startswith(b"<!") else "application/octet-stream")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


def _basic(login: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"


_FOR_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def certificate_for_loopback(folder: Path) -> tuple[Path, Path, Path]:
    """Make a throwaway CA and a certificate for 127.0.0.1; return CA, certificate and key as PEM files."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "throwaway CA")])
    now = dt.datetime.now(dt.timezone.utc)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    authority = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # Python 3.13 holds authorities to RFC 5280.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(_FOR_CERTIFICATES, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    served = (
        builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "index.example")]), key.public_key())
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    paths = (folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, data in zip(paths, (authority.public_bytes(pem), served.public_bytes(pem), private), strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture
def package_index() -> Iterator[PackageIndex]:
    """An empty index over plain http, without login."""
    with running_index() as index:
        yield index
