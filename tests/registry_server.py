"""A real registry (Debian's docker-registry) on a loopback port. A test module names the fixtures it uses.

The program is taken from the machine, or unpacked from Debian's package into pytest's cache: nothing gets installed.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from envbuilder.oci_image import CONFIG, LAYER_GZIP, MANIFEST
from tests.alone import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Answer: TypeAlias = tuple[int, dict[str, str], bytes] | None

LOGIN: Final = ("user", "open-sesame")
_HTPASSWD: Final = "user:$2b$04$.V3DMGQYdotkvo7RRAynSuA7BNksDKelaLZe82OQbLtKseKhChBbe\n"


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry."""

    host: str
    folder: Path
    scheme: str = "http"
    auth: tuple[str, str] | None = None
    verify: str | bool = True

    def request(self, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        url = path if "://" in path else f"{self.scheme}://{self.host}{path}"
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, url, auth=self.auth, verify=self.verify, timeout=20, **options)
        assert response.ok, f"{method} {url}: {response.status_code} {response.text}"
        return response

    def push_blob(self, repository: str, data: bytes) -> dict[str, Any]:
        """Upload a blob and return its descriptor, without a media type."""
        blob = f"sha256:{hashlib.sha256(data).hexdigest()}"
        location = self.request("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        self.request("PUT", f"{location}&digest={blob}", data=data)
        return {"digest": blob, "size": len(data)}

    def push_manifest(self, repository: str, tag: str, value: dict[str, Any]) -> dict[str, Any]:
        """Upload a manifest or index and return its descriptor."""
        data = json.dumps(value).encode()
        blob = f"sha256:{hashlib.sha256(data).hexdigest()}"
        media_type = str(value["mediaType"])
        self.request(
            "PUT", f"/v2/{repository}/manifests/{tag or blob}", data=data, headers={"Content-Type": media_type}
        )
        return {"mediaType": media_type, "digest": blob, "size": len(data)}

    def push_image(self, repository: str, tag: str, image: ForeignImage) -> dict[str, Any]:
        """Upload an image and return its manifest's descriptor."""
        for data in (image.config, *image.blobs):
            self.push_blob(repository, data)
        return self.push_manifest(repository, tag, image.manifest)

    def blob_file(self, blob: str) -> Path:
        """Return where the registry keeps a blob, to damage it."""
        hexdigest = blob.removeprefix("sha256:")
        return self.folder / "docker/registry/v2/blobs/sha256" / hexdigest[:2] / hexdigest / "data"


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """An image as another tool would have made it."""

    manifest: dict[str, Any]
    config: bytes
    blobs: tuple[bytes, ...]
    tars: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        return json.dumps(self.manifest).encode()


def make_tar(files: dict[str, bytes]) -> bytes:
    """Return a plain tar of the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def foreign_image(
    *contents: dict[str, bytes],
    architecture: str = "amd64",
    types: tuple[str, str, str] = (MANIFEST, CONFIG, LAYER_GZIP),
    compress: Callable[[bytes], bytes] = gzip.compress,
) -> ForeignImage:
    """Make an image with one layer for each of `contents`."""
    tars = tuple(make_tar(files) for files in contents)
    blobs = tuple(compress(tar) for tar in tars)
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin"], "Cmd": ["python3"], "User": "1000"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": types[0],
        "config": described(types[1], config),
        "layers": [described(types[2], blob) for blob in blobs],
    }
    return ForeignImage(manifest=manifest, config=config, blobs=blobs, tars=tars)


def described(media_type: str, data: bytes) -> dict[str, Any]:
    """Return the descriptor of `data`."""
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for the loopback address, its own CA, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@contextmanager
def running_registry(
    program: Path, folder: Path, *, login: bool = False, tls: tuple[Path, Path] | None = None
) -> Iterator[Registry]:
    """Run a registry with its data in `folder` until the block ends; `tls` is its certificate (and CA) and key."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text('version: "0.1"\nlog: {level: error}\nstorage: {filesystem: {}}\nhttp: {}\n')
    environ = {
        "OTEL_TRACES_EXPORTER": "none",
        "REGISTRY_HTTP_ADDR": host,
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder),
    }
    if login:
        (folder / "htpasswd").write_text(_HTPASSWD)
        environ |= {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "tests",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(folder / "htpasswd"),
        }
    if tls is not None:
        environ |= {"REGISTRY_HTTP_TLS_CERTIFICATE": str(tls[0]), "REGISTRY_HTTP_TLS_KEY": str(tls[1])}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([program, "serve", config], env=environ, stdout=log, stderr=log) as child,
    ):
        try:
            _wait(host, child, folder / "log")
            yield Registry(
                host=host,
                folder=folder,
                scheme="http" if tls is None else "https",
                auth=LOGIN if login else None,
                verify=True if tls is None else str(tls[0]),
            )
        finally:
            child.terminate()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()


def _wait(host: str, child: subprocess.Popen[bytes], log: Path) -> None:
    name, _, port = host.partition(":")
    for _ in range(200):
        if child.poll() is not None:
            break
        try:
            socket.create_connection((name, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the registry did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def registry_program(request: pytest.FixtureRequest) -> Path:
    found = shutil.which("docker-registry")
    if found is not None:
        return Path(found)
    assert request.config.cache is not None
    unpacked = request.config.cache.mkdir("docker-registry")
    program = unpacked / "usr/bin/docker-registry"
    with alone(request.config, "docker-registry"):
        if not program.exists():
            _unpack(unpacked)
    return program


def _unpack(folder: Path) -> None:
    try:
        for command in (
            ("apt-get", "download", "-q", "docker-registry"),
            ("sh", "-c", "dpkg-deb -x docker-registry_*.deb ."),
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as cause:
        reason = f"docker-registry is not here and cannot be had with apt-get: {cause}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def registry(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without login, over plain http."""
    with running_registry(registry_program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def registry_with_login(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants `LOGIN`."""
    with running_registry(registry_program, tmp_path_factory.mktemp("registry"), login=True) as running:
        yield running


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[str]:
    """Serve what `answer(handler)` returns, (status, headers, body), on a loopback port; None cuts the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answered = answer(self)
            if answered is None:
                return
            status, headers, body = answered
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names are of http.server

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
