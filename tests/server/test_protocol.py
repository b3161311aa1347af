from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from envbuilder.server import protocol

SERVER = Path(protocol.__file__).parent
HEADS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))


@given(st.lists(st.tuples(HEADS, st.binary())))
def test_frames_are_read_as_they_were_written(frames: list[tuple[protocol.Head, bytes]]) -> None:
    stream = io.BytesIO()
    for head, body in frames:
        protocol.write_frame(stream, head, body)
    stream.seek(0)
    assert [protocol.read_frame(stream) for _ in frames] == frames
    assert protocol.read_frame(stream) is None


@given(HEADS, st.binary(), st.data())
def test_a_cut_frame_is_the_end(head: protocol.Head, body: bytes, data: st.DataObject) -> None:
    stream = io.BytesIO()
    protocol.write_frame(stream, head, body)
    cut = data.draw(st.integers(0, len(stream.getvalue()) - 1))
    assert protocol.read_frame(io.BytesIO(stream.getvalue()[:cut])) is None


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    locks = sorted((SERVER / "requirements").glob("py*.txt"))
    assert [lock.stem for lock in locks] == sorted(f"py3.{minor}" for minor in range(8, 15))
    for lock in locks:
        blocks = lock.read_text().replace(" \\\n", " ").splitlines()
        assert all("==" in block and "--hash=sha256:" in block and "://" not in block for block in blocks)
        names = {block.partition("==")[0] for block in blocks}
        assert {"starlette", "uvicorn", "httptools", "uvloop"} <= names
