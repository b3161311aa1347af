"""Bases from a container registry, by the distribution specification: manifest, then the blobs that are missing.

What was pulled is noted per reference and platform, so that `--offline` finds it again.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from envbuilder import digest, disk, network
from envbuilder.bases import credentials, manifests, rootfs
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.image_reference import DOCKER_HUB
from envbuilder.oci_image import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_reference import ImageReference
    from envbuilder.image_store import BlobWriter, ImageStore
    from envbuilder.oci_image import Image, Platform
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

_HUB_HOST: Final = "registry-1.docker.io"
_MANIFESTS: Final = (INDEX, DOCKER_INDEX, MANIFEST, DOCKER_MANIFEST)
_CHUNK: Final = 1 << 18
_TIMEOUT: Final = (10, 60)
_PARALLEL: Final = 4
_ATTEMPTS: Final = 4
"""How often a blob's download is taken up again where it broke off."""

_MEGABYTE: Final = 1_000_000
_INSTEAD: Final = (
    "or pass another base: `--base debian:bookworm` (put together from Debian packages), "
    "the path of an OCI layout, or of a root file system's tar"
)


def pull(
    reference: ImageReference, *, platform: Platform, store: ImageStore, settings: Settings, reporter: Reporter
) -> tuple[Digest, Image]:
    """Bring the image for the platform into the store; the digest is what the reference points at (often an index).

    Raises BaseImageError when there is no such image, it needs a login, or it is damaged, and UnreachableError when
    the registry does not answer now.
    """
    where = Source(file=str(reference))
    key = digest.of_json([reference.canonical, str(platform)])
    note = settings.cache_dir / "registry" / f"{digest.hex_of(key)}.json"
    if settings.offline or reference.digest is not None:
        top = _noted(note)
        known = rootfs.recall(store, "image", top, str(platform)) if top is not None else None
        if top is not None and known is not None:
            return top, known
    if settings.offline:
        raise UnreachableError(
            f"the base image was not pulled for `{platform}` yet, and `--offline` forbids to do it now",
            where=where,
            fix=f"run once without `--offline`, {_INSTEAD}",
        )
    repository = _Repository(reference, settings, reporter)
    data = repository.manifest()
    top = digest.of_bytes(data)
    image = rootfs.recall(store, "image", top, str(platform))
    if image is None:
        chosen = manifests.choose(data, platform, repository.document, where)
        repository.fetch_blobs((blob for blob, _ in chosen.layers), store)
        image = manifests.assemble(chosen, store, where)
        rootfs.remember(store, image, "image", top, str(platform))
    disk.write_file(note, json.dumps({"reference": reference.canonical, "digest": top}).encode())
    return top, image


