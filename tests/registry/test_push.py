from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from envbuilder import digest
from envbuilder.errors import BuildFailedError, EnvBuilderError, RegistryRefusedError, UnreachableError
from envbuilder.image_reference import ImageReference
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import LAYER_GZIP, MANIFEST, Descriptor, Image, Layer, Platform, RunConfig
from envbuilder.registry import blob_places, push
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import registry_server
from tests.registry_proxy import Fault, first, running_proxy
from tests.registry_server import LOGIN, Registry, answering, certificate, running_registry

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from envbuilder.registry.push import Pushed
    from tests.registry_server import Answer

pytestmark = pytest.mark.process

registry = registry_server.registry
registry_program = registry_server.registry_program
registry_with_login = registry_server.registry_with_login


class Pusher:
    """Pushes from a store of its own, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ImageStore(folder / "store")
        self.docker = folder / "docker"
        self.docker.mkdir()
        self.settings = Settings(cache_dir=folder / "cache", environ=(("DOCKER_CONFIG", str(self.docker)),))

    def image(self, *contents: bytes) -> Image:
        """Make an image of layers that hold anything: registries do not look."""
        layers = []
        for content in contents:
            blob = self.store.add_blob(content)
            described = Descriptor(media_type=LAYER_GZIP, digest=blob, size=len(content))
            layers.append(Layer(blob=described, diff_id=digest.of_bytes(content + b"tar")))
        made = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(user="1000"), layers=tuple(layers))
        self.store.add_image(made)
        return made

    def login(self, host: str, user: str, password: str) -> None:
        entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
        (self.docker / "config.json").write_text(json.dumps({"auths": {host: entry}}))

    def __call__(self, image: Image, *names: str, settings: Settings | None = None) -> Pushed:
        references = tuple(ImageReference.parse(name) for name in names)
        return push.push(
            ((image, references),), store=self.store, settings=settings or self.settings, reporter=Reporter()
        )


@pytest.fixture
def pusher(tmp_path: Path) -> Pusher:
    return Pusher(tmp_path)


def tags(registry: Registry, repository: str) -> list[str]:
    """Return what the registry lists; nothing, for a repository that nothing was named in."""
    try:
        found: dict[str, Any] = registry.request("GET", f"/v2/{repository}/tags/list").json()
    except AssertionError:
        return []
    return sorted(found["tags"] or [])


def is_whole(registry: Registry, repository: str, tag: str, image: Image) -> bool:
    """Tell whether the name points at the image, byte for byte."""
    data = registry.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST}).content
    blobs = [registry.request("GET", f"/v2/{repository}/blobs/{one.blob.digest}").content for one in image.layers]
    return data == image.manifest_bytes() and [digest.of_bytes(one) for one in blobs] == [
        one.blob.digest for one in image.layers
    ]


def test_an_image_is_pushed_with_all_its_names_and_keeps_its_digest(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(900_000), b"model")
    pushed = pusher(image, f"{registry.host}/team/whole:env-1-model-1", f"{registry.host}/team/whole:1")
    assert pushed.digest == image.descriptor().digest
    assert (pushed.uploaded, pushed.mounted, pushed.present) == (3, 0, 0)
    assert pushed.size == 900_005 + image.config_descriptor().size
    assert tags(registry, "team/whole") == ["1", "env-1-model-1"]
    assert is_whole(registry, "team/whole", "1", image)


def test_what_is_there_is_not_sent_again_and_only_the_changed_model_is(registry: Registry, pusher: Pusher) -> None:
    environment = os.urandom(50_000)
    pusher(pusher.image(environment, b"model 1"), f"{registry.host}/again:1")
    same = pusher(pusher.image(environment, b"model 1"), f"{registry.host}/again:2")
    assert (same.uploaded, same.present) == (0, 3)
    changed = pusher(pusher.image(environment, b"model 2"), f"{registry.host}/again:3")
    assert (changed.uploaded, changed.present) == (2, 1)
    assert changed.size < 1000


def test_blobs_are_mounted_from_the_repository_that_has_them(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(50_000), b"one")
    pusher(image, f"{registry.host}/mount/first:1")
    pushed = pusher(image, f"{registry.host}/mount/second:1")
    assert (pushed.uploaded, pushed.mounted, pushed.present) == (0, 3, 0)
    assert is_whole(registry, "mount/second", "1", image)


def test_a_note_of_a_place_that_is_out_of_date_costs_an_upload_only(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(5_000))
    elsewhere = ImageReference.parse(f"{registry.host}/mount/nowhere:1")
    blob_places.note(elsewhere, [image.layers[0].blob.digest], pusher.settings)
    pushed = pusher(image, f"{registry.host}/mount/third:1")
    assert (pushed.uploaded, pushed.mounted) == (2, 0)
    assert is_whole(registry, "mount/third", "1", image)


def test_a_login_is_needed_and_taken_from_dockers_configuration(registry_with_login: Registry, pusher: Pusher) -> None:
    host = registry_with_login.host
    image = pusher.image(b"private")
    with pytest.raises(RegistryRefusedError, match="refuses access") as raised:
        pusher(image, f"{host}/private:1")
    assert raised.value.problems[0].fix == f"log in with `docker login {host}`"
    pusher.login(host, LOGIN[0], "canary-9Xq")
    with pytest.raises(RegistryRefusedError, match="401") as raised:
        pusher(image, f"{host}/private:1")
    assert "canary-9Xq" not in str(raised.value)
    pusher.login(host, *LOGIN)
    pusher(image, f"{host}/private:1")
    assert is_whole(registry_with_login, "private", "1", image)


def test_a_private_ca_is_trusted_when_it_is_named(registry_program: Path, tmp_path: Path, pusher: Pusher) -> None:
    tls = certificate(tmp_path)
    with running_registry(registry_program, tmp_path / "registry", tls=tls) as running:
        image = pusher.image(b"secure")
        with pytest.raises(UnreachableError, match="is not trusted"):
            pusher(image, f"{running.host}/secure:1")
        pusher(image, f"{running.host}/secure:1", settings=Settings(cache_dir=tmp_path / "cache", ca_file=tls[0]))
        assert is_whole(running, "secure", "1", image)


@pytest.mark.parametrize("fault", [Fault(status=429, headers={"Retry-After": "1"}), Fault(status=500)], ids=str)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_what_may_pass_is_tried_again(fault: Fault, method: str, registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(20_000))
    begin = time.monotonic()
    with running_proxy(registry, first(1, method, fault)) as proxy:
        pusher(image, f"{proxy.host}/passing:1")
        assert proxy.count(method) > 1
    assert time.monotonic() - begin >= (1 if fault.status == 429 else 0.5)
    assert is_whole(registry, "passing", "1", image)


def test_a_registry_that_asks_for_an_hour_is_told(registry: Registry, pusher: Pusher) -> None:
    fault = Fault(status=429, headers={"Retry-After": "3600"})
    begin = time.monotonic()
    with (
        running_proxy(registry, first(9, "POST", fault)) as proxy,
        pytest.raises(UnreachableError, match="rate limit") as raised,
    ):
        pusher(pusher.image(b"later"), f"{proxy.host}/later:1")
    assert raised.value.retry_after == 3600
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (401, RegistryRefusedError, "refuses access"),
        (403, RegistryRefusedError, "refuses access"),
        (404, RegistryRefusedError, "there is no"),
        (405, RegistryRefusedError, "answered 405"),
    ],
)
def test_what_is_refused_is_not_tried_again(
    status: int, kind: type[EnvBuilderError], why: str, registry: Registry, pusher: Pusher
) -> None:
    with (
        running_proxy(registry, first(99, "POST", Fault(status=status))) as proxy,
        pytest.raises(kind, match=why),
    ):
        pusher(pusher.image(b"refused"), f"{proxy.host}/refused:1")
    # A second one is the same request with the login that the first answer asked for.
    assert proxy.count("POST") <= 4
    assert tags(registry, "refused") == []


def test_an_upload_that_is_cut_begins_again_where_the_registry_forgot_it(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(2_000_000))
    with running_proxy(registry, first(1, "PATCH", Fault(after=700_000))) as proxy:
        pushed = pusher(image, f"{proxy.host}/cut:1")
    assert pushed.uploaded == 2
    assert is_whole(registry, "cut", "1", image)


def test_an_answer_that_is_lost_is_asked_for_and_nothing_is_sent_again(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(100_000))
    # The registry gets the request whole, and what it answers does not arrive.
    with running_proxy(registry, first(1, "PUT", Fault(), part=f"digest={image.layers[0].blob.digest}")) as proxy:
        pushed = pusher(image, f"{proxy.host}/lost:1")
        assert proxy.count("PATCH") == 2
    assert (pushed.uploaded, pushed.present) == (2, 0)
    assert is_whole(registry, "lost", "1", image)


def test_a_push_that_is_always_cut_names_nothing_and_the_next_one_succeeds(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(os.urandom(600_000), b"small")
    with (
        running_proxy(registry, first(99, "PATCH", Fault(after=1_000))) as proxy,
        pytest.raises(UnreachableError, match="no answer from"),
    ):
        pusher(image, f"{proxy.host}/always:1")
    assert tags(registry, "always") == []
    pusher(image, f"{registry.host}/always:1")
    assert is_whole(registry, "always", "1", image)


def test_a_cut_before_the_last_name_leaves_the_old_image_there(registry: Registry, pusher: Pusher) -> None:
    before, after = pusher.image(b"before"), pusher.image(b"after")
    pusher(before, f"{registry.host}/names:1")
    with (
        running_proxy(registry, first(99, "PUT", Fault(status=503), part="manifests/1")) as proxy,
        pytest.raises(UnreachableError, match="answered 503"),
    ):
        pusher(after, f"{proxy.host}/names:env-2", f"{proxy.host}/names:1")
    assert is_whole(registry, "names", "1", before)
    pusher(after, f"{registry.host}/names:env-2", f"{registry.host}/names:1")
    assert is_whole(registry, "names", "1", after)


def test_a_blob_that_was_damaged_in_the_cache_is_never_pushed(registry: Registry, pusher: Pusher) -> None:
    content = os.urandom(700_000)
    image = pusher.image(b"intact", content)
    place = pusher.store.blob_path(image.layers[1].blob.digest)
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BuildFailedError, match="was damaged in the cache, and was removed"):
        pusher(image, f"{registry.host}/damaged:1")
    assert not place.exists()
    assert tags(registry, "damaged") == []
    pusher(pusher.image(b"intact", content), f"{registry.host}/damaged:1")
    assert is_whole(registry, "damaged", "1", image)


SCRIPT = """
import sys
from pathlib import Path
from envbuilder import digest
from envbuilder.image_reference import ImageReference
from envbuilder.image_store import ImageStore
from envbuilder.registry import push
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
store = ImageStore(Path(sys.argv[1]))
image = store.image(digest.parse(sys.argv[2]))
push.push(
    ((image, (ImageReference.parse(sys.argv[3]),)),),
    store=store, settings=Settings(cache_dir=Path(sys.argv[4])), reporter=Reporter(),
)
"""


@pytest.mark.parametrize("stage", ["PATCH", "manifests/1"])
def test_a_push_that_is_killed_names_nothing_and_the_next_one_succeeds(
    stage: str, registry: Registry, pusher: Pusher
) -> None:
    image = pusher.image(os.urandom(300_000), os.urandom(200_000))
    reached, ended = threading.Event(), threading.Event()

    def fault(method: str, path: str) -> Fault | None:
        if (stage == method) or (method == "PUT" and stage in path):
            reached.set()
            ended.wait(30)
            return Fault()
        return None

    repository = f"killed-{stage.partition('/')[0].lower()}"
    with running_proxy(registry, fault) as proxy:
        arguments = (str(pusher.store.root), image.descriptor().digest, f"{proxy.host}/{repository}:1")
        with subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments, str(pusher.folder / "cache")]) as child:
            assert reached.wait(30)
            child.send_signal(signal.SIGKILL)
        ended.set()
    assert tags(registry, repository) == []
    pushed = pusher(image, f"{registry.host}/{repository}:1")
    # What was complete before the kill is not sent again.
    assert pushed.present == (3 if stage == "manifests/1" else pushed.present)
    assert is_whole(registry, repository, "1", image)


class Resuming:
    """A registry in memory that knows how to take up an upload, which Debian's does not."""

    def __init__(self, cut_after: int) -> None:
        self.cut_after = cut_after
        self.received = b""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.ranges: list[str | None] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> Answer:  # noqa: PLR0911 - one for each kind of request
        path = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length", 0))
        match handler.command, path.path.rsplit("/", 2)[1:]:
            case "POST", _:
                self.received = b""
                return 202, {"Location": "uploads/1?state=x"}, b""
            case "PATCH", _:
                self.ranges.append(handler.headers.get("Content-Range"))
                wanted, self.cut_after = min(length, self.cut_after or length), 0
                self.received += handler.rfile.read(wanted)
                return (202, {"Location": "uploads/1?state=y"}, b"") if wanted == length else None
            case "GET", ["uploads", _]:
                return 204, {"Range": f"0-{len(self.received) - 1}", "Location": "uploads/1?state=z"}, b""
            case "PUT", ["uploads", _]:
                name = parse_qs(path.query)["digest"][0]
                assert digest.of_bytes(self.received) == name
                self.blobs[name] = self.received
                return 201, {}, b""
            case "PUT", ["manifests", name]:
                self.manifests[name] = handler.rfile.read(length)
                return 201, {}, b""
            case "HEAD", ["blobs", name]:
                return 200 if name in self.blobs else 404, {}, b""
            case _:
                return 404, {}, b""


