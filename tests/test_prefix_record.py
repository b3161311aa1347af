from __future__ import annotations

import json

import pytest

from envbuilder import digest
from envbuilder.errors import InvalidFileError
from envbuilder.prefix_record import PrefixRecord

RECORD = PrefixRecord(
    prefix="/home/me/env",
    lock_digest=digest.of_bytes(b"lock"),
    subdir="linux-64",
    python_version="3.11.7",
    python="/usr/bin/python3.11",
    tool_version="0.1.0",
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert PrefixRecord.parse(RECORD.to_text(), file="prefix.json") == RECORD


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "[" * 100_000, json.dumps({**json.loads(RECORD.to_text()), "lock_digest": "sha256:0"})],
    ids=["nothing", "a list", "empty", "null", "deep", "no digest"],
)
def test_what_is_no_record_is_told(text: str) -> None:
    with pytest.raises(InvalidFileError) as raised:
        PrefixRecord.parse(text, file="env/prefix.json")
    (problem,) = raised.value.problems
    assert problem.what == "this is no record of an environment that envbuilder made"
    assert str(problem.where) == "env/prefix.json"
    assert problem.fix is not None
