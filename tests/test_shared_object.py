from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import shared_object
from envbuilder.shared_object import SharedObject
from tests.elf_file import elf


def read(data: bytes) -> SharedObject | None:
    return shared_object.read(io.BytesIO(data))


def test_what_the_loader_is_told_is_read() -> None:
    data = elf("libgomp.so.1", "libc.so.6", soname="libx.so.1", rpath="$ORIGIN/../x.libs", runpath="/a::$ORIGIN")
    assert read(data) == SharedObject(
        machine=62,
        soname="libx.so.1",
        needed=("libgomp.so.1", "libc.so.6"),
        search=("$ORIGIN/../x.libs", "/a", "$ORIGIN"),
    )


def test_an_object_that_needs_nothing_is_one() -> None:
    assert read(elf(machine=183)) == SharedObject(machine=183)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        elf("x.so")[:40],
        elf("x.so")[:70],
        b"\x7fELF\x01\x01" + elf("x.so")[6:],
        elf("x.so", kind=2),
        elf("x.so")[:54] + b"\x20\0" + elf("x.so")[56:],
        elf("x.so")[:56] + b"\xff\xff" + elf("x.so")[58:],
        elf("x.so")[:32] + struct.pack("<Q", 1 << 63) + elf("x.so")[40:],
    ],
    ids=["empty", "text", "header cut", "segments cut", "32 bit", "program", "entries", "segments", "far away"],
)
def test_anything_else_is_none(data: bytes) -> None:
    assert read(data) is None


def test_names_outside_of_the_table_are_left_out() -> None:
    data = bytearray(elf("libx.so.1", "liby.so.1"))
    struct.pack_into("<Q", data, 0x208, 1 << 50)
    found = read(bytes(data))
    assert found is not None
    assert found.needed == ("liby.so.1",)


def test_a_table_that_is_not_loaded_has_no_names() -> None:
    data = bytearray(elf("libx.so.1"))
    struct.pack_into("<Q", data, 0x218, 1 << 40)
    assert read(bytes(data)) == SharedObject(machine=62)


def test_names_that_no_file_would_have_are_left_out() -> None:
    found = read(elf("lib\n.so", "lib\udcff.so", "lib" + "x" * 5000, "libz.so.1"))
    assert found is not None
    assert found.needed == ("libz.so.1",)


def test_a_dynamic_section_without_an_end_ends_with_the_segment() -> None:
    data = bytearray(elf("libx.so.1"))
    struct.pack_into("<QQ", data, 64 + 56 + 32, 16, 16)
    assert read(bytes(data)) == SharedObject(machine=62)


@given(st.data())
def test_damage_anywhere_is_no_error(data: st.DataObject) -> None:
    damaged = bytearray(elf("libgomp.so.1", soname="libx.so.1", runpath="$ORIGIN"))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


@pytest.mark.process
def test_real_libraries_are_read_as_readelf_reads_them() -> None:
    readelf = shutil.which("readelf")
    libraries = sorted(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*"))[:40]
    if readelf is None or not libraries:
        pytest.skip("no readelf, or no libraries where Debian has them")
    for library in libraries:
        said = subprocess.run([readelf, "-dW", library], capture_output=True, text=True, check=True).stdout
        with library.open("rb") as stream:
            found = shared_object.read(stream)
        assert found is not None
        assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", said), library
        assert [found.soname] == (re.findall(r"\(SONAME\).*\[(.*)\]", said) or [""]), library
