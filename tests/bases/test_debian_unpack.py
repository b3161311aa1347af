from __future__ import annotations

import gzip
import importlib
import lzma
import tarfile
from typing import TYPE_CHECKING

import pytest

from envbuilder.bases import debian_unpack
from envbuilder.errors import BaseImageError, Source
from tests.bases.debian_archive import ar, deb, directory, link, member, special, tar

if TYPE_CHECKING:
    from envbuilder.layer import Entry

WHERE = Source(file="https://mirror.example/debian/pool/a.deb")
CONTROL = "Package: a\nVersion: 1\n"


def entries(*members: tuple[tarfile.TarInfo, bytes]) -> dict[str, Entry]:
    unpacked = debian_unpack.unpack(deb(CONTROL, *members), WHERE)
    return {entry.path: entry for entry in unpacked.entries}


def test_files_directories_and_links_are_read() -> None:
    found = entries(
        directory("./"),
        directory("./usr/bin"),
        member("./usr/bin/a", b"text", mode=0o755),
        link("./usr/bin/b", "a"),
    )
    assert set(found) == {"usr/bin", "usr/bin/a", "usr/bin/b"}
    assert found["usr/bin"].is_directory
    assert found["usr/bin/a"].content == b"text"
    assert found["usr/bin/a"].mode == 0o755
    assert found["usr/bin/b"].link == "a"


def test_paths_of_the_old_root_are_merged_into_usr() -> None:
    found = entries(
        directory("./lib"),
        member("./lib/x/liba.so.1", b"a"),
        link("./lib/x/liba.so", "liba.so.1"),
        link("./lib64", "usr/lib64"),
        link("./lib64/ld.so", "/lib/x/ld.so"),
        link("./bin", "usr/bin"),
        link("./usr/sbin", "bin"),
    )
    assert set(found) == {"usr/lib", "usr/lib/x/liba.so.1", "usr/lib/x/liba.so", "usr/lib64/ld.so"}


def test_rights_that_could_be_gained_are_dropped() -> None:
    found = entries(member("./usr/bin/su", mode=0o4755), directory("./var/mail", 0o2775), directory("./tmp", 0o1777))
    assert found["usr/bin/su"].mode == 0o755
    assert found["var/mail"].mode == 0o775
    assert found["tmp"].mode == 0o1777


def test_documentation_is_left_out_and_licences_stay() -> None:
    found = entries(
        directory("./usr/share/man/man1"),
        member("./usr/share/man/man1/a.1.gz"),
        member("./usr/share/doc/a/copyright"),
        member("./usr/share/doc/a/changelog.gz"),
        link("./usr/share/doc/b", "a"),
        member("./usr/share/zoneinfo/Europe/Berlin"),
        member("./usr/share/zoneinfo/right/Europe/Berlin"),
        member("./usr/lib/python3.11/test/support.py"),
        member("./usr/lib/python3.11/unittest/test/x.py"),
    )
    assert set(found) == {
        "usr/share/doc/a/copyright",
        "usr/share/doc/b",
        "usr/share/zoneinfo/Europe/Berlin",
        "usr/lib/python3.11/unittest/test/x.py",
    }


def test_the_first_name_of_hard_links_holds_the_content() -> None:
    found = entries(
        member("./usr/bin/b", b"text", mode=0o755),
        special("./usr/bin/c", tarfile.LNKTYPE, "./usr/bin/b"),
        special("./bin/a", tarfile.LNKTYPE, "./usr/bin/b"),
    )
    assert found["usr/bin/a"].content == b"text"
    assert found["usr/bin/a"].mode == 0o755
    assert found["usr/bin/b"].hard_link == found["usr/bin/c"].hard_link == "usr/bin/a"


