from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import digest, layer
from envbuilder.errors import BuildFailedError
from envbuilder.image_store import ImageStore
from envbuilder.layer import Entry
from envbuilder.oci_image import INDEX, Descriptor, Image, Platform, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
TAGGING = """
import sys
import filelock
from pathlib import Path
from envbuilder import digest
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import MANIFEST, Descriptor
store = ImageStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}:{number}"
    store.tag(Descriptor(media_type=MANIFEST, digest=store.add_blob(name.encode()), size=len(name)), name)
"""


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def add_image(store: ImageStore, content: bytes = b"x", user: str = "") -> tuple[Descriptor, Image]:
    made = layer.write_layer(store, [Entry(path="file", mode=0o644, content=content)], comment="file")
    image = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(user=user), layers=(made,))
    return store.add_image(image), image


def start_tagging(store: ImageStore, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-c", TAGGING, str(store.root), name, str(count)),
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_an_image_reads_back_as_it_was_added(store: ImageStore) -> None:
    manifest, image = add_image(store)
    assert store.image(manifest.digest) == image
    assert store.blobs_of(manifest) == (
        manifest.digest,
        image.config_descriptor().digest,
        image.layers[0].blob.digest,
    )


def test_comments_that_do_not_belong_to_layers_are_left_out(store: ImageStore) -> None:
    _, image = add_image(store)
    config = json.loads(image.config_bytes())
    config["history"].append({"comment": "one too many"})
    data = json.dumps(config).encode()
    manifest = json.loads(image.manifest_bytes())
    manifest["config"] |= {"digest": store.add_blob(data), "size": len(data)}
    found = store.image(store.add_blob(json.dumps(manifest).encode()))
    assert [item.comment for item in found.layers] == [""]


def test_a_blob_appears_under_its_digest_when_complete(store: ImageStore) -> None:
    with store.new_blob() as blob:
        blob.write(b"one ")
        blob.write(b"two")
        blob.flush()
        assert not store.has(blob.digest)
    assert (blob.size, blob.digest) == (7, digest.of_bytes(b"one two"))
    assert store.blob_path(blob.digest).read_bytes() == b"one two"
    assert store.add_blob(b"one two") == blob.digest


def test_a_blob_that_fails_leaves_nothing(store: ImageStore) -> None:
    def fail() -> None:
        with store.new_blob() as blob:
            blob.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files(store.root) == {}


def test_a_tag_moves_to_the_newer_image(store: ImageStore) -> None:
    old, _ = add_image(store)
    new, _ = add_image(store, b"y")
    store.tag(old, "churn:1", "churn:latest")
    store.tag(new, "churn:latest")
    assert store.references() == {"churn:1": old, "churn:latest": new}


def test_a_store_that_is_not_there_holds_no_image(store: ImageStore) -> None:
    assert store.references() == {}
    assert not store.root.exists()


def test_images_without_a_reference_have_no_name(store: ImageStore) -> None:
    manifest, _ = add_image(store)
    index = {"schemaVersion": 2, "manifests": [{**manifest.to_dict(), "annotations": None}, manifest.to_dict()]}
    (store.root / "index.json").write_text(json.dumps(index))
    assert store.references() == {}


@pytest.mark.process
def test_tags_from_several_processes_are_all_kept(store: ImageStore) -> None:
    children = [start_tagging(store, name, 15) for name in "abc"]
    outputs = [child.communicate()[0] for child in children]
    assert ([child.returncode for child in children], outputs) == ([0] * 3, ["ready\n"] * 3)
    assert set(store.references()) == {f"{name}:{number}" for name in "abc" for number in range(15)}


@pytest.mark.process
def test_a_killed_process_leaves_a_readable_index_and_no_lock(store: ImageStore) -> None:
    for number in range(4):
        with start_tagging(store, f"round-{number}", 100_000) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.1 + number * 0.013)
            child.kill()
            assert child.wait() == -signal.SIGKILL
        assert any(name.startswith(f"round-{number}:") for name in store.references())
        for manifest in store.references().values():
            assert digest.of_file(store.blob_path(manifest.digest)) == manifest.digest
    manifest, _ = add_image(store)
    store.tag(manifest, "after:1")
    assert store.references()["after:1"] == manifest


def test_an_export_is_a_layout_of_this_image_only(store: ImageStore, tmp_path: Path) -> None:
    add_image(store, b"another")
    manifest, image = add_image(store)
    store.export(manifest, ("churn:1", "churn:latest"), tmp_path / "out")
    assert json.loads((tmp_path / "out/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    assert [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]] == [
        "churn:1",
        "churn:latest",
    ]
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "out/blobs/sha256").iterdir()}
    assert set(blobs) == {digest.hex_of(blob) for blob in store.blobs_of(manifest)}
    assert all(digest.hex_of(digest.of_bytes(data)) == name for name, data in blobs.items())
    assert ImageStore(tmp_path / "out").image(manifest.digest) == image


