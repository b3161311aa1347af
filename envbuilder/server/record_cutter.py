"""Cutting a file of lines into pieces of a number of records, without reading what is in them.

A record of CSV ends at a line's end that is in no quoted field (RFC 4180, and pandas: a quote opens a field only where
the field begins). Lines of nothing or blanks are no records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO, Iterator

CHUNK = 1 << 20
LONGEST = 64 << 20
"""Bytes of a record; what is longer is rather a quote that nobody closed."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_BLANK_LINE = re.compile(rb"\n[ \t]*\r?\n")
_QUOTED = re.compile(rb'(?:^|(?<=[,\n\r]))"[^"]*(?:""[^"]*)*(?:("(?!"))|\Z)')
"""A quoted field; one that is not closed goes on to the end, and nothing is looked for in it."""


class UncutError(Exception):
    """A file whose records do not end."""


@dataclass(frozen=True)
class Piece:
    """Some records of a file that follow each other."""

    start: int
    """The place of the first byte."""
    end: int
    first: int
    """The number of the first record, from 0."""
    count: int


def header_of(path: Path) -> tuple[int, int]:
    """Return where the header of a CSV file, its first record, begins and ends."""
    with path.open("rb") as stream:
        start = len(BYTE_ORDER_MARK) if stream.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
        pieces = _pieces(stream, start, 1, has_quotes=True)
        found = next(pieces, None)
    return (start, start) if found is None else (start, found.end)


def pieces(path: Path, start: int, count: int, *, has_quotes: bool) -> Iterator[Piece]:
    """Cut the file, from the byte `start` on, into pieces of `count` records; the last one may have fewer."""
    with path.open("rb") as stream:
        yield from _pieces(stream, start, count, has_quotes=has_quotes)


def _pieces(stream: BinaryIO, start: int, count: int, *, has_quotes: bool) -> Iterator[Piece]:
    stream.seek(start)
    base, data = start, b""
    begin, first, have = start, 0, 0
    while True:
        more = stream.read(CHUNK)
        data += more
        ends = _Ends.of(data, is_last=not more, has_quotes=has_quotes)
        done = 0
        while have + ends.count - done >= count:
            done += count - have
            end = base + ends.nth(done)
            yield Piece(begin, end, first, count)
            begin, first, have = end, first + count, 0
        have += ends.count - done
        base, data = base + ends.length, data[ends.length :]
        if not more:
            break
        if len(data) > LONGEST:
            raise UncutError(f"a record of more than {LONGEST >> 20} MiB begins at byte {base}: is a quote not closed?")
    if have:
        yield Piece(begin, base, first, have)


@dataclass(frozen=True)
class _Ends:
    """Where the whole records of some bytes end."""

    data: bytes
    length: int
    """The bytes that are whole records."""
    count: int
    places: list[int] | None
    """Of each end; None where every line's end is one."""

    @classmethod
    def of(cls, data: bytes, *, is_last: bool, has_quotes: bool) -> _Ends:
        if (not has_quotes or b'"' not in data) and data[:1] not in b"\r\n \t" and not _BLANK_LINE.search(data):
            length = len(data) if is_last else data.rfind(b"\n") + 1
            lines = data.count(b"\n", 0, length)
            is_cut = length > 0 and not data.endswith(b"\n", 0, length)
            if not is_cut:
                return cls(data, length, lines, None)
        return cls._walked(data, is_last=is_last, has_quotes=has_quotes)

    @classmethod
    def _walked(cls, data: bytes, *, is_last: bool, has_quotes: bool) -> _Ends:
        inside = _inside(data, is_last=is_last) if has_quotes else []
        places: list[int] = []
        start = length = 0
        while True:
            end = data.find(b"\n", length) + 1
            while inside and end > inside[0][1]:
                inside.pop(0)
            if end and inside and end > inside[0][0]:
                length = inside.pop(0)[1]
                continue
            if not end:
                break
            if data[start:end].strip(b" \t\r\n"):
                places.append(end)
            start = length = end
        if is_last:
            if data[start:].strip(b" \t\r\n"):
                places.append(len(data))
            start = len(data)
        return cls(data, start, len(places), places)

    def nth(self, number: int) -> int:
        """Return where the record `number`, from 1, ends."""
        if self.places is not None:
            return self.places[number - 1]
        low, high, left = 0, self.length, number
        while high - low > 1:
            middle = (low + high) // 2
            lines = self.data.count(b"\n", low, middle)
            if lines >= left:
                high = middle
            else:
                low, left = middle, left - lines
        return high


def _inside(data: bytes, *, is_last: bool) -> list[tuple[int, int]]:
    """Return where quoted fields with a line's end in them begin and end; one that is not closed yet goes on."""
    return [
        match.span()
        for match in _QUOTED.finditer(data)
        if (match[1] or not is_last) and data.find(b"\n", match.start(), match.end()) >= 0
    ]
