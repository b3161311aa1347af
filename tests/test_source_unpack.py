from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import source_unpack
from envbuilder.errors import InvalidFileError, Source
from envbuilder.source_tree import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHERE = Source(file="https://index.example/thing-1.0.tar.gz")
Entry = tuple[str, bytes | None, dict[str, object]]


def member(name: str, content: bytes | None = b"x", **fields: object) -> Entry:
    return name, content, fields


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return member(name, None, type=kind, linkname=target)


def tar_of(*entries: Entry) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content, fields in entries:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            if content is not None:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def zip_of(*entries: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name or "x")
            info.filename = name
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def unpacked(data: bytes, tmp_path: Path) -> Path:
    (tmp_path / "archive").write_bytes(data)
    target = tmp_path / "target"
    target.mkdir(exist_ok=True)
    source_unpack.unpack(tmp_path / "archive", target, where=WHERE)
    return target


def refused(data: bytes, tmp_path: Path) -> str:
    with pytest.raises(InvalidFileError) as raised:
        unpacked(data, tmp_path)
    (problem,) = raised.value.problems
    assert problem.where == WHERE
    return problem.what.removeprefix("the source archive is not unpacked: ")


GOOD = (
    member("thing-1.0", None, type=tarfile.DIRTYPE, mode=0o700),
    member("thing-1.0/plain", b"plain", mode=0o600, mtime=1_700_000_000),
    member("./thing-1.0//run", b"#!/bin/sh\n", mode=0o4711),
    member("thing-1.0/new/deep", b"deep", mode=0o777, uid=12345),
    link("thing-1.0/link", "new/deep"),
    link("thing-1.0/hard", "thing-1.0/plain", tarfile.LNKTYPE),
)


@pytest.mark.parametrize(
    "compress",
    [lambda data: data, gzip.compress, bz2.compress, lzma.compress],
    ids=["plain", "gzip", "bzip2", "xz"],
)
def test_a_tar_is_unpacked_with_fixed_modes_and_times(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        top = unpacked(compress(tar_of(*GOOD)), tmp_path) / "thing-1.0"
    finally:
        os.umask(before)
    modes = {path.relative_to(top).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in top.rglob("*")}
    assert modes == {"plain": 0o644, "run": 0o755, "new": 0o755, "new/deep": 0o755, "link": 0o777, "hard": 0o644}
    assert stat.S_IMODE(top.stat().st_mode) == 0o755
    assert {path.lstat().st_mtime for path in (top, *top.rglob("*"))} == {EPOCH}
    assert (top / "hard").read_bytes() == b"plain"
    assert (top / "hard").stat().st_nlink == 1
    assert (top / "link").read_bytes() == b"deep"


def test_a_zip_is_unpacked_alike(tmp_path: Path) -> None:
    data = zip_of(
        ("thing-1.0/", b"", stat.S_IFDIR | 0o700),
        ("thing-1.0/plain", b"plain", stat.S_IFREG | 0o600),
        ("thing-1.0/run", b"run", stat.S_IFREG | 0o755),
        ("thing-1.0/windows", b"no mode", 0),
        ("thing-1.0/link", b"plain", stat.S_IFLNK | 0o777),
    )
    top = unpacked(data, tmp_path) / "thing-1.0"
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in top.iterdir()}
    assert modes == {"plain": 0o644, "run": 0o755, "windows": 0o644, "link": 0o777}
    assert (top / "link").read_bytes() == b"plain"


def test_the_last_one_of_equal_names_counts(tmp_path: Path) -> None:
    assert (unpacked(tar_of(member("a/b", b"1"), member("a/b", b"2")), tmp_path) / "a/b").read_bytes() == b"2"


