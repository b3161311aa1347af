"""What the caches hold, as far as it can be removed by itself, and which of it goes first. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Shape = Literal["path", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One thing in the caches: a file, a directory, or an image with its names."""

    kind: str
    name: str
    """Its path below the caches; of an image, the digest of its manifest."""

    last_used: float
    """Seconds of the epoch."""

    parts: Mapping[int, int]
    """Bytes on the disk by inode: hard links, and blobs of several images, count once."""

    names: tuple[str, ...] = ()
    """Of an image."""

    is_leftover: bool = False
    """True for what a killed process left half done."""

    is_kept: bool = False
    """True where removing it would lose more than time."""


def size_of(entries: Iterable[CacheEntry]) -> int:
    """Return the bytes that the entries take together."""
    parts: dict[int, int] = {}
    for entry in entries:
        parts.update(entry.parts)
    return sum(parts.values())


def chosen(
    entries: Iterable[CacheEntry], *, used_before: float | None, most_bytes: int | None
) -> tuple[CacheEntry, ...]:
    """Return what to remove: leftovers, what is too old, and the oldest until the rest is small enough."""
    entries = tuple(entries)
    users = Counter(part for entry in entries for part in entry.parts)
    total = size_of(entries)
    found = []
    for entry in sorted(entries, key=lambda one: (not one.is_leftover, one.last_used, one.name)):
        is_old = used_before is not None and entry.last_used < used_before
        is_too_much = most_bytes is not None and total > most_bytes
        if entry.is_kept or not (entry.is_leftover or is_old or is_too_much):
            continue
        found.append(entry)
        for part, size in entry.parts.items():
            users[part] -= 1
            total -= size if users[part] == 0 else 0
    return tuple(found)