def test_an_upload_that_is_cut_goes_on_where_the_registry_says(pusher: Pusher) -> None:
    image = pusher.image(os.urandom(1_000_000))
    registry = Resuming(cut_after=300_000)
    # The config is small and there already: one upload at a time is all that this registry knows.
    registry.blobs[image.config_descriptor().digest] = image.config_bytes()
    with answering(registry) as host:
        pusher(image, f"{host}/resumed:1")
    assert registry.ranges == [None, "300000-999999"]
    assert registry.manifests["1"] == image.manifest_bytes()


def test_a_place_that_takes_no_rest_gets_the_whole_again(pusher: Pusher) -> None:
    image = pusher.image(os.urandom(1_000_000))
    registry = Resuming(cut_after=300_000)
    registry.blobs[image.config_descriptor().digest] = image.config_bytes()

    def refusing(handler: BaseHTTPRequestHandler) -> Answer:
        if handler.headers.get("Content-Range"):
            handler.rfile.read(int(handler.headers["Content-Length"]))
            return 416, {}, b""
        return registry(handler)

    with answering(refusing) as host:
        pusher(image, f"{host}/whole-again:1")
    assert registry.ranges == [None, None]
    assert registry.blobs[image.layers[0].blob.digest]


def test_a_login_goes_to_the_registry_and_not_to_the_storage_behind_it(pusher: Pusher) -> None:
    image = pusher.image(b"elsewhere")
    seen: list[str | None] = []

    def storage(handler: BaseHTTPRequestHandler) -> Answer:
        seen.append(handler.headers.get("Authorization"))
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        return 201 if handler.command == "PUT" else 202, {"Location": handler.path}, b""

    with answering(storage) as elsewhere:

        def registry(handler: BaseHTTPRequestHandler) -> Answer:
            if not handler.headers.get("Authorization"):
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            if handler.command == "POST":
                return 202, {"Location": f"http://{elsewhere}/upload"}, b""
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            return 201 if handler.command == "PUT" else 404, {}, b""

        with answering(registry) as host:
            pusher.login(host, *LOGIN)
            pusher(image, f"{host}/elsewhere:1")
    assert len(seen) == 4
    assert set(seen) == {None}


