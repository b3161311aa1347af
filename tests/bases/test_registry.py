from __future__ import annotations

import base64
import gzip
import hashlib
import json
import socket
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from envbuilder import digest
from envbuilder.bases import registry as registries
from envbuilder.errors import BaseImageError, EnvBuilderError, UnreachableError
from envbuilder.image_reference import ImageReference
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, LAYER_GZIP, MANIFEST, Image, Platform
from envbuilder.registry.repository import Repository
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import registry_server
from tests.registry_server import LOGIN, ForeignImage, Registry, answering, certificate, foreign_image, running_registry

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from envbuilder.digest import Digest
    from tests.registry_server import Answer

pytestmark = pytest.mark.process

registry = registry_server.registry
registry_program = registry_server.registry_program
registry_with_login = registry_server.registry_with_login

AMD64 = Platform.parse("linux/amd64")
DOCKER = (
    DOCKER_MANIFEST,
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


class Heard(Reporter):
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.warnings: list[str] = []

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        assert (stage, unit) == ("pull", "MB")
        self.steps.append((done, total))

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Puller:
    """Pulls into a store of its own, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = ImageStore(folder / "store")
        self.cache = folder / "cache"
        self.docker = folder / "docker"
        self.docker.mkdir()
        self.reporter = Heard()
        self.path = ""
        self.mirrors: tuple[tuple[str, str], ...] = ()

    def login(self, **config: object) -> None:
        (self.docker / "config.json").write_text(json.dumps(config))

    def __call__(
        self, text: str, *, platform: Platform = AMD64, offline: bool = False, ca_file: Path | None = None
    ) -> tuple[Digest, Image]:
        environ = (("DOCKER_CONFIG", str(self.docker)), ("PATH", self.path))
        settings = Settings(
            cache_dir=self.cache,
            offline=offline,
            ca_file=ca_file,
            environ=environ,
            registry_mirrors=self.mirrors,
        )
        return registries.pull(
            ImageReference.parse(text), platform=platform, store=self.store, settings=settings, reporter=self.reporter
        )


@pytest.fixture
def pull(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


class Served:
    """An image as a registry's answers; faults are put in by the tests."""

    def __init__(self, image: ForeignImage) -> None:
        self.documents = {digest.of_bytes(data): data for data in (image.data, image.config, *image.blobs)}
        self.image = image

    def __call__(self, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        name = urlsplit(handler.path).path.rpartition("/")[2]
        if name == "1":
            return 200, {"Content-Type": self.image.manifest["mediaType"]}, self.image.data
        data = self.documents.get(digest.Digest(name))
        return (200, {}, data) if data is not None else (404, {}, b"")


@pytest.mark.parametrize("types", [(MANIFEST, CONFIG, LAYER_GZIP), DOCKER], ids=["oci", "docker"])
def test_an_image_is_pulled(types: tuple[str, str, str], registry: Registry, pull: Puller) -> None:
    image = foreign_image({"etc/a": b"a" * 9000}, {"etc/b": b"b"}, types=types)
    pushed = registry.push_image("team/base", "1", image)
    top, found = pull(f"{registry.host}/team/base:1")
    assert top == pushed["digest"]
    assert [item.diff_id for item in found.layers] == [digest.of_bytes(tar) for tar in image.tars]
    assert {item.blob.media_type for item in found.layers} == {LAYER_GZIP}
    assert pull.store.image(found.descriptor().digest) == found
    assert pull.reporter.steps[-1] == (1, 1)


@pytest.mark.parametrize("kind", [INDEX, DOCKER_INDEX])
def test_an_index_is_chosen_from_by_platform(kind: str, registry: Registry, pull: Puller) -> None:
    types = DOCKER if kind == DOCKER_INDEX else (MANIFEST, CONFIG, LAYER_GZIP)
    entries = []
    for name in ("amd64", "arm64"):
        image = foreign_image({"arch": name.encode()}, architecture=name, types=types)
        described = registry.push_image("multi", "", image)
        entries.append({**described, "platform": {"os": "linux", "architecture": name}})
    index = registry.push_manifest("multi", "1", {"schemaVersion": 2, "mediaType": kind, "manifests": entries})
    for name in ("amd64", "arm64"):
        top, found = pull(f"{registry.host}/multi:1", platform=Platform.parse(f"linux/{name}"))
        assert (top, found.platform.architecture) == (index["digest"], name)
    with pytest.raises(BaseImageError, match="there are: `linux/amd64`, `linux/arm64`"):
        pull(f"{registry.host}/multi:1", platform=Platform.parse("linux/s390x"))


def test_only_missing_blobs_are_fetched(pull: Puller) -> None:
    first, second = {"etc/a": b"shared"}, {"etc/b": b"new"}
    asked: list[str] = []
    # gzip writes the time otherwise, and the shared blob must be the same one.
    compress = partial(gzip.compress, mtime=0)
    small = Served(foreign_image(first, compress=compress))
    large = Served(foreign_image(first, second, compress=compress))

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        asked.append(handler.path.rpartition("/")[2])
        return (small if "/small/" in handler.path else large)(handler)

    with answering(answer) as host:
        _, before = pull(f"{host}/small:1")
        asked.clear()
        _, after = pull(f"{host}/large:1")
    assert before.layers[0] == after.layers[0]
    assert before.layers[0].blob.digest not in asked
    assert after.layers[1].blob.digest in asked


def test_offline_finds_what_was_pulled(registry: Registry, pull: Puller) -> None:
    pushed = registry.push_image("off", "1", foreign_image({"a": b""}))
    reference = f"{registry.host}/off:1"
    online = pull(reference)
    assert pull(reference, offline=True) == online
    with pytest.raises(UnreachableError, match="was not pulled for `linux/arm64` yet") as raised:
        pull(reference, offline=True, platform=Platform.parse("linux/arm64"))
    assert "--base debian:bookworm" in str(raised.value)
    pinned = f"{registry.host}/off@{pushed['digest']}"
    assert pull(pinned) == online
    assert pull(pinned, offline=True) == online


def test_a_pinned_image_that_is_here_asks_nobody(pull: Puller) -> None:
    served = Served(foreign_image({"a": b""}))
    with answering(served) as host:
        pinned = f"{host}/base@{digest.of_bytes(served.image.data)}"
        online = pull(pinned)
    assert pull(pinned) == online


def test_no_such_tag(registry: Registry, pull: Puller) -> None:
    with pytest.raises(BaseImageError, match=r"there is no `.*/none:1` in the registry") as raised:
        pull(f"{registry.host}/none:1")
    assert "--base debian:bookworm" in str(raised.value)
    assert "OCI layout" in str(raised.value)
    assert "tar" in str(raised.value)
    assert raised.value.is_absent


def test_a_login_from_the_docker_configuration(registry_with_login: Registry, pull: Puller) -> None:
    host = registry_with_login.host
    registry_with_login.push_image("private", "1", foreign_image({"a": b""}))
    with pytest.raises(BaseImageError, match="needs a login") as raised:
        pull(f"{host}/private:1")
    assert f"docker login {host}" in str(raised.value)
    pull.login(auths={host: {"auth": base64.b64encode(b"user:wrong").decode()}})
    with pytest.raises(BaseImageError, match="401") as raised:
        pull(f"{host}/private:1")
    assert "wrong" not in str(raised.value)
    pull.login(auths={f"https://{host}/v1/": {"auth": base64.b64encode(":".join(LOGIN).encode()).decode()}})
    pull(f"{host}/private:1")


def test_a_login_from_a_credential_helper(registry_with_login: Registry, pull: Puller, tmp_path: Path) -> None:
    host = registry_with_login.host
    registry_with_login.push_image("private", "2", foreign_image({"b": b""}))
    pull.login(credHelpers={host: "tests"})
    with pytest.raises(BaseImageError, match="needs a login"):
        pull(f"{host}/private:2")
    assert "`docker-credential-tests`" in pull.reporter.warnings[0]
    helper = tmp_path / "docker-credential-tests"
    answer = json.dumps({"ServerURL": host, "Username": LOGIN[0], "Secret": LOGIN[1]})
    helper.write_text(f'#!/bin/sh\nread server\n[ "$server" = "{host}" ] && echo \'{answer}\'\n')
    helper.chmod(0o755)
    pull.path = f"{tmp_path}:/usr/bin:/bin"
    pull(f"{host}/private:2")


def test_a_token_server_without_tokens_is_told(pull: Puller) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        realm = f'Bearer realm="http://{handler.headers["Host"]}/token"'
        return (200, {}, b"{}") if "/token" in handler.path else (401, {"WWW-Authenticate": realm}, b"")

    with answering(answer) as host, pytest.raises(UnreachableError, match="gave no token"):
        pull(f"{host}/base:1")


@pytest.mark.parametrize("kind", ["anonymous", "password", "identity token"])
def test_a_bearer_token_is_fetched_where_the_registry_says(kind: str, pull: Puller) -> None:
    served = Served(foreign_image({"a": b""}, {"b": b""}))
    seen: list[tuple[str, str]] = []

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        header = handler.headers.get("Authorization", "")
        if handler.path.startswith("/token"):
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
            seen.append((header, urlsplit(handler.path).query + body))
            return 200, {}, b'{"token": "t0ken"}'
        if header != "Bearer t0ken":
            realm = f'Bearer realm="http://{handler.headers["Host"]}/token",service="tests",scope="a,b"'
            return 401, {"WWW-Authenticate": realm}, b""
        return served(handler)

    with answering(answer) as host:
        if kind != "anonymous":
            entry = {"auth": base64.b64encode(b"user:pass").decode()}
            pull.login(auths={host: {"identitytoken": "id"} if kind == "identity token" else entry})
        pull(f"{host}/team/base:1")
    ((header, query),) = seen
    assert parse_qs(query)["scope"] == ["repository:team/base:pull"]
    assert parse_qs(query)["service"] == ["tests"]
    assert header == (f"Basic {base64.b64encode(b'user:pass').decode()}" if kind == "password" else "")
    assert parse_qs(query).get("refresh_token") == (["id"] if kind == "identity token" else None)


def test_a_login_is_not_sent_unencrypted_elsewhere(pull: Puller) -> None:
    challenge = 'Bearer realm="http://tokens.registry.example/",service="x"'
    with (
        answering(lambda _: (401, {"WWW-Authenticate": challenge}, b"")) as host,
        pytest.raises(BaseImageError, match=r"unencrypted to `tokens\.registry\.example`"),
    ):
        pull(f"{host}/base:1")


def test_a_blob_that_breaks_off_is_taken_up_again(pull: Puller) -> None:
    image = foreign_image({"a": hashlib.shake_256(b"").digest(900_000)})
    served = Served(image)
    ranges: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        status, headers, body = served(handler)
        if body != image.blobs[0]:
            return status, headers, body
        ranges.append(handler.headers.get("Range"))
        match len(ranges):
            case 1:
                return 200, {"Content-Length": str(len(body))}, body[:400_000]
            case 2:
                return 200, {"Content-Length": str(len(body))}, body[:700_000]
            case _:
                start = int((ranges[-1] or "").removeprefix("bytes=").removesuffix("-"))
                return 206, {}, body[start:]

    with answering(answer) as host:
        _, found = pull(f"{host}/base:1")
    assert ranges == [None, f"bytes={1 << 18}-", f"bytes={2 << 18}-"]
    assert pull.store.blob_path(found.layers[0].blob.digest).read_bytes() == image.blobs[0]


def test_a_blob_that_always_breaks_off_leaves_nothing(pull: Puller) -> None:
    served = Served(foreign_image({"a": b"a" * 5000}))

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        status, headers, body = served(handler)
        cut = body == served.image.blobs[0]
        return status, {"Content-Length": str(len(body))} | headers, body[:10] if cut else body

    with answering(answer) as host, pytest.raises(UnreachableError, match="broke off"):
        pull(f"{host}/base:1")
    assert list(pull.store.root.rglob("sha256/*")) == []


@pytest.mark.parametrize("harm", ["cut off", "changed"])
def test_a_harmed_blob_in_the_registry_is_told(harm: str, registry: Registry, pull: Puller) -> None:
    image = foreign_image({"a": harm.encode() * 50})
    registry.push_image("harmed", "1", image)
    file = registry.blob_file(digest.of_bytes(image.blobs[0]))
    data = file.read_bytes()
    file.write_bytes(data[:-9] if harm == "cut off" else bytes([*data[:-1], data[-1] ^ 1]))
    with pytest.raises(BaseImageError, match="damaged"):
        pull(f"{registry.host}/harmed:1")
    assert not pull.store.has(digest.of_bytes(image.blobs[0]))


def test_a_blob_larger_than_announced_is_not_read_to_its_end(pull: Puller) -> None:
    served = Served(foreign_image({"a": b""}))
    served.documents[digest.of_bytes(served.image.blobs[0])] = bytes(3_000_000)
    with answering(served) as host, pytest.raises(BaseImageError, match="damaged"):
        pull(f"{host}/base:1")


def test_a_manifest_without_end_is_refused(pull: Puller) -> None:
    with answering(lambda _: (200, {}, bytes(5 << 20))) as host, pytest.raises(BaseImageError, match="larger than any"):
        pull(f"{host}/base:1")


def test_a_manifest_with_another_digest_is_told(pull: Puller) -> None:
    served = Served(foreign_image({"a": b""}))
    served.documents = dict.fromkeys(served.documents, b"{}")
    with answering(served) as host, pytest.raises(BaseImageError, match="damaged"):
        pull(f"{host}/base@{digest.of_bytes(served.image.data)}")


def test_a_layer_that_is_not_what_the_config_says_is_told(registry: Registry, pull: Puller) -> None:
    registry.push_image("lying", "1", foreign_image({"a": b"a"}, compress=lambda data: gzip.compress(data + b"\0")))
    with pytest.raises(BaseImageError, match="another diff id"):
        pull(f"{registry.host}/lying:1")


def test_a_server_error_passes(pull: Puller) -> None:
    served = Served(foreign_image({"a": b""}))
    failed: set[str] = set()

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        if handler.path not in failed:
            failed.add(handler.path)
            return 500, {}, b""
        return served(handler)

    with answering(answer) as host:
        pull(f"{host}/base:1")
    assert len(failed) == 3


@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (500, UnreachableError, "answered 500"),
        (429, UnreachableError, "rate limit"),
        (403, BaseImageError, "refuses access"),
        (400, BaseImageError, "answered 400"),
    ],
)
def test_error_statuses(status: int, kind: type[EnvBuilderError], why: str, pull: Puller) -> None:
    with answering(lambda _: (status, {}, b"")) as host, pytest.raises(kind, match=why) as raised:
        pull(f"{host}/base:1")
    assert "--base debian:bookworm" in str(raised.value)


