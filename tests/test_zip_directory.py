from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import zip_directory

if TYPE_CHECKING:
    from pathlib import Path


def zip_of(comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"x")
        archive.comment = comment
    return buffer.getvalue()


def with_size(data: bytes, size: int) -> bytes:
    at = data.rfind(b"PK\5\6")
    return data[: at + 12] + struct.pack("<L", size) + data[at + 16 :]


def zip64(size: int) -> bytes:
    """Give the end of a zip file with the larger of the two formats."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + with_size(zip_of()[-22:], 0xFFFFFFFF)


def check(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(data)
    zip_directory.check(tmp_path / "file.zip")


@pytest.mark.parametrize(
    "data", [zip_of(), zip_of(b"a comment"), zip_of(bytes(65535)), zip64(100)], ids=["plain", "comment", "long", "64"]
)
def test_an_honest_zip_is_fine(data: bytes, tmp_path: Path) -> None:
    check(data, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        with_size(zip_of(), 1 << 30),
        with_size(zip_of(b"a comment"), 1 << 30),
        zip64(1 << 40),
        zip64(100).replace(b"PK\6\6", b"PK\6\5"),
    ],
    ids=["plain", "comment", "64", "64 without a record"],
)
def test_a_directory_of_absurd_size_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(zipfile.BadZipFile, match=r"its directory has \d+ bytes"):
        check(data, tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6", bytes(1000)], ids=["empty", "short", "cut off", "zeros"])
def test_what_has_no_directory_is_no_zip(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(zipfile.BadZipFile, match="it has no directory"):
        check(data, tmp_path)
