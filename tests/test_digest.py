from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import digest
from tests.strategies import YAML_VALUES

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0123456789abcdef" * 4


@given(st.binary(max_size=100))
def test_bytes_streams_and_hex_agree(data: bytes) -> None:
    expected = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert digest.of_bytes(data) == digest.of_stream(io.BytesIO(data)) == expected
    assert digest.of_hex(hashlib.sha256(data).hexdigest()) == digest.parse(expected) == expected


def test_a_file_larger_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert digest.of_file(tmp_path / "file") == digest.of_bytes(data)


def test_a_stream_counts_from_where_it_stands() -> None:
    stream = io.BytesIO(b"head tail")
    stream.read(5)
    assert digest.of_stream(stream) == digest.of_bytes(b"tail")


@given(st.dictionaries(st.text(max_size=5), YAML_VALUES, max_size=5))
def test_json_digests_do_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest.of_json(value) == digest.of_json(backwards)
    assert digest.of_json(json.loads(json.dumps(value))) == digest.of_json(value)


def test_json_is_digested_as_utf_8_without_spaces() -> None:
    assert digest.of_json({"b": [1, 2], "a": "ö"}) == digest.of_bytes('{"a":"ö","b":[1,2]}'.encode())


@pytest.mark.parametrize(
    "text",
    ["", HEX, f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"sha512:{HEX}", f"sha256:{HEX}\n"],
    ids=["empty", "no algorithm", "short", "long", "upper case", "other algorithm", "line end"],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        digest.parse(text)


def test_the_short_form_is_twelve_digits() -> None:
    assert digest.short(digest.of_hex(HEX)) == HEX[:12]
    assert digest.hex_of(digest.of_hex(HEX)) == HEX
