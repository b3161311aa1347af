from __future__ import annotations

import errno
import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import digest
from envbuilder.bases import layout
from envbuilder.errors import BaseImageError
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, LAYER_GZIP, MANIFEST, Platform
from tests.registry_server import ForeignImage, described, foreign_image

if TYPE_CHECKING:
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")
ARM64 = Platform.parse("linux/arm64")
DOCKER = (
    DOCKER_MANIFEST,
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


class Layout:
    """A layout directory under construction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        (path / "blobs/sha256").mkdir(parents=True)

    def blob_path(self, data: bytes) -> Path:
        return self.path / "blobs/sha256" / digest.hex_of(digest.of_bytes(data))

    def put(self, *blobs: bytes) -> None:
        for data in blobs:
            self.blob_path(data).write_bytes(data)

    def put_image(self, image: ForeignImage) -> dict[str, Any]:
        self.put(image.data, image.config, *image.blobs)
        return described(image.manifest["mediaType"], image.data)

    def add(self, entry: dict[str, Any], name: str | None = None) -> None:
        annotations = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
        self.entries.append({**entry, **annotations})
        index = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


IMAGE = foreign_image({"etc/a": b"a" * 5000}, {"etc/b": b"b"})


@pytest.mark.parametrize("types", [(MANIFEST, CONFIG, LAYER_GZIP), DOCKER], ids=["oci", "docker"])
def test_the_only_image_is_read(types: tuple[str, str, str], source: Layout, store: ImageStore) -> None:
    image = foreign_image({"etc/a": b"a"}, {"etc/b": b"b"}, types=types)
    source.add(source.put_image(image))
    top, found = layout.read(source.path, reference=None, platform=AMD64, store=store)
    assert top == digest.of_bytes(image.data)
    assert [item.blob.digest for item in found.layers] == [digest.of_bytes(blob) for blob in image.blobs]
    assert {item.blob.media_type for item in found.layers} == {LAYER_GZIP}
    assert [item.diff_id for item in found.layers] == [digest.of_bytes(tar) for tar in image.tars]
    assert (found.config.command, found.config.user) == (("python3",), "1000")
    assert store.image(found.descriptor().digest) == found


def test_blobs_are_hard_links(source: Layout, store: ImageStore) -> None:
    source.add(source.put_image(IMAGE))
    _, found = layout.read(source.path, reference=None, platform=AMD64, store=store)
    blob = store.blob_path(found.layers[0].blob.digest)
    assert blob.samefile(source.blob_path(IMAGE.blobs[0]))


@pytest.mark.parametrize("harmed", [False, True])
def test_blobs_are_copied_where_links_do_not_work(
    *, harmed: bool, source: Layout, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.add(source.put_image(IMAGE))
    # Files of someone else are never linked.
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    if harmed:
        source.blob_path(IMAGE.blobs[0]).write_bytes(IMAGE.blobs[0][:-1])
        with pytest.raises(BaseImageError, match="damaged"):
            layout.read(source.path, reference=None, platform=AMD64, store=store)
        return
    _, found = layout.read(source.path, reference=None, platform=AMD64, store=store)
    blob = store.blob_path(found.layers[0].blob.digest)
    assert blob.read_bytes() == IMAGE.blobs[0]
    assert not blob.samefile(source.blob_path(IMAGE.blobs[0]))


def test_another_file_system_gets_a_copy(source: Layout, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    source.add(source.put_image(IMAGE))
    monkeypatch.setattr(os, "link", refuse)
    _, found = layout.read(source.path, reference=None, platform=AMD64, store=store)
    assert store.blob_path(found.layers[0].blob.digest).read_bytes() == IMAGE.blobs[0]


def test_what_was_read_once_needs_no_blobs_any_more(source: Layout, store: ImageStore) -> None:
    source.add(source.put_image(IMAGE))
    first = layout.read(source.path, reference=None, platform=AMD64, store=store)
    for blob in (source.path / "blobs/sha256").iterdir():
        blob.unlink()
    assert layout.read(source.path, reference=None, platform=AMD64, store=store) == first


def indexed(source: Layout, kind: str = INDEX) -> tuple[dict[str, Any], dict[str, ForeignImage]]:
    """Put an image for each of two platforms, and an attestation, under one index."""
    images = {name: foreign_image({"arch": name.encode()}, architecture=name) for name in ("amd64", "arm64")}
    entries = [
        {**source.put_image(image), "platform": {"os": "linux", "architecture": name}} for name, image in images.items()
    ]
    entries[1]["platform"]["variant"] = "v8"
    unknown = {**described(MANIFEST, b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [unknown, *entries]}).encode()
    source.put(index)
    return described(kind, index), images


@pytest.mark.parametrize("kind", [INDEX, DOCKER_INDEX])
@pytest.mark.parametrize("platform", [AMD64, ARM64], ids=str)
def test_an_inner_index_is_chosen_from_by_platform(
    kind: str, platform: Platform, source: Layout, store: ImageStore
) -> None:
    entry, images = indexed(source, kind)
    source.add(entry)
    top, found = layout.read(source.path, reference=None, platform=platform, store=store)
    assert top == entry["digest"]
    assert found.layers[0].blob.digest == digest.of_bytes(images[platform.architecture].blobs[0])


def test_a_platform_that_is_not_there_lists_those_that_are(source: Layout, store: ImageStore) -> None:
    source.add(indexed(source)[0])
    with pytest.raises(BaseImageError, match="not made for `linux/s390x`; there are: `linux/amd64`, `linux/arm64/v8`"):
        layout.read(source.path, reference=None, platform=Platform.parse("linux/s390x"), store=store)


def test_the_name_chooses_among_several(source: Layout, store: ImageStore) -> None:
    other = foreign_image({"other": b""})
    source.add(source.put_image(IMAGE), "python:3.11")
    source.add(source.put_image(other), "python:3.12")
    assert layout.read(source.path, reference="python:3.12", platform=AMD64, store=store)[0] == digest.of_bytes(
        other.data
    )
    with pytest.raises(BaseImageError, match=r"several images .*: `python:3.11`, `python:3.12`"):
        layout.read(source.path, reference=None, platform=AMD64, store=store)
    with pytest.raises(BaseImageError, match=r"no image is called `python:3` .*: `python:3.11`, `python:3.12`"):
        layout.read(source.path, reference="python:3", platform=AMD64, store=store)


def test_one_image_under_two_names_is_the_only_one(source: Layout, store: ImageStore) -> None:
    source.add(source.put_image(IMAGE), "python:3.11")
    source.add(source.put_image(IMAGE), "python:3")
    assert layout.read(source.path, reference=None, platform=AMD64, store=store)[0] == digest.of_bytes(IMAGE.data)


def test_an_empty_layout_is_told(source: Layout, store: ImageStore) -> None:
    (source.path / "index.json").write_text('{"manifests": []}')
    with pytest.raises(BaseImageError, match="no image is chosen in the layout; there are: none"):
        layout.read(source.path, reference=None, platform=AMD64, store=store)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"manifests": [1]}', "[" * 100_000])
def test_what_is_no_layout_is_told(content: str | None, source: Layout, store: ImageStore) -> None:
    if content is not None:
        (source.path / "index.json").write_text(content)
    with pytest.raises(BaseImageError, match="not an OCI layout"):
        layout.read(source.path, reference=None, platform=AMD64, store=store)


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("harm", ["changed", "cut off", "missing"])
def test_a_harmed_blob_is_told_and_not_taken(which: str, harm: str, source: Layout, store: ImageStore) -> None:
    source.add(source.put_image(IMAGE))
    data = {"manifest": IMAGE.data, "config": IMAGE.config, "layer": IMAGE.blobs[0]}[which]
    path = source.blob_path(data)
    match harm:
        case "changed":
            path.write_bytes(bytes([*data[:-1], data[-1] ^ 1]))
        case "cut off":
            path.write_bytes(data[:-1])
        case _:
            path.unlink()
    with pytest.raises(BaseImageError, match="missing" if harm == "missing" else "damaged") as raised:
        layout.read(source.path, reference=None, platform=AMD64, store=store)
    assert digest.of_bytes(data) in str(raised.value)
    assert not store.has(digest.of_bytes(data))


def test_a_layer_that_is_not_what_the_config_says_is_told(source: Layout, store: ImageStore) -> None:
    lying = foreign_image({"etc/a": b"a"}, compress=lambda data: gzip.compress(data + b"\0"))
    source.add(source.put_image(lying))
    with pytest.raises(BaseImageError, match="another diff id"):
        layout.read(source.path, reference=None, platform=AMD64, store=store)
