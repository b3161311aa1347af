"""Shared objects made for tests: the least that a loader's tables need, at places of the test's choice."""

from __future__ import annotations

import struct

STRINGS_AT = 0x1000


def elf(
    *needed: str,
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    machine: int = 62,
    kind: int = 3,
    base: int = 0x400000,
) -> bytes:
    """Return a file whose dynamic section says this; it is loaded at `base`."""
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, text in (*((1, name) for name in needed), (14, soname), (15, rpath), (29, runpath)):
        if text:
            tags.append((tag, len(strings)))
            strings += text.encode("utf-8", "surrogateescape") + b"\0"
    tags += [(5, base + STRINGS_AT), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    place = 0x200
    total = STRINGS_AT + len(strings)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, base, base, total, total, 0x1000)
    found = struct.pack("<IIQQQQQQ", 2, 4, place, base + place, base + place, len(dynamic), len(dynamic), 8)
    return (header + load + found).ljust(place, b"\0") + dynamic.ljust(STRINGS_AT - place, b"\0") + strings
