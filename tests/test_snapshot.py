from __future__ import annotations

import gzip
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, snapshot
from envbuilder.errors import BaseImageError
from envbuilder.image_store import ImageStore
from envbuilder.oci_image import LAYER_GZIP, Descriptor, Layer

if TYPE_CHECKING:
    from pathlib import Path

FILE, DIRECTORY, SYMLINK, HARD_LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def add_layer(store: ImageStore, *members: tuple[str, bytes, str]) -> Layer:
    """Store a layer of (path, type, content or link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, text in members:
            info = tarfile.TarInfo(path)
            info.type, info.mode = kind, 0o755 if kind == DIRECTORY else 0o644
            if kind in (SYMLINK, HARD_LINK):
                info.linkname = text
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    data = gzip.compress(buffer.getvalue(), mtime=0)
    blob = Descriptor(media_type=LAYER_GZIP, digest=store.add_blob(data), size=len(data))
    return Layer(blob=blob, diff_id=digest.of_bytes(buffer.getvalue()))


def unpack(store: ImageStore, *layers: Layer) -> Path:
    return snapshot.of_chain(layers, store=store, snapshots=store.root.parent / "snapshots")


def listing(root: Path) -> dict[str, str]:
    """Return path → content, `-> target`, or `/`."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {path.readlink()}"
        else:
            found[str(path.relative_to(root))] = "/" if path.is_dir() else path.read_text()
    return found


BASE = (
    ("etc", DIRECTORY, ""),
    ("etc/hosts", FILE, "loopback"),
    ("etc/conf.d", DIRECTORY, ""),
    ("etc/conf.d/a", FILE, "a"),
    ("etc/conf.d/b", FILE, "b"),
    ("bin", SYMLINK, "usr/bin"),
    ("usr/bin", DIRECTORY, ""),
    ("usr/bin/tool", FILE, "tool"),
    ("usr/bin/alias", HARD_LINK, "usr/bin/tool"),
)


def test_one_layer_gives_its_files(store: ImageStore) -> None:
    made = add_layer(store, *BASE)
    root = snapshot.of_layer(made, store=store, snapshots=store.root.parent / "snapshots")
    assert listing(root)["etc/hosts"] == "loopback"
    assert listing(root)["bin"] == "-> usr/bin"
    assert (root / "usr/bin/alias").samefile(root / "usr/bin/tool")


@pytest.mark.parametrize(
    ("second", "changed"),
    [
        pytest.param([("etc/.wh.hosts", FILE, "")], {"etc/hosts": None}, id="a file is whited out"),
        pytest.param(
            [("etc/.wh.conf.d", FILE, "")],
            {"etc/conf.d": None, "etc/conf.d/a": None, "etc/conf.d/b": None},
            id="a directory is whited out",
        ),
        pytest.param([(".wh.bin", FILE, "")], {"bin": None}, id="a link is whited out, not what it names"),
        pytest.param([("etc/.wh.absent", FILE, "")], {}, id="nothing to white out"),
        pytest.param([("no/such/.wh..wh..opq", FILE, "")], {}, id="nothing to make opaque"),
        pytest.param(
            [("etc/conf.d/.wh..wh..opq", FILE, ""), ("etc/conf.d/new", FILE, "n")],
            {"etc/conf.d/a": None, "etc/conf.d/b": None, "etc/conf.d/new": "n"},
            id="an opaque directory",
        ),
        pytest.param([("etc/hosts", FILE, "other")], {"etc/hosts": "other"}, id="a file is replaced"),
        pytest.param([("etc/hosts", DIRECTORY, "")], {"etc/hosts": "/"}, id="a file becomes a directory"),
        pytest.param(
            [("etc/conf.d", FILE, "now a file")],
            {"etc/conf.d": "now a file", "etc/conf.d/a": None, "etc/conf.d/b": None},
            id="a directory becomes a file",
        ),
        pytest.param([("bin", DIRECTORY, ""), ("bin/x", FILE, "x")], {"bin": "/", "bin/x": "x"}, id="a link, too"),
        pytest.param([("etc/hosts", SYMLINK, "conf.d/a")], {"etc/hosts": "-> conf.d/a"}, id="a file becomes a link"),
        pytest.param([("etc", DIRECTORY, "")], {}, id="a directory stays with what it holds"),
        pytest.param([("bin/new", FILE, "n")], {"usr/bin/new": "n"}, id="a file goes through a link"),
        pytest.param([("usr/bin/tool", FILE, "T")], {"usr/bin/tool": "T"}, id="a hard link keeps the old content"),
        pytest.param([("dev/null", tarfile.CHRTYPE, ""), ("dev/p", tarfile.FIFOTYPE, "")], {}, id="devices"),
    ],
)
def test_a_second_layer_changes_the_first(
    second: list[tuple[str, bytes, str]], changed: dict[str, str | None], store: ImageStore
) -> None:
    before = listing(unpack(store, add_layer(store, *BASE)))
    after = listing(unpack(store, add_layer(store, *BASE), add_layer(store, *second)))
    assert after == {path: text for path, text in {**before, **changed}.items() if text is not None}


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", FILE, "x")],
        [("a/../../escaped", FILE, "x")],
        [("out", SYMLINK, ".."), ("out/escaped", FILE, "x")],
        [("up", SYMLINK, "../.."), ("out", SYMLINK, "up/.."), ("out/escaped", FILE, "x")],
        [("stolen", HARD_LINK, "../../../secret")],
        [("out", SYMLINK, "../../.."), ("stolen", HARD_LINK, "out/secret")],
    ],
    ids=["above", "above through a folder", "link", "link through a link", "hard link", "hard link through a link"],
)
def test_a_path_that_leaves_the_image_is_refused(members: list[tuple[str, bytes, str]], store: ImageStore) -> None:
    (store.root.parent / "secret").write_text("secret")
    (store.root.parent / "secret").chmod(0o600)
    before = set(store.root.parent.iterdir()) | {store.root, store.root.parent / "snapshots"}
    with pytest.raises(BaseImageError) as raised:
        unpack(store, add_layer(store, *members))
    (problem,) = raised.value.problems
    assert problem.what == f"a layer holds a path that leaves the image: {members[-1][0]!r}"
    assert problem.fix == "use a base image from a source you trust"
    assert set(store.root.parent.iterdir()) == before
    assert list((store.root.parent / "snapshots").iterdir()) == []
    assert (store.root.parent / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "members",
    [
        [("../.wh.secret", FILE, "")],
        [(".wh...", FILE, "")],
        [("a/.wh...", FILE, "")],
        [("out", SYMLINK, "../.."), ("out/.wh.secret", FILE, "")],
        [("out", SYMLINK, "../.."), ("out/.wh..wh..opq", FILE, "")],
    ],
    ids=["above", "the folder above", "the root", "through a link", "opaque through a link"],
)
def test_a_whiteout_removes_nothing_outside(members: list[tuple[str, bytes, str]], store: ImageStore) -> None:
    # A snapshot is made two levels below the folder of snapshots.
    secret = store.root.parent / "snapshots" / "secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    unpack(store, add_layer(store, *members))
    assert secret.read_text() == "secret"


