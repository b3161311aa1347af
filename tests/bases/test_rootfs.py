from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from envbuilder import digest
from envbuilder.bases import rootfs
from envbuilder.errors import BaseImageError
from envbuilder.image_store import ImageStore
from envbuilder.layer import open_layer
from envbuilder.oci_image import LAYER_GZIP, Image, Platform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(content)
    info.uid, info.mtime = 1234, 99
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


USUAL = (
    member("./", kind=tarfile.DIRTYPE, mode=0o755),
    member("./usr/bin/su", b"ELF", mode=0o4755),
    member("./tmp", kind=tarfile.DIRTYPE, mode=0o1777),
    member("./bin", kind=tarfile.SYMTYPE, link="usr/bin"),
    member("./usr/bin/awk", kind=tarfile.LNKTYPE, link="./usr/bin/su"),
    member("./dev/null", kind=tarfile.CHRTYPE),
    member("./etc/empty"),
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def read(data: bytes, tmp_path: Path, store: ImageStore) -> Image:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(data)
    file, image = rootfs.read(path, platform=AMD64, store=store)
    assert file == digest.of_bytes(data)
    return image


def listing(image: Image, store: ImageStore) -> dict[str, tarfile.TarInfo]:
    with (
        open_layer(store.blob_path(image.layers[0].blob.digest)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        return {info.name: info for info in tar}


def test_members_are_normalised(tmp_path: Path, store: ImageStore) -> None:
    image = read(tar_of(*USUAL), tmp_path, store)
    found = listing(image, store)
    assert list(found) == ["bin", "etc", "etc/empty", "tmp", "usr", "usr/bin", "usr/bin/awk", "usr/bin/su"]
    assert {info.uid for info in found.values()} == {0}
    # A base's bytecode is mostly valid for the time of its source only.
    assert {info.mtime for info in found.values() if info.isfile()} == {99}
    assert {info.mtime for info in found.values() if info.isdir()} == {0}
    assert (found["usr/bin/awk"].mode, found["tmp"].mode) == (0o755, 0o1777)
    assert found["usr/bin/awk"].isreg()
    assert (found["usr/bin/su"].type, found["usr/bin/su"].linkname) == (tarfile.LNKTYPE, "usr/bin/awk")
    assert found["bin"].linkname == "usr/bin"


def test_the_image_has_a_path_and_the_platform_asked_for(tmp_path: Path, store: ImageStore) -> None:
    image = read(tar_of(*USUAL), tmp_path, store)
    assert image.platform == AMD64
    assert dict(image.config.env)["PATH"].endswith(":/usr/bin:/sbin:/bin")
    assert [item.blob.media_type for item in image.layers] == [LAYER_GZIP]


@pytest.mark.parametrize(
    "compress", [gzip.compress, lzma.compress, bz2.compress, zstandard.compress], ids=["gz", "xz", "bz2", "zst"]
)
def test_every_compression_gives_the_same_image(
    compress: Callable[[bytes], bytes], tmp_path: Path, store: ImageStore
) -> None:
    assert read(compress(tar_of(*USUAL)), tmp_path, store) == read(tar_of(*USUAL), tmp_path, store)


def test_the_order_of_members_does_not_matter(tmp_path: Path, store: ImageStore) -> None:
    first, second = member("b", b"1"), member("a", b"2")
    assert read(tar_of(first, second), tmp_path, store) == read(tar_of(second, first), tmp_path, store)


def test_the_last_member_of_a_path_wins(tmp_path: Path, store: ImageStore) -> None:
    image = read(tar_of(member("etc/a", b"old"), member("etc/a", b"newer")), tmp_path, store)
    assert listing(image, store)["etc/a"].size == 5


def test_the_second_read_opens_no_tar(tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar_of(*USUAL)
    image = read(data, tmp_path, store)
    monkeypatch.setattr(tarfile, "open", None)
    assert read(data, tmp_path, store) == image


def test_a_lost_blob_is_made_again(tmp_path: Path, store: ImageStore) -> None:
    image = read(tar_of(*USUAL), tmp_path, store)
    store.blob_path(image.layers[0].blob.digest).unlink()
    assert read(tar_of(*USUAL), tmp_path, store) == image
    assert store.has(image.layers[0].blob.digest)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (member("../x", b"1"), "leaves the root"),
        (member("/etc/x", b"1"), "leaves the root"),
        (member("a/../../x", b"1"), "leaves the root"),
        (member("etc/.wh.passwd"), "whiteout"),
        (member("bin/x", b"1"), "below `bin`, which is no directory"),
        (member("bin/deep/x", b"1"), "below `bin`"),
        (member("x", kind=tarfile.LNKTYPE, link="../etc/shadow"), "leaves the root"),
        (member("x", kind=tarfile.LNKTYPE, link="nowhere"), "hard link to `nowhere`"),
    ],
)
def test_hostile_members_are_refused(
    bad: tuple[tarfile.TarInfo, bytes], why: str, tmp_path: Path, store: ImageStore
) -> None:
    with pytest.raises(BaseImageError, match=why):
        read(tar_of(*USUAL, bad), tmp_path, store)
    assert [path.name for path in store.root.iterdir()] == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no tar at all", "damaged"),
        (gzip.compress(tar_of(*USUAL))[:-20], "damaged"),
        (b"\x28\xb5\x2f\xfdno zstd at all", "damaged"),
        (b"\xfd7zXZ\0nothing", "damaged"),
        (tar_of(member("x", b"1" * 4000))[:2000], "damaged"),
        (tar_of(), "holds no files"),
        (tar_of(member("manifest.json", b"[]")), "saved image"),
    ],
    ids=["text", "gzip", "zstd", "xz", "cut off", "empty", "docker save"],
)
def test_what_is_no_root_file_system_is_told(data: bytes, why: str, tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(BaseImageError, match=why):
        read(data, tmp_path, store)


def test_a_missing_file_is_told(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(BaseImageError, match="cannot be read"):
        rootfs.read(tmp_path / "none.tar", platform=AMD64, store=store)