def test_blobs_are_not_sent_unencrypted_to_other_machines(pusher: Pusher) -> None:
    def registry(handler: BaseHTTPRequestHandler) -> Answer:
        return (202, {"Location": "http://storage.example/1"}, b"") if handler.command == "POST" else (404, {}, b"")

    with (
        answering(registry) as host,
        pytest.raises(RegistryRefusedError, match=r"the upload sent unencrypted to `storage\.example`"),
    ):
        pusher(pusher.image(b"secret weights"), f"{host}/plain:1")


def test_a_registry_that_names_no_place_for_an_upload_is_told(pusher: Pusher) -> None:
    def registry(handler: BaseHTTPRequestHandler) -> Answer:
        return 202 if handler.command == "POST" else 404, {}, b""

    with answering(registry) as host, pytest.raises(RegistryRefusedError, match="names no place for an upload"):
        pusher(pusher.image(b"nowhere"), f"{host}/nowhere:1")


def test_a_token_is_asked_for_pushing_and_for_reading_where_blobs_are_mounted_from(pusher: Pusher) -> None:
    image = pusher.image(b"shared")
    asked: list[str] = []

    def registry(handler: BaseHTTPRequestHandler) -> Answer:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.path.startswith("/token"):
            asked.extend(parse_qs(urlsplit(handler.path).query)["scope"])
            return 200, {}, b'{"token": "t0ken"}'
        if handler.headers.get("Authorization") != "Bearer t0ken":
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{handler.headers["Host"]}/token"'}, b""
        return 404 if handler.command == "HEAD" else 201, {"Location": handler.path}, b""

    with answering(registry) as host:
        other = ImageReference.parse(f"{host}/team/base:1")
        blob_places.note(other, [image.layers[0].blob.digest], pusher.settings)
        assert pusher(image, f"{host}/team/model:1").mounted == 1
    assert asked == ["repository:team/model:pull,push", "repository:team/base:pull"]


def test_a_name_that_points_there_already_is_not_written_again(registry: Registry, pusher: Pusher) -> None:
    image = pusher.image(b"for ever")
    pusher(image, f"{registry.host}/immutable:1")
    with running_proxy(registry, first(99, "PUT", Fault(status=400), part="manifests/")) as proxy:
        pusher(image, f"{proxy.host}/immutable:1")
        with pytest.raises(RegistryRefusedError, match="answered 400"):
            pusher(pusher.image(b"another"), f"{proxy.host}/immutable:1")
