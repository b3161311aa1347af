from __future__ import annotations

from pathlib import Path

import pytest

from envbuilder.server.shard import InvalidShardError, Shard


@pytest.mark.parametrize(
    ("text", "variable", "index", "count"),
    [("0/1", "", 0, 1), ("3/10", "7", 3, 10), ("10", "7", 7, 10), ("1", "0", 0, 1)],
)
def test_a_shard_is_read_with_the_index_that_is_given_or_set(text: str, variable: str, index: int, count: int) -> None:
    assert Shard.parse(text, {"JOB_COMPLETION_INDEX": variable}) == Shard(index, count)


@pytest.mark.parametrize(
    ("text", "variable", "why"),
    [
        ("", "", "is no shard: expected `INDEX/COUNT`"),
        ("1/", "", "is no shard"),
        ("-1/2", "", "is no shard"),
        ("0/0", "", "is no shard"),
        ("a/2", "", "is no shard"),
        ("2/2", "", "they are 0 to 1"),
        ("2", "", "JOB_COMPLETION_INDEX is not set"),
        ("2", "2", "JOB_COMPLETION_INDEX is `2`, which is no shard of 2"),
        ("2", "x", "JOB_COMPLETION_INDEX is `x`"),
        ("2", "²", "JOB_COMPLETION_INDEX is `²`"),
    ],
)
def test_a_shard_that_does_not_exist_is_refused(text: str, variable: str, why: str) -> None:
    with pytest.raises(InvalidShardError, match=why):
        Shard.parse(text, {"JOB_COMPLETION_INDEX": variable})


def test_shards_share_everything_and_have_names_of_their_own() -> None:
    shards = [Shard(index, 3) for index in range(3)]
    assert [[number for number in range(7) if shard.has(number)] for shard in shards] == [[0, 3, 6], [1, 4], [2, 5]]
    assert shards[2].name(Path("a/out.csv")) == Path("a/out-00002-of-00003.csv")
    assert Shard().name(Path("a/out.csv")) == Path("a/out.csv")