def test_a_registry_that_does_not_listen(pull: Puller) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=f"no answer from `{host}`") as raised:
            pull(f"{host}/base:1")
    assert "--base debian:bookworm" in str(raised.value)


def test_other_hosts_are_reached_over_https_only(pull: Puller) -> None:
    settings = Settings(cache_dir=pull.cache)
    for text, url in {
        "python:3": "https://registry-1.docker.io/v2/library/python",
        "registry.example:5000/a:1": "https://registry.example:5000/v2/a",
    }.items():
        opened = Repository(ImageReference.parse(text), registries._PULL, settings=settings, reporter=Reporter())
        assert opened.url == url


def test_a_private_ca_is_trusted_when_it_is_named(registry_program: Path, tmp_path: Path, pull: Puller) -> None:
    tls = certificate(tmp_path)
    with running_registry(registry_program, tmp_path / "registry", tls=tls) as running:
        running.push_image("secure", "1", foreign_image({"a": b""}))
        with pytest.raises(UnreachableError, match="is not trusted") as raised:
            pull(f"{running.host}/secure:1")
        assert "ENVBUILDER_CA_FILE" in str(raised.value)
        pull(f"{running.host}/secure:1", ca_file=tls[0])


def test_a_mirror_is_asked_first_and_nobody_else_where_it_has_the_image(registry: Registry, pull: Puller) -> None:
    image = foreign_image({"a": b"mirrored"})
    pushed = registry.push_image("hub/library/mirrored", "1", image)
    pull.mirrors = (("registry.invalid", "unused.invalid"), ("docker.io", f"{registry.host}/hub"))
    found, _ = pull("mirrored:1")
    assert found == pushed["digest"]
    assert pull.reporter.warnings == []
    # It is the same image to `--offline`, whatever brought it.
    pull.mirrors = ()
    assert pull("mirrored:1", offline=True)[0] == found


def test_mirrors_that_fail_are_passed_over_and_that_is_told(registry: Registry, pull: Puller) -> None:
    pushed = registry.push_image("passed-over", "1", foreign_image({"a": b"origin"}))
    with answering(lambda _: (503, {}, b"")) as broken:
        pull.mirrors = ((registry.host, f"{registry.host}/nothing-here"), (registry.host, broken))
        found, _ = pull(f"{registry.host}/passed-over:1")
    assert found == pushed["digest"]
    assert len(pull.reporter.warnings) == 2
    assert f"the mirror `{registry.host}/nothing-here/passed-over` is passed over" in pull.reporter.warnings[0]
