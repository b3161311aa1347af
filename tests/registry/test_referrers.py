"""Documents attached to images: a real registry that has no API for it, and one that answers as if it had."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import digest
from envbuilder.errors import RegistryRefusedError
from envbuilder.image_reference import ImageReference
from envbuilder.image_store import ImageStore
from envbuilder.oci_artifact import Artifact, with_artifact
from envbuilder.oci_image import INDEX, LAYER_GZIP, MANIFEST, Descriptor, Image, Layer, Platform, RunConfig
from envbuilder.registry import push, referrers
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import registry_server
from tests import skopeo as skopeo_program

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.digest import Digest
    from tests.registry_server import Registry
    from tests.skopeo import Skopeo

pytestmark = pytest.mark.process

registry = registry_server.registry
registry_program = registry_server.registry_program
skopeo = skopeo_program.skopeo

TYPE = "application/vnd.cyclonedx+json"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", environ=(("DOCKER_CONFIG", str(tmp_path)),))


@pytest.fixture
def reference(registry: Registry, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> ImageReference:
    """The name of an image in the registry."""
    store = ImageStore(tmp_path / "store")
    blob = store.add_blob(b"layer")
    layer = Layer(blob=Descriptor(media_type=LAYER_GZIP, digest=blob, size=5), diff_id=digest.of_bytes(b"tar"))
    image = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(), layers=(layer,))
    store.add_image(image)
    name = ImageReference.parse(f"{registry.host}/referrers-{digest.short(digest.of_json(request.node.name))}:1")
    push.push(((image, (name,)),), store=store, settings=settings, reporter=Reporter())
    return name


def attach(reference: ImageReference, image: Digest, data: bytes, settings: Settings) -> Artifact:
    return referrers.attach(
        reference, image, media_type=TYPE, data=data, title="sbom.cdx.json", settings=settings, reporter=Reporter()
    )


def image_of(registry: Registry, reference: ImageReference) -> Digest:
    headers = {"Accept": MANIFEST}
    return digest.of_bytes(
        registry.request("GET", f"/v2/{reference.repository}/manifests/{reference.tag}", headers=headers).content
    )


def attached(registry: Registry, reference: ImageReference, image: Digest) -> list[dict[str, Any]]:
    path = f"/v2/{reference.repository}/manifests/{image.replace(':', '-')}"
    found: list[dict[str, Any]] = registry.request("GET", path, headers={"Accept": INDEX}).json()["manifests"]
    return found


def test_what_is_attached_is_found_by_the_images_digest_and_is_once_there(
    registry: Registry, reference: ImageReference, settings: Settings
) -> None:
    image = image_of(registry, reference)
    for data in (b'{"first":1}', b'{"second":2}', b'{"first":1}'):
        attach(reference, image, data, settings)
    entries = attached(registry, reference, image)
    assert [one["artifactType"] for one in entries] == [TYPE, TYPE]
    contents = []
    for entry in entries:
        headers = {"Accept": MANIFEST}
        path = f"/v2/{reference.repository}"
        manifest = registry.request("GET", f"{path}/manifests/{entry['digest']}", headers=headers).json()
        assert manifest["subject"]["digest"] == image
        assert manifest["artifactType"] == TYPE
        contents.append(registry.request("GET", f"{path}/blobs/{manifest['layers'][0]['digest']}").content)
    assert contents == [b'{"second":2}', b'{"first":1}']
    assert image_of(registry, reference) == image


def test_another_tool_reads_it(
    registry: Registry, reference: ImageReference, settings: Settings, skopeo: Skopeo
) -> None:
    image = image_of(registry, reference)
    artifact = attach(reference, image, b'{"sbom":1}', settings)
    name = digest.of_bytes(artifact.manifest_bytes())
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference.name}@{name}")
    assert json.loads(raw)["subject"]["digest"] == image


def test_a_tag_that_is_something_else_is_named_and_left_alone(
    registry: Registry, reference: ImageReference, settings: Settings
) -> None:
    image = image_of(registry, reference)
    path = f"/v2/{reference.repository}/manifests"
    data = registry.request("GET", f"{path}/1", headers={"Accept": MANIFEST}).content
    registry.request("PUT", f"{path}/{image.replace(':', '-')}", data=data, headers={"Content-Type": MANIFEST})
    with pytest.raises(RegistryRefusedError, match="is to list what is attached"):
        attach(reference, image, b"{}1", settings)


def test_an_index_keeps_what_others_attached() -> None:
    subject = Descriptor(media_type=MANIFEST, digest=digest.of_bytes(b"image"), size=5)
    artifact = Artifact(media_type=TYPE, data=b"{}", subject=subject, title="a")
    other = {"mediaType": MANIFEST, "digest": digest.of_bytes(b"signature"), "size": 9, "artifactType": "signature"}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]}).encode()
    once = with_artifact(index, artifact)
    assert with_artifact(once, artifact) == once
    assert json.loads(once)["manifests"] == [other, artifact.descriptor()]
    for damaged in (b"", b"[]", b'{"manifests": 1}', b'{"manifests": [1]}', b"{}"):
        with pytest.raises(ValueError, match=r"index|Expecting"):
            with_artifact(damaged, artifact)


def test_a_registry_with_the_api_is_not_given_the_tag(
    registry: Registry, reference: ImageReference, settings: Settings
) -> None:
    """The proxy answers as a registry that knows subjects does."""
    from tests.registry_server import answering  # noqa: PLC0415

    image = image_of(registry, reference)
    asked: list[tuple[str, str]] = []
    path = f"/v2/{reference.repository}/manifests/{image}"
    data = registry.request("GET", path, headers={"Accept": MANIFEST}).content

    def answer(handler: Any) -> tuple[int, dict[str, str], bytes]:  # noqa: ANN401 - a request
        asked.append((handler.command, handler.path))
        length = int(handler.headers.get("Content-Length") or 0)
        handler.rfile.read(length)
        if handler.command == "GET":
            return 200, {"Content-Type": MANIFEST}, data
        if handler.command == "HEAD":
            return 200, {}, b""
        return 201, {"OCI-Subject": image}, b""

    with answering(answer) as host:
        attach(ImageReference.parse(f"{host}/team/api:1"), image, b"{}1", settings)
    assert not [one for one in asked if "sha256-" in one[1]]
    assert [command for command, _ in asked].count("PUT") == 1
