from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from envbuilder import digest
from envbuilder.bases import manifests
from envbuilder.errors import BaseImageError, Source
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LAYER_GZIP,
    MANIFEST,
    Descriptor,
    Image,
    Platform,
)
from tests.registry_server import ForeignImage, described, foreign_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")
ARM64 = Platform.parse("linux/arm64")
DOCKER = (
    DOCKER_MANIFEST,
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
WHERE = Source(file="image")


class Place:
    """Documents by their digest, and which of them were fetched."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def put(self, kind: str, data: bytes) -> dict[str, Any]:
        self.documents[digest.of_bytes(data)] = data
        return described(kind, data)

    def put_image(self, image: ForeignImage) -> dict[str, Any]:
        self.put(image.manifest["config"]["mediaType"], image.config)
        return self.put(image.manifest["mediaType"], image.data)

    def put_index(self, *entries: dict[str, Any], kind: str = INDEX) -> dict[str, Any]:
        return self.put(kind, json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode())

    def fetch(self, blob: Descriptor) -> bytes:
        self.fetched.append(blob.digest)
        return self.documents[blob.digest]

    def choose(self, top: dict[str, Any], platform: Platform = AMD64) -> manifests.Chosen:
        return manifests.choose(self.documents[top["digest"]], platform, self.fetch, WHERE)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def assembled(image: ForeignImage, place: Place, store: ImageStore) -> Image:
    chosen = place.choose(place.put_image(image))
    for blob in image.blobs:
        store.add_blob(blob)
    return manifests.assemble(chosen, store, WHERE)


def indexed(place: Place, kind: str = INDEX) -> tuple[dict[str, Any], dict[str, ForeignImage]]:
    """Put an image for each of two platforms, and an attestation, under one index."""
    images = {name: foreign_image({"arch": name.encode()}, architecture=name) for name in ("amd64", "arm64")}
    entries = [
        {**place.put_image(image), "platform": {"os": "linux", "architecture": name}} for name, image in images.items()
    ]
    entries[1]["platform"]["variant"] = "v8"
    unknown = {**described(MANIFEST, b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
    return place.put_index(unknown, *entries, kind=kind), images


@pytest.mark.parametrize("types", [(MANIFEST, CONFIG, LAYER_GZIP), DOCKER], ids=["oci", "docker"])
def test_a_gzip_layer_stays_as_it_is(types: tuple[str, str, str], place: Place, store: ImageStore) -> None:
    image = foreign_image({"etc/a": b"a"}, {"etc/b": b"b"}, types=types)
    found = assembled(image, place, store)
    assert [item.blob.digest for item in found.layers] == [digest.of_bytes(blob) for blob in image.blobs]
    assert {item.blob.media_type for item in found.layers} == {LAYER_GZIP}
    assert [item.diff_id for item in found.layers] == [digest.of_bytes(tar) for tar in image.tars]
    assert (found.config.command, found.config.user) == (("python3",), "1000")


@pytest.mark.parametrize(
    ("kind", "compress"),
    [
        ("application/vnd.oci.image.layer.v1.tar", bytes),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstandard.compress),
    ],
    ids=["plain", "zstd"],
)
def test_other_layers_become_gzip(
    kind: str, compress: Callable[[bytes], bytes], place: Place, store: ImageStore
) -> None:
    image = foreign_image({"etc/a": b"a" * 9000}, types=(MANIFEST, CONFIG, kind), compress=compress)
    found = assembled(image, place, store)
    data = store.blob_path(found.layers[0].blob.digest).read_bytes()
    assert gzip.decompress(data) == image.tars[0]
    assert (found.layers[0].blob.size, found.layers[0].blob.media_type) == (len(data), LAYER_GZIP)


@pytest.mark.parametrize(
    ("kind", "compress"),
    [
        (LAYER_GZIP, lambda data: gzip.compress(data + b"\0")),
        ("application/vnd.oci.image.layer.v1.tar", lambda data: data + b"\0"),
    ],
    ids=["gzip", "plain"],
)
def test_a_layer_that_is_not_what_the_config_says_is_told(
    kind: str, compress: Callable[[bytes], bytes], place: Place, store: ImageStore
) -> None:
    with pytest.raises(BaseImageError, match="another diff id"):
        assembled(foreign_image({"etc/a": b"a"}, types=(MANIFEST, CONFIG, kind), compress=compress), place, store)


@pytest.mark.parametrize("kind", [INDEX, DOCKER_INDEX])
@pytest.mark.parametrize("platform", [AMD64, ARM64], ids=str)
def test_an_index_is_chosen_from_by_platform(kind: str, platform: Platform, place: Place) -> None:
    index, images = indexed(place, kind)
    image = images[platform.architecture]
    assert place.choose(index, platform).layers[0][0].digest == digest.of_bytes(image.blobs[0])
    assert place.fetched == [digest.of_bytes(image.data), digest.of_bytes(image.config)]


def test_the_platform_itself_comes_before_one_that_fits(place: Place) -> None:
    images = {name: foreign_image({"variant": name.encode()}, architecture="arm64") for name in ("", "v8")}
    entries = [
        {**place.put_image(image), "platform": {"os": "linux", "architecture": "arm64", "variant": name}}
        for name, image in images.items()
    ]
    chosen = place.choose(place.put_index(*entries), Platform.parse("linux/arm64/v8"))
    assert chosen.layers[0][0].digest == digest.of_bytes(images["v8"].blobs[0])


def test_where_an_entry_says_no_platform_the_config_tells(place: Place) -> None:
    images = {name: foreign_image({"arch": name.encode()}, architecture=name) for name in ("amd64", "arm64")}
    index = place.put_index(*(place.put_image(image) for image in images.values()))
    assert place.choose(index, ARM64).layers[0][0].digest == digest.of_bytes(images["arm64"].blobs[0])


def test_a_platform_that_is_not_there_lists_those_that_are(place: Place) -> None:
    index, _ = indexed(place)
    with pytest.raises(BaseImageError, match="not made for `linux/s390x`; there are: `linux/amd64`, `linux/arm64/v8`"):
        place.choose(index, Platform.parse("linux/s390x"))


def test_a_single_image_of_another_platform_is_refused(place: Place) -> None:
    with pytest.raises(BaseImageError, match="there are: `linux/amd64`"):
        place.choose(place.put_image(foreign_image({"a": b""})), ARM64)


@pytest.mark.parametrize(
    ("types", "why"),
    [
        ((MANIFEST, "application/vnd.cncf.helm.config.v1+json", LAYER_GZIP), "not a container image"),
        ((MANIFEST, CONFIG, "application/octet-stream"), "layers of the type `application/octet-stream`"),
    ],
)
def test_artifacts_are_refused(types: tuple[str, str, str], why: str, place: Place) -> None:
    with pytest.raises(BaseImageError, match=why):
        place.choose(place.put_image(foreign_image({"a": b""}, types=types)))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"manifests": [1]}', b"[" * 100_000])
def test_what_is_no_manifest_is_told(data: bytes, place: Place) -> None:
    with pytest.raises(BaseImageError, match="the manifest is not one of OCI or Docker") as raised:
        place.choose(place.put(MANIFEST, data))
    assert raised.value.problems[0].where == WHERE


def test_an_index_that_nests_without_end_is_refused(place: Place) -> None:
    entry = place.put_image(foreign_image({"a": b""}))
    for _ in range(9):
        entry = place.put_index(entry)
    with pytest.raises(BaseImageError, match="indexes inside indexes"):
        place.choose(entry)


@pytest.mark.parametrize("data", [b"ab", b"abcd", b"abd"])
def test_only_content_of_the_right_size_and_digest_is_taken(data: bytes) -> None:
    expected = Descriptor(media_type=CONFIG, digest=digest.of_bytes(b"abc"), size=3)
    assert manifests.verified(b"abc", expected, WHERE) == b"abc"
    with pytest.raises(BaseImageError, match=f"the blob {expected.digest} is damaged"):
        manifests.verified(data, expected, WHERE)
