from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envbuilder.errors import RegistryRefusedError
from envbuilder.image_reference import ImageReference
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Image, Platform, RunConfig
from envbuilder.registry import published, push
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import registry_server
from tests.registry_proxy import Fault, first, running_proxy
from tests.registry_server import Registry, answering, foreign_image

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from envbuilder.registry.published import Published
    from tests.registry_server import Answer

pytestmark = pytest.mark.process

registry = registry_server.registry
registry_program = registry_server.registry_program
registry_with_login = registry_server.registry_with_login


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", environ=(("DOCKER_CONFIG", str(tmp_path)),))


def find(name: str, settings: Settings) -> Published | None:
    return published.find(ImageReference.parse(name), settings=settings, reporter=Reporter())


def check(name: str, settings: Settings) -> None:
    published.check(ImageReference.parse(name), settings=settings, reporter=Reporter())


def test_an_image_is_found_with_its_labels_and_gets_more_names_without_its_layers(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    image = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(labels=(("a", "b"),)), layers=())
    store = ImageStore(tmp_path / "store")
    store.add_image(image)
    name = f"{registry.host}/found:env-1"
    push.push(((image, (ImageReference.parse(name),)),), store=store, settings=settings, reporter=Reporter())
    found = find(name, settings)
    assert found is not None
    assert (found.digest, found.labels, found.manifest) == (
        image.descriptor().digest,
        (("a", "b"),),
        image.manifest_bytes(),
    )
    named = found.name((ImageReference.parse(f"{registry.host}/found:2"),))
    assert (named.digest, named.uploaded, named.references) == (found.digest, 0, (f"{registry.host}/found:2",))
    again = find(f"{registry.host}/found:2", settings)
    assert again is not None
    assert again.digest == found.digest


def test_what_is_no_single_image_is_not_found(registry: Registry, settings: Settings) -> None:
    assert find(f"{registry.host}/nowhere:1", settings) is None
    described = registry.push_image("many", "", foreign_image({"a": b"a"}))
    registry.push_manifest("many", "1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]})
    assert find(f"{registry.host}/many:1", settings) is None
    registry.push_image("one", "1", foreign_image({"a": b"a"}))
    found = find(f"{registry.host}/one:1", settings)
    assert found is not None
    assert [comment for comment, _ in found.layers] == [""]


@pytest.mark.parametrize("config", [b"null", b"[]", b'{"config": {"Labels": 5}}', b"{", b'{"history": 3}'])
def test_a_config_that_is_none_is_no_image(config: bytes, registry: Registry, settings: Settings) -> None:
    about = {"mediaType": CONFIG, **registry.push_blob("odd", config)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": about, "layers": []}
    registry.push_manifest("odd", "1", manifest)
    assert find(f"{registry.host}/odd:1", settings) is None


def test_a_config_with_another_digest_is_not_believed(settings: Settings) -> None:
    image = foreign_image({"a": b"a"}, types=(MANIFEST, CONFIG, LAYER_GZIP))

    def answer(handler: BaseHTTPRequestHandler) -> Answer:
        return 200, {}, image.data if "/manifests/" in handler.path else image.config + b" "

    with answering(answer) as host:
        assert find(f"{host}/lies:1", settings) is None


def test_whether_we_may_push_is_asked_by_an_upload_that_is_called_off(registry: Registry, settings: Settings) -> None:
    with running_proxy(registry, lambda *_: None) as proxy:
        check(f"{proxy.host}/asked:1", settings)
        assert (proxy.count("POST"), proxy.count("DELETE")) == (1, 1)
    assert list(registry.folder.rglob("asked/_uploads/*/data")) == []


def test_a_registry_that_takes_nothing_is_told(registry_with_login: Registry, settings: Settings) -> None:
    with pytest.raises(RegistryRefusedError, match="refuses access"):
        check(f"{registry_with_login.host}/asked:1", settings)


def test_an_upload_that_cannot_be_called_off_does_not_matter(registry: Registry, settings: Settings) -> None:
    with running_proxy(registry, first(9, "DELETE", Fault(status=405))) as proxy:
        check(f"{proxy.host}/asked:1", settings)
        assert proxy.count("DELETE") == 1


def test_the_spelling_of_a_refusal_is_the_specifications_and_nothing_else(settings: Settings) -> None:
    body = json.dumps({"errors": [{"code": "DENIED"}, {"code": "\u001b[31m"}], "secret": "canary"}).encode()
    with (
        answering(lambda _: (400, {}, body)) as host,
        pytest.raises(RegistryRefusedError, match=r"answered 400 Bad Request \(DENIED\)") as raised,
    ):
        check(f"{host}/x:1", settings)
    assert "canary" not in str(raised.value)