LEAVES = "is a path that leaves it"
HOSTILE = {
    "absolute": (tar_of(member("/etc/new")), LEAVES),
    "parent": (tar_of(member("thing/../../new")), LEAVES),
    "zip with a parent": (zip_of(("thing/../../new", b"x", 0)), LEAVES),
    "link out": (tar_of(member("t/a"), link("t/link", "/etc/passwd")), "`t/link` is a link that leaves it"),
    "relative link out": (tar_of(link("t/link", "../../x")), "`t/link` is a link that leaves it"),
    "zip link out": (zip_of(("t/link", b"/etc/passwd", stat.S_IFLNK | 0o777)), "`t/link` is a link that leaves it"),
    "out by way of another link": (
        tar_of(member("a/b/x"), link("a/b/up", "../.."), link("a/out", "b/up/../secret")),
        "`a/out` is a link that leaves it",
    ),
    "write through a link": (
        tar_of(link("t/link", "/usr"), member("t/link/new")),
        "`t/link` is a link and something else as well",
    ),
    "link below a link": (
        tar_of(link("t/link", "/usr"), link("t/link/new", "x")),
        "`t/link` is a link and something else as well",
    ),
    "hard link out": (tar_of(link("t/hard", "../etc/passwd", tarfile.LNKTYPE)), LEAVES),
    "hard link to nothing": (
        tar_of(link("t/hard", "t/absent", tarfile.LNKTYPE)),
        "`t/hard` is a hard link to a file that is not there before it",
    ),
    "device": (tar_of(member("t/null", None, type=tarfile.CHRTYPE)), "`t/null` is neither a file nor a directory"),
    "pipe": (tar_of(member("t/pipe", None, type=tarfile.FIFOTYPE)), "`t/pipe` is neither a file nor a directory"),
    "zip with a device": (zip_of(("t/dev", b"", stat.S_IFCHR | 0o666)), "`t/dev` is neither a file nor a directory"),
    "below a file": (tar_of(member("t/a"), member("t/a/b")), "it holds a name that cannot be written"),
    "file over a directory": (tar_of(member("t/a/b"), member("t/a")), "it holds a name that cannot be written"),
    "long name": (tar_of(member("t/" + "n" * 300)), "it holds a name that cannot be written (File name too long)"),
    "cut off": (gzip.compress(tar_of(*GOOD))[:-60], "it is damaged"),
    "no archive": (b"<html>not found</html>", "it is damaged (ReadError"),
    "bad bzip2": (b"BZh9" + bytes(100), "it is damaged"),
    "zip with an empty name": (zip_of(("", b"", 0)), "it is damaged (IndexError"),
    "encrypted zip": (
        zip_of(("t/a", b"x", 0))
        .replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1")
        .replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
        "it is damaged (RuntimeError",
    ),
}


@pytest.mark.parametrize(("data", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_hostile_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in refused(data, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "target"}


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    info = tarfile.TarInfo("t/large")
    info.size = 3 << 30
    assert refused(gzip.compress(info.tobuf()), tmp_path) == f"it unpacks to more than {2 << 30} bytes"
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*")) < 10_000


def test_many_copies_by_hard_links_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_unpack, "MAX_BYTES", 5000)
    links = [link(f"t/{number}", "t/file", tarfile.LNKTYPE) for number in range(10)]
    assert refused(tar_of(member("t/file", bytes(1000)), *links), tmp_path) == "it unpacks to more than 5000 bytes"


def test_a_header_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("t/header")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    assert refused(info.tobuf() + bytes(1024), tmp_path) == "it has a header of absurd size"


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40)}
    headers |= {"GNU.sparse.map": "0,1", "GNU.sparse.numblocks": "1"}
    assert "is neither a file" in refused(tar_of(member("t/sparse", b"x", pax_headers=headers)), tmp_path)


def test_members_and_time_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_unpack, "MAX_MEMBERS", 5)
    assert refused(tar_of(*(member(f"t/{n}") for n in range(6))), tmp_path) == "it has more than 5 members"
    monkeypatch.setattr(source_unpack, "MAX_SECONDS", -1)
    assert refused(tar_of(member("t/a")), tmp_path) == "it takes longer than -1 s"
