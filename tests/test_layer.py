from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envbuilder import digest, layer
from envbuilder.image_store import ImageStore
from envbuilder.layer import Entry
from envbuilder.oci_image import LAYER_GZIP, Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LONG = "/".join(["a-folder-with-a-rather-long-name"] * 9) + "/file.txt"
ENTRIES = (
    Entry(path="opt/data.bin", mode=0o644, content=b"\x00\x01"),
    Entry(path="opt/run", mode=0o755, content=b"#!/bin/sh\n"),
    Entry(path="opt/link", mode=0o777, link="../data.bin"),
    Entry(path="opt/same", mode=0o644, hard_link="opt/data.bin"),
    Entry(path="opt/empty", mode=0o755),
    Entry(path="opt/grüße-日本.txt", mode=0o644, content="ß".encode()),
    Entry(path=LONG, mode=0o644, content=b"deep"),
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def write(store: ImageStore, entries: Iterable[Entry]) -> Layer:
    return layer.write_layer(store, entries, comment="test")


def members(store: ImageStore, made: Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(store.blob_path(made.blob.digest), mode="r:gz") as tar:
        return {info.name: info for info in tar}


def test_every_kind_of_entry_survives(store: ImageStore) -> None:
    made = write(store, ENTRIES)
    found = members(store, made)
    assert {entry.path for entry in ENTRIES} <= set(found)
    assert found["opt/link"].issym()
    assert found["opt/link"].linkname == "../data.bin"
    assert found["opt/same"].islnk()
    assert found["opt/same"].linkname == "opt/data.bin"
    assert found["opt/empty"].isdir()
    assert (found["opt/run"].mode, found["opt/data.bin"].mode) == (0o755, 0o644)
    with tarfile.open(store.blob_path(made.blob.digest)) as tar:
        stream = tar.extractfile(LONG)
        assert stream is not None
        assert stream.read() == b"deep"


def test_parents_come_before_what_they_hold(store: ImageStore) -> None:
    found = list(members(store, write(store, [Entry(path="a/b/c", mode=0o644, content=b"")])))
    assert found == ["a", "a/b", "a/b/c"]


def test_a_given_parent_keeps_its_mode() -> None:
    given_parent = Entry(path="tmp", mode=0o1777)
    assert layer.with_parents([Entry(path="tmp/x", mode=0o644, content=b""), given_parent])[0] is given_parent


def test_of_two_entries_with_one_path_the_last_wins() -> None:
    first, second = (Entry(path="x", mode=0o644, content=content) for content in (b"1", b"2"))
    assert layer.with_parents([first, second]) == [second]


def test_nothing_tells_who_made_it_or_when(store: ImageStore) -> None:
    made = write(store, ENTRIES)
    for info in members(store, made).values():
        assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0)
    header = store.blob_path(made.blob.digest).read_bytes()[:10]
    assert header[:2] == b"\x1f\x8b"
    assert header[3:8] == bytes(5), "no name, no comment, no time"


def test_the_layer_is_described_as_it_is(store: ImageStore) -> None:
    made = write(store, ENTRIES)
    data = store.blob_path(made.blob.digest).read_bytes()
    assert made.blob.media_type == LAYER_GZIP
    assert (made.blob.digest, made.blob.size) == (digest.of_bytes(data), len(data))
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert made.comment == "test"


@given(st.permutations(ENTRIES))
@settings(max_examples=20, deadline=None)
def test_the_order_of_entries_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, entries: tuple[Entry, ...]
) -> None:
    one = write(ImageStore(tmp_path_factory.getbasetemp() / "one"), ENTRIES)
    other = write(ImageStore(tmp_path_factory.getbasetemp() / "other"), entries)
    assert one == other


@pytest.mark.parametrize(
    "change",
    [
        Entry(path="opt/data.bin", mode=0o755, content=b"\x00\x01"),
        Entry(path="opt/data.bin", mode=0o644, content=b"\x00\x02"),
        Entry(path="opt/link", mode=0o777, link="data.bin"),
        Entry(path="opt/another", mode=0o755),
    ],
    ids=["mode", "content", "link", "path"],
)
def test_each_part_of_an_entry_counts(change: Entry, store: ImageStore) -> None:
    assert write(store, [*ENTRIES, change]).diff_id != write(store, ENTRIES).diff_id


def make_tree(root: Path) -> Path:
    (root / "package" / "data").mkdir(parents=True)
    (root / "package" / "module.py").write_text("x = 1\n")
    (root / "package" / "data" / "ünï.txt").write_text("data")
    (root / "package" / "tool").write_text("#!/bin/sh\n")
    (root / "package" / "tool").chmod(0o755)
    (root / "package" / "alias").symlink_to("data")
    (root / "package" / "broken").symlink_to("/nowhere")
    return root


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


@pytest.mark.usefixtures("umask")
def test_a_tree_gives_the_same_layer_whatever_umask_time_and_place(tmp_path: Path, store: ImageStore) -> None:
    tree = make_tree(tmp_path / "somewhere" / "else")
    for number, path in enumerate(sorted(tree.rglob("*"))):
        os.utime(path, (number * 1000, number * 1000), follow_symlinks=False)
    made = write(store, layer.tree_entries(tree, "opt/env"))
    from_memory = (
        Entry(path="opt/env/package", mode=0o755),
        Entry(path="opt/env/package/data", mode=0o755),
        Entry(path="opt/env/package/data/ünï.txt", mode=0o644, content=b"data"),
        Entry(path="opt/env/package/module.py", mode=0o644, content=b"x = 1\n"),
        Entry(path="opt/env/package/tool", mode=0o755, content=b"#!/bin/sh\n"),
        Entry(path="opt/env/package/alias", mode=0o777, link="data"),
        Entry(path="opt/env/package/broken", mode=0o777, link="/nowhere"),
    )
    assert made == write(store, from_memory)


def test_a_tree_without_a_prefix_lies_at_the_root(tmp_path: Path) -> None:
    paths = {entry.path for entry in layer.tree_entries(make_tree(tmp_path / "tree"))}
    assert {"package", "package/module.py"} <= paths


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_layers_open_compressed_or_not(compress: type[bytes], tmp_path: Path, store: ImageStore) -> None:
    made = write(store, ENTRIES)
    plain = gzip.decompress(store.blob_path(made.blob.digest).read_bytes())
    (tmp_path / "blob").write_bytes(compress(plain))
    with layer.open_layer(tmp_path / "blob") as stream:
        assert stream.read() == plain


def test_a_file_that_is_shorter_than_it_was_is_an_error(tmp_path: Path, store: ImageStore) -> None:
    absent = Entry(path="x", mode=0o644, content=tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        write(store, [absent])
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