def test_a_hard_link_outlives_a_name_that_is_left_out() -> None:
    found = entries(
        member("./usr/share/doc/a/x", b"text"), special("./usr/lib/x", tarfile.LNKTYPE, "./usr/share/doc/a/x")
    )
    assert list(found) == ["usr/lib/x"]
    assert found["usr/lib/x"].content == b"text"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../evil"),
        member("./usr/../../evil"),
        member("/etc/evil"),
        link("./usr/share/a", "../../../etc"),
        link("./etc", "/../.."),
        link("./usr/share/a", ""),
        special("./usr/a", tarfile.LNKTYPE, "../../etc/shadow"),
        special("./usr/a", tarfile.LNKTYPE, "/etc/shadow"),
        special("./usr/a", tarfile.LNKTYPE, "./etc/shadow"),
        special("./dev/sda", tarfile.BLKTYPE),
        special("./dev/null", tarfile.CHRTYPE),
        special("./run/pipe", tarfile.FIFOTYPE),
        member("./", b"root"),
    ],
    ids=[
        "above the root",
        "above in the middle",
        "absolute",
        "link above",
        "absolute link above",
        "link to nothing",
        "hard link above",
        "absolute hard link",
        "hard link to another package",
        "disk",
        "device",
        "pipe",
        "root as a file",
    ],
)
def test_a_member_that_could_do_harm_is_refused(hostile: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(BaseImageError, match="the package holds") as caught:
        entries(hostile)
    assert caught.value.problems[0].where == WHERE


def test_checksums_are_kept_for_the_files_that_are() -> None:
    md5sums = "0123  lib/a\n4567  usr/share/man/a.1\n89ab  usr/lib/b\n"
    data = deb(CONTROL, member("./lib/a"), member("./usr/share/man/a.1"), member("./usr/lib/b"), md5sums=md5sums)
    assert debian_unpack.unpack(data, WHERE).md5sums == "0123  usr/lib/a\n89ab  usr/lib/b\n"


def parts(control: tuple[str, bytes], data: tuple[str, bytes]) -> bytes:
    return ar(("debian-binary", b"2.0\n"), control, data)


CONTROL_TAR = tar(member("./control", CONTROL.encode()))
DATA_TAR = tar(member("./usr/a", b"a"))


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".zst"])
def test_every_compression_of_packages_is_read(compression: str) -> None:
    if compression == ".zst":
        compress = pytest.importorskip("zstandard").ZstdCompressor().compress
    else:
        compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[compression]
    data = parts((f"control.tar{compression}", compress(CONTROL_TAR)), (f"data.tar{compression}", compress(DATA_TAR)))
    unpacked = debian_unpack.unpack(data, WHERE)
    assert unpacked.control == CONTROL.strip()
    assert [entry.path for entry in unpacked.entries] == ["usr/a"]


def test_without_a_zstd_module_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BaseImageError, match="zstd") as caught:
        debian_unpack.unpack(parts(("control.tar.zst", b""), ("data.tar.zst", b"")), WHERE)
    assert "backports.zstd" in str(caught.value.problems[0].fix)


WHOLE = deb(CONTROL, member("./usr/a", b"a" * 4000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        WHOLE[:-20],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:100],
        ar(("debian-binary", b"2.0\n")),
        parts(("control.tar", tar()), ("data.tar", DATA_TAR)),
        parts(("control.tar", CONTROL_TAR), ("data.tar.xz", b"not xz")),
        parts(("control.tar", CONTROL_TAR), ("data.tar.gz", gzip.compress(DATA_TAR)[:-30])),
        parts(("control.tar", CONTROL_TAR), ("data.tar", DATA_TAR[:600])),
        parts(("control.tar", CONTROL_TAR), ("data.tar.zst", b"not zstd")),
    ],
    ids=[
        "empty",
        "a page",
        "end missing",
        "half",
        "start only",
        "no members",
        "no control file",
        "not xz",
        "cut gz",
        "cut tar",
        "not zstd",
    ],
)
def test_a_damaged_package_is_refused(data: bytes) -> None:
    with pytest.raises(BaseImageError, match="damaged"):
        debian_unpack.unpack(data, WHERE)