def test_a_hard_link_to_a_link_changes_nothing_outside(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    before = (tmp_path / "secret").stat()
    link = ("link", SYMLINK, str(tmp_path / "secret"))
    root = unpack(store, add_layer(store, link, ("again", HARD_LINK, "link")))
    assert (root / "again").readlink() == tmp_path / "secret"
    assert (tmp_path / "secret").stat() == before


def test_a_hard_link_to_nothing_is_told(store: ImageStore) -> None:
    with pytest.raises(BaseImageError, match="hard link to a file that is not there: 'again'"):
        unpack(store, add_layer(store, ("again", HARD_LINK, "absent")))


def test_an_absolute_link_is_kept_as_it_is_and_not_followed(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = ("var", SYMLINK, str(tmp_path / "outside"))
    assert listing(unpack(store, add_layer(store, link))) == {"var": f"-> {tmp_path / 'outside'}"}
    with pytest.raises(BaseImageError):
        unpack(store, add_layer(store, link), add_layer(store, ("var/file", FILE, "x")))
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_same_chain_is_unpacked_once(store: ImageStore) -> None:
    made = add_layer(store, *BASE)
    first = unpack(store, made)
    store.blob_path(made.blob.digest).unlink()
    assert unpack(store, made) == first


def test_the_order_of_layers_makes_another_chain(store: ImageStore) -> None:
    one, other = (add_layer(store, ("file", FILE, text)) for text in "ab")
    assert (unpack(store, one, other) / "file").read_text() == "b"
    assert (unpack(store, other, one) / "file").read_text() == "a"


def test_a_directory_that_holds_the_layers_files_is_its_snapshot(store: ImageStore, tmp_path: Path) -> None:
    made = add_layer(store, ("file", FILE, "x"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    for _ in range(2):
        snapshot.keep(made, tmp_path / "kept", snapshots=tmp_path / "snapshots")
    assert (unpack(store, made) / "file").read_text() == "kept"


def test_a_kept_directory_that_is_gone_is_replaced(store: ImageStore, tmp_path: Path) -> None:
    made = add_layer(store, ("file", FILE, "x"))
    (tmp_path / "lost").mkdir()
    (tmp_path / "new").mkdir()
    snapshot.keep(made, tmp_path / "lost", snapshots=tmp_path / "snapshots")
    (tmp_path / "lost").rmdir()
    snapshot.keep(made, tmp_path / "new", snapshots=tmp_path / "snapshots")
    assert unpack(store, made).samefile(tmp_path / "new")


def test_a_kept_directory_that_is_gone_is_unpacked_again(store: ImageStore, tmp_path: Path) -> None:
    made = add_layer(store, ("file", FILE, "x"))
    (tmp_path / "lost").mkdir()
    snapshot.keep(made, tmp_path / "lost", snapshots=tmp_path / "snapshots")
    (tmp_path / "lost").rmdir()
    assert (unpack(store, made) / "file").read_text() == "x"


def test_files_are_readable_whatever_the_umask(store: ImageStore) -> None:
    old = os.umask(0o077)
    try:
        root = unpack(store, add_layer(store, ("a", DIRECTORY, ""), ("a/b", DIRECTORY, ""), ("a/b/file", FILE, "")))
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o555 for path in (root, root / "a", root / "a/b")} == {0o555}
