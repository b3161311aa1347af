from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.server import record_cutter

if TYPE_CHECKING:
    from pathlib import Path

CELLS = st.lists(st.sampled_from(['"', ",", "\n", "\r\n", "a", " ", "é", "5"]), max_size=6).map("".join)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=12)


def cut(content: bytes, count: int, *, has_quotes: bool = True) -> list[bytes]:
    """Return the bytes of each piece, after a check that pieces and numbers follow each other."""
    at = number = 0
    found = []
    for piece in record_cutter._pieces(io.BytesIO(content), 0, count, has_quotes=has_quotes):
        assert (piece.start, piece.first) == (at, number)
        found.append(content[piece.start : piece.end])
        at, number = piece.end, piece.first + piece.count
    assert not content[at:].strip()
    return found


@given(
    rows=ROWS,
    end=st.sampled_from(["\n", "\r\n"]),
    count=st.integers(1, 4),
    chunk=st.integers(1, 40),
    last=st.booleans(),
)
def test_pieces_hold_the_records_that_a_reader_of_csv_finds(
    rows: list[list[str]],
    end: str,
    count: int,
    chunk: int,
    last: bool,  # noqa: FBT001
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end).writerows(rows)
    text = stream.getvalue()
    content = text.encode() if last else text.removesuffix(end).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_cutter, "CHUNK", chunk)
        pieces = cut(content, count)
    read = [list(csv.reader(io.StringIO(piece.decode(), newline=""))) for piece in pieces]
    assert [row for piece in read for row in piece] == rows
    assert all(len(piece) == count for piece in read[:-1])


@given(
    lines=st.lists(st.sampled_from([b"", b" \t", b"\r", b"{}", b'{"a": "\\""}', b" 1"])),
    chunk=st.integers(1, 20),
    count=st.integers(1, 3),
)
def test_blank_lines_are_no_records(lines: list[bytes], chunk: int, count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_cutter, "CHUNK", chunk)
        pieces = cut(b"\n".join(lines), count, has_quotes=False)
    found = [line for piece in pieces for line in piece.split(b"\n") if line.strip()]
    assert found == [line for line in lines if line.strip()]
    assert len(pieces) == -(-len(found) // count)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (b"a,b\n1,2\n", 0, 4),
        (b"\xef\xbb\xbfa,b\r\n1,2", 3, 8),
        (b'"a\nb",c\n1,2', 0, 8),
        (b"a,b", 0, 3),
        (b"", 0, 0),
        (b"\n\na\n1\n", 0, 4),
    ],
    ids=["plain", "mark", "quoted", "header alone", "empty", "blank lines before"],
)
def test_the_header_is_the_first_record(text: bytes, start: int, end: int, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(text)
    assert record_cutter.header_of(path) == (start, end)


def test_a_quote_inside_a_field_opens_nothing() -> None:
    assert len(cut(b'1,5" pipe\n2,6" pipe\n3,7" pipe\n', 1)) == 3


def test_a_quote_that_nobody_closes_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_cutter, "CHUNK", 100)
    monkeypatch.setattr(record_cutter, "LONGEST", 1000)
    with pytest.raises(record_cutter.UncutError, match="begins at byte 4"):
        cut(b'1,2\n1,"' + b"a,b\n" * 1000, 10)


def test_many_records_are_cut_without_looking_at_each(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7) for number in range(200_000)))
    pieces = list(record_cutter.pieces(path, 4, 30_000, has_quotes=True))
    assert [piece.count for piece in pieces] == [30_000] * 6 + [20_000]
    content = path.read_bytes()
    assert all(content[piece.start : piece.end].count(b"\n") == piece.count for piece in pieces)
    assert content[pieces[1].start :].startswith(b"30000,210000\n")
