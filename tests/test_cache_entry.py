from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envbuilder.cache_entry import CacheEntry, chosen, size_of


def entry(
    name: str, last_used: float, parts: dict[int, int], *, is_leftover: bool = False, is_kept: bool = False
) -> CacheEntry:
    return CacheEntry(
        kind="wheels", name=name, last_used=last_used, parts=parts, is_leftover=is_leftover, is_kept=is_kept
    )


OLD, MIDDLE, NEW = entry("old", 1, {1: 10}), entry("middle", 2, {2: 20}), entry("new", 3, {3: 30})
ENTRIES = st.lists(
    st.builds(
        CacheEntry,
        kind=st.just("trees"),
        name=st.text(max_size=3),
        last_used=st.floats(0, 100),
        parts=st.dictionaries(st.integers(0, 8), st.just(7), max_size=4),
        is_leftover=st.booleans(),
        is_kept=st.booleans(),
    ),
    max_size=8,
)


def names(found: tuple[CacheEntry, ...]) -> list[str]:
    return [one.name for one in found]


def test_what_was_not_used_for_long_goes() -> None:
    assert names(chosen((NEW, OLD, MIDDLE), used_before=2, most_bytes=None)) == ["old"]
    assert names(chosen((NEW, OLD, MIDDLE), used_before=2.5, most_bytes=None)) == ["old", "middle"]
    assert chosen((NEW, OLD, MIDDLE), used_before=None, most_bytes=None) == ()


def test_the_oldest_go_until_the_rest_is_small_enough() -> None:
    assert names(chosen((NEW, OLD, MIDDLE), used_before=None, most_bytes=60)) == []
    assert names(chosen((NEW, OLD, MIDDLE), used_before=None, most_bytes=59)) == ["old"]
    assert names(chosen((NEW, OLD, MIDDLE), used_before=None, most_bytes=0)) == ["old", "middle", "new"]


def test_what_is_shared_becomes_free_with_its_last_user() -> None:
    first, second = entry("first", 1, {1: 10, 2: 5}), entry("second", 2, {1: 10, 3: 5})
    assert size_of((first, second)) == 20
    assert names(chosen((first, second), used_before=None, most_bytes=15)) == ["first"]
    assert names(chosen((first, second), used_before=None, most_bytes=14)) == ["first", "second"]


def test_leftovers_go_always_and_what_is_kept_never() -> None:
    leftover, kept = entry("left", 9, {8: 1}, is_leftover=True), entry("lock", 0, {9: 1}, is_kept=True)
    assert names(chosen((kept, leftover, NEW), used_before=None, most_bytes=None)) == ["left"]
    assert names(chosen((kept, NEW), used_before=99, most_bytes=0)) == ["new"]


@given(ENTRIES, st.none() | st.integers(0, 200))
def test_no_more_goes_than_has_to(entries: list[CacheEntry], most: int | None) -> None:
    found = chosen(entries, used_before=None, most_bytes=most)
    rest = [one for one in entries if not any(one is other for other in found)]
    assert not any(one.is_kept for one in found)
    if most is not None and any(not one.is_kept for one in rest):
        assert size_of(rest) <= most
