"""What an ELF shared object asks of the loader: the names it needs, its own name, and where it looks first. Pure.

Follows the ELF gABI (headers, dynamic section). Whatever is read comes from packages that nobody vouches for: every
offset and count is checked, and what does not make sense is no shared object, never an error. A parser of our own,
since those at hand read whole files, or take any number of headers at their word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIC: Final = b"\x7fELF\x02\x01"
"""64 bit, little end first: all that images are made for."""

_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_TAG: Final = struct.Struct("<qQ")
_SHARED: Final = 3
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _STRINGS_SIZE, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_MOST_SEGMENTS: Final = 256
_MOST_TAGS: Final = 4096
_MOST_STRINGS: Final = 64 << 20
"""Bytes of the table of names; that of the largest libraries has some ten million."""

_LONGEST: Final = 4096

MACHINES: Final[Mapping[str, int]] = {"amd64": 62, "arm64": 183}
"""The processors of images, as ELF numbers them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedObject:
    """What the loader is told by one file."""

    machine: int
    soname: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    """Directories of DT_RPATH and DT_RUNPATH, as they are written."""


def read(stream: IO[bytes]) -> SharedObject | None:
    """Read a seekable stream, of which only the headers and the table of names are held; None for anything else."""
    header = _at(stream, 0, _HEADER.size)
    if not header.startswith(_MAGIC) or len(header) < _HEADER.size:
        return None
    kind, machine, _, _, start, _, _, _, size, count, *_ = _HEADER.unpack(header)
    if kind != _SHARED or size != _SEGMENT.size or not 0 < count <= _MOST_SEGMENTS:
        return None
    table = _at(stream, start, size * count)
    segments = [_SEGMENT.unpack_from(table, place) for place in range(0, len(table) - size + 1, size)]
    dynamic = next((one for one in segments if one[0] == _DYNAMIC), None)
    if dynamic is None:
        return None
    loaded = [(one[3], one[2], one[5]) for one in segments if one[0] == _LOAD]
    tags = _tags(_at(stream, dynamic[2], min(dynamic[5], _MOST_TAGS * _TAG.size)))
    strings = _strings(stream, loaded, tags)
    return SharedObject(
        machine=machine,
        soname=next(iter(_texts(strings, tags, _SONAME)), ""),
        needed=tuple(_texts(strings, tags, _NEEDED)),
        search=tuple(
            directory
            for text in (*_texts(strings, tags, _RPATH), *_texts(strings, tags, _RUNPATH))
            for directory in text.split(":")
            if directory
        ),
    )


def _at(stream: IO[bytes], offset: int, size: int) -> bytes:
    if offset >= 1 << 62:
        return b""
    stream.seek(offset)
    return stream.read(size)


def _tags(section: bytes) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for place in range(0, len(section) - _TAG.size + 1, _TAG.size):
        tag, value = _TAG.unpack_from(section, place)
        if tag == 0:
            break
        found.append((tag, value))
    return found


def _strings(stream: IO[bytes], loaded: list[tuple[int, int, int]], tags: list[tuple[int, int]]) -> bytes:
    values = dict(tags)
    address, size = values.get(_STRINGS, 0), values.get(_STRINGS_SIZE, 0)
    for start, offset, length in loaded:
        if start <= address < start + length:
            return _at(stream, offset + address - start, min(size, _MOST_STRINGS))
    return b""


def _texts(strings: bytes, tags: list[tuple[int, int]], wanted: int) -> list[str]:
    """Return the names of the tags; one that is not plain text is not a name that a package could carry."""
    found = []
    for tag, offset in tags:
        end = strings.find(b"\0", offset, offset + _LONGEST) if tag == wanted and offset < len(strings) else -1
        text = strings[offset:end].decode("ascii", "replace") if end > offset else ""
        if text and text.isprintable() and text.isascii():
            found.append(text)
    return found
