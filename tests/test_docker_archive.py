from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, docker_archive, layer
from envbuilder.errors import BuildFailedError, InvalidFileError
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import Image, Platform, RunConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
def image(store: ImageStore) -> Image:
    first = layer.write_layer(store, [layer.Entry(path="a", mode=0o644, content=b"a" * 3000)], comment="")
    second = layer.write_layer(store, [layer.Entry(path="b", mode=0o644, content=b"b")], comment="model")
    return Image(
        platform=Platform.parse("linux/amd64"), config=RunConfig(command=("a",)), layers=(first, second, first)
    )


def test_the_archive_is_one_of_docker_and_of_oci(image: Image, store: ImageStore, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    docker_archive.write(image, ("iris:1", "registry.example/iris:env-1"), store, target)
    with tarfile.open(target) as tar:
        members = {member.name: member for member in tar if member.isfile()}
        content = {name: tar.extractfile(member).read() for name, member in members.items()}  # type: ignore[union-attr]
    (docker,) = json.loads(content["manifest.json"])
    assert docker["RepoTags"] == ["iris:1", "registry.example/iris:env-1"]
    assert content[docker["Config"]] == image.config_bytes()
    assert [digest.of_bytes(content[name]) for name in docker["Layers"]] == [item.blob.digest for item in image.layers]
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    names = {
        item["annotations"]["io.containerd.image.name"]: item["digest"]
        for item in json.loads(content["index.json"])["manifests"]
    }
    assert names == dict.fromkeys(
        ("docker.io/library/iris:1", "registry.example/iris:env-1"), image.descriptor().digest
    )
    for name, data in content.items():
        if name.startswith("blobs/"):
            assert name.endswith(digest.hex_of(digest.of_bytes(data)))


def test_two_archives_of_an_image_are_the_same_bytes(image: Image, store: ImageStore, tmp_path: Path) -> None:
    docker_archive.write(image, ("iris:1",), store, tmp_path / "one.tar")
    assert b"".join(docker_archive.stream(image, ("iris:1",), store)) == (tmp_path / "one.tar").read_bytes()


def test_an_image_without_a_name_has_no_tags(image: Image, store: ImageStore) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(docker_archive.stream(image, (), store)))) as tar:
        docker = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert docker[0]["RepoTags"] == []
    assert index["manifests"] == [image.descriptor().to_dict()]


def test_a_missing_layer_is_told_before_the_first_byte(image: Image, store: ImageStore, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    target.write_bytes(b"older")
    store.blob_path(image.layers[1].blob.digest).unlink()
    with pytest.raises(BuildFailedError, match="missing or incomplete"):
        docker_archive.stream(image, (), store)
    with pytest.raises(BuildFailedError):
        docker_archive.write(image, (), store, target)
    assert target.read_bytes() == b"older"


def test_a_layer_cut_off_while_streaming_stops_the_archive(image: Image, store: ImageStore) -> None:
    parts = docker_archive.stream(image, (), store)
    path = store.blob_path(image.layers[1].blob.digest)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BuildFailedError, match="incomplete"):
        list(parts)


def test_a_bad_name_is_refused(image: Image, store: ImageStore) -> None:
    with pytest.raises(InvalidFileError):
        docker_archive.stream(image, ("Iris:1",), store)