def test_two_exports_are_equal_byte_by_byte(store: ImageStore, tmp_path: Path) -> None:
    manifest, _ = add_image(store)
    store.export(manifest, ("b:1", "a:1"), tmp_path / "one")
    store.export(manifest, ("a:1", "b:1"), tmp_path / "other")
    assert files(tmp_path / "one") == files(tmp_path / "other")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no second file system to export to")  # noqa: S108
def test_an_export_to_another_disk_copies(store: ImageStore, tmp_path: Path) -> None:
    manifest, _ = add_image(store)
    target = Path("/dev/shm") / f"export-{os.getpid()}-{tmp_path.name}"  # noqa: S108
    try:
        store.export(manifest, ("a:1",), target)
        assert ImageStore(target).references() == {"a:1": manifest}
        assert store.blob_path(manifest.digest).stat().st_nlink == 1 or target.stat().st_dev == tmp_path.stat().st_dev
    finally:
        subprocess_free_remove(target)


def subprocess_free_remove(target: Path) -> None:
    for path in sorted(target.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    target.rmdir()


def drop_layer(value: dict[str, Any]) -> object:
    value["layers"] = []
    return value


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: [],
        lambda _: "text",
        lambda value: {**value, "config": None},
        lambda value: {**value, "config": {"digest": "sha256:0"}},
        lambda value: {**value, "layers": [None]},
        drop_layer,
    ],
    ids=["a list", "a text", "no config", "no digest", "no descriptor", "fewer layers"],
)
def test_a_damaged_manifest_is_told(damage: Callable[[Any], object], store: ImageStore) -> None:
    manifest, _ = add_image(store)
    path = store.blob_path(manifest.digest)
    path.write_text(json.dumps(damage(json.loads(path.read_bytes()))))
    with pytest.raises(BuildFailedError, match="not complete in the layout") as raised:
        store.image(manifest.digest)
    (problem,) = raised.value.problems
    assert problem.where is not None
    assert (problem.where.file, problem.fix) == (
        str(store.root),
        "build it again; where the layout came from elsewhere, copy it again",
    )


@pytest.mark.parametrize(
    "config", [b"{", b"[]", b'{"rootfs": {"diff_ids": []}, "history": [1]}', b'{"config": "x"}'], ids=range(4)
)
def test_a_damaged_config_is_told(config: bytes, store: ImageStore) -> None:
    manifest, image = add_image(store)
    store.blob_path(image.config_descriptor().digest).write_bytes(config)
    with pytest.raises(BuildFailedError, match="not complete"):
        store.image(manifest.digest)


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_an_export_without_one_of_its_blobs_fails(what: str, store: ImageStore, tmp_path: Path) -> None:
    manifest, image = add_image(store)
    blobs = {
        "manifest": manifest.digest,
        "config": image.config_descriptor().digest,
        "layer": image.layers[0].blob.digest,
    }
    store.blob_path(blobs[what]).unlink()
    with pytest.raises(BuildFailedError, match="not complete"):
        store.export(manifest, ("a:1",), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"manifests": 1}', '{"manifests": [1]}', '{"manifests": [{"digest": "x"}]}'],
)
def test_a_damaged_index_is_told(text: str, store: ImageStore) -> None:
    manifest, _ = add_image(store)
    (store.root / "index.json").write_text(text)
    for ask in (store.references, lambda: store.tag(manifest, "a:1")):
        with pytest.raises(BuildFailedError) as raised:
            ask()
        assert str(raised.value) == (
            f"`index.json` is not an OCI image index\n  at {store.root / 'index.json'}\n"
            "  fix: copy the layout again, or build the image again"
        )


def test_names_are_taken_away_and_the_rest_stays(store: ImageStore) -> None:
    manifest, _ = add_image(store)
    store.tag(manifest, "a:1", "a:2")
    store.untag("a:1", "b:1")
    assert set(store.references()) == {"a:2"}
    assert store.has(manifest.digest)


def test_a_blob_that_was_cut_short_is_not_held(store: ImageStore) -> None:
    _, image = add_image(store)
    blob = image.layers[0].blob
    assert store.holds(blob)
    place = store.blob_path(blob.digest)
    place.write_bytes(place.read_bytes()[:-1])
    assert not store.holds(blob)
    place.unlink()
    assert not store.holds(blob)


def test_a_damaged_document_is_written_anew(store: ImageStore) -> None:
    manifest, image = add_image(store)
    for blob in (manifest.digest, image.config_descriptor().digest):
        store.blob_path(blob).write_bytes(b"damaged")
    assert store.add_image(image) == manifest
    assert store.image(manifest.digest) == image


def test_an_export_finds_a_damaged_blob_and_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    manifest, image = add_image(store)
    place = store.blob_path(image.layers[0].blob.digest)
    data = place.read_bytes()
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BuildFailedError, match="was damaged in the cache, and was removed"):
        store.export(manifest, ("a:1",), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not place.exists()