def _noted(note: Path) -> Digest | None:
    try:
        return digest.parse(json.loads(note.read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Authorization(AuthBase):
    """Sets the header; being an `auth`, it also keeps requests from taking a password out of ~/.netrc."""

    def __init__(self, value: str = "") -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.value:
            request.headers["Authorization"] = self.value
        return request


class _Repository:
    """One repository of a registry, with the login it turns out to need."""

    def __init__(self, reference: ImageReference, settings: Settings, reporter: Reporter) -> None:
        self.reference = reference
        self.settings = settings
        self.reporter = reporter
        self.where = Source(file=str(reference))
        self.host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        scheme = "http" if _is_loopback(self.host) and not _speaks_tls(self.host) else "https"
        self.url = f"{scheme}://{self.host}/v2/{reference.repository}"
        self.session = network.session(settings)
        self.authorization = _Authorization()
        self.login_lock = threading.Lock()
        self.progress_lock = threading.Lock()
        self.stopped = threading.Event()
        self.done = 0

    def manifest(self) -> bytes:
        """Return the manifest or index that the reference points at, verified where it can be."""
        wanted = self.reference.digest or self.reference.tag
        with self._get(f"manifests/{wanted}", Accept=", ".join(_MANIFESTS)) as response:
            data = self._content(response)
            promised = self.reference.digest or response.headers.get("Docker-Content-Digest", "")
        found = digest.of_bytes(data)
        if promised.startswith("sha256:") and promised != found:
            raise manifests.damaged(found, self.where)
        return data

    def document(self, blob: Descriptor) -> bytes:
        """Return a manifest or config."""
        kind = "manifests" if blob.media_type in _MANIFESTS else "blobs"
        with self._get(f"{kind}/{blob.digest}", Accept=blob.media_type) as response:
            return manifests.verified(self._content(response), blob, self.where)

    def fetch_blobs(self, blobs: Iterable[Descriptor], store: ImageStore) -> None:
        """Download the blobs that the store lacks, some at a time; those that are complete stay when one fails."""
        missing = {blob.digest: blob for blob in blobs if not store.has(blob.digest)}
        total = sum(blob.size for blob in missing.values())
        with ThreadPoolExecutor(max_workers=_PARALLEL) as executor:
            running = [executor.submit(self._fetch_blob, blob, store, total) for blob in missing.values()]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stopped.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch_blob(self, blob: Descriptor, store: ImageStore, total: int) -> None:
        with store.new_blob() as writer:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._append(blob, writer, total)
                    break
                except requests.exceptions.RequestException as cause:
                    if attempt == _ATTEMPTS:
                        raise self._unreachable(f"the download broke off ({type(cause).__name__})") from cause
            if writer.digest != blob.digest:
                raise manifests.damaged(blob.digest, self.where)

    def _append(self, blob: Descriptor, writer: BlobWriter, total: int) -> None:
        """Download what is missing at the end of the blob."""
        wanted = {"Range": f"bytes={writer.size}-"} if writer.size else {}
        with self._get(f"blobs/{blob.digest}", **wanted) as response:
            known = writer.size if response.status_code != requests.codes.partial_content else 0
            for chunk in response.iter_content(_CHUNK):
                if self.stopped.is_set():
                    raise self._unreachable("the download was stopped")
                fresh = chunk[known:]
                known -= len(chunk) - len(fresh)
                if writer.size + len(fresh) > blob.size:
                    raise manifests.damaged(blob.digest, self.where)
                writer.write(fresh)
                self._progress(len(fresh), total)

    def _progress(self, count: int, total: int) -> None:
        with self.progress_lock:
            before, self.done = self.done, self.done + count
            if self.done // _MEGABYTE > before // _MEGABYTE or self.done == total:
                self.reporter.progress("pull", -(-self.done // _MEGABYTE), -(-total // _MEGABYTE), "MB")

    def _content(self, response: requests.Response) -> bytes:
        data = b""
        try:
            for chunk in response.iter_content(_CHUNK):
                data += chunk
                if len(data) > manifests.LARGEST_DOCUMENT:
                    raise BaseImageError(
                        "the manifest is larger than any real one", where=self.where, fix=f"check the name, {_INSTEAD}"
                    )
        except requests.exceptions.RequestException as cause:
            raise self._unreachable(f"the answer broke off ({type(cause).__name__})") from cause
        return data

    def _get(self, path: str, **headers: str) -> requests.Response:
        """GET below the repository, logging in when the registry asks for it; raises for every error status."""
        used = self.authorization
        response = self._send("GET", f"{self.url}/{path}", auth=used, headers=headers)
        if response.status_code == requests.codes.unauthorized:
            with response, self.login_lock:
                # Another download may have renewed the token meanwhile.
                if self.authorization is used:
                    self.authorization = _Authorization(self._login(response.headers.get("WWW-Authenticate", "")))
            response = self._send("GET", f"{self.url}/{path}", auth=self.authorization, headers=headers)
        if response.status_code < requests.codes.bad_request:
            return response
        with response:
            raise self._error(response)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        options["headers"] = {"Accept-Encoding": "identity", **options.get("headers", {})}
        if _is_loopback(urlsplit(url).netloc):
            options["proxies"] = {"http": "", "https": ""}
        try:
            # `verify` is said again: REQUESTS_CA_BUNDLE would win over the session's own.
            return self.session.request(
                method, url, stream=True, timeout=_TIMEOUT, verify=self.session.verify, **options
            )
        except requests.exceptions.SSLError as cause:
            raise UnreachableError(
                f"the certificate of `{urlsplit(url).netloc}` is not trusted",
                where=self.where,
                fix=f"name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file, {_INSTEAD}",
            ) from cause
        except requests.exceptions.RequestException as cause:
            raise self._unreachable(f"no answer from `{urlsplit(url).netloc}` ({type(cause).__name__})") from cause

    def _unreachable(self, what: str) -> UnreachableError:
        return UnreachableError(
            what, where=self.where, fix=f"check the network and the proxy settings and try again, {_INSTEAD}"
        )

    def _error(self, response: requests.Response) -> BaseImageError | UnreachableError:
        status = f"{response.status_code} {response.reason}"
        match response.status_code:
            case requests.codes.unauthorized | requests.codes.forbidden:
                return BaseImageError(
                    f"the registry `{self.host}` refuses access to `{self.reference}` ({status}): "
                    "it needs a login, or there is no such repository",
                    where=self.where,
                    fix=f"log in with `docker login {self.reference.registry}`, {_INSTEAD}",
                )
            case requests.codes.not_found:
                return BaseImageError(
                    f"there is no `{self.reference}` in the registry `{self.host}`",
                    where=self.where,
                    fix=f"check the name and the tag, {_INSTEAD}",
                )
            case requests.codes.too_many_requests:
                return UnreachableError(
                    f"the rate limit of `{self.host}` is reached",
                    where=self.where,
                    fix=f"wait, or log in with `docker login {self.reference.registry}`, {_INSTEAD}",
                )
            case code if code >= requests.codes.internal_server_error:
                return self._unreachable(f"the registry `{self.host}` answered {status}")
            case _:
                return BaseImageError(
                    f"the registry `{self.host}` answered {status}",
                    where=self.where,
                    fix=f"check that it is a container registry, {_INSTEAD}",
                )

    def _login(self, challenge: str) -> str:
        """Return the Authorization header that answers the challenge."""
        user, password = credentials.find(self.reference.registry, self.settings, self.reporter)
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and user:
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        if scheme.lower() != "bearer":
            return ""
        asked = parse_keqv_list(parse_http_list(rest))
        realm = str(asked.get("realm"))
        server = urlsplit(without_credentials(realm)).netloc
        if urlsplit(realm).scheme != "https" and not _is_loopback(server):
            raise BaseImageError(
                f"the registry `{self.host}` wants the login sent unencrypted to `{server}`",
                where=self.where,
                fix=f"ask who runs that registry, {_INSTEAD}",
            )
        query = {"scope": f"repository:{self.reference.repository}:pull"}
        if asked.get("service"):
            query["service"] = str(asked["service"])
        if user == credentials.TOKEN_USER:
            form = {**query, "grant_type": "refresh_token", "client_id": "envbuilder", "refresh_token": password}
            response = self._send("POST", realm, data=form, auth=_Authorization())
        else:
            login = HTTPBasicAuth(user.encode(), password.encode()) if user else _Authorization()
            response = self._send("GET", realm, params=query, auth=login)
        with response:
            if response.status_code >= requests.codes.bad_request:
                raise self._error(response)
            try:
                answer = json.loads(self._content(response))
                return f"Bearer {answer.get('token') or answer['access_token']}"
            except (ValueError, KeyError, AttributeError) as cause:
                raise self._unreachable(f"`{server}` gave no token") from cause


def _is_loopback(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _speaks_tls(netloc: str) -> bool:
    """Ask a loopback registry whether it expects TLS; whether its certificate is good is asked later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(f"//{netloc}")
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_TIMEOUT[0]) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
