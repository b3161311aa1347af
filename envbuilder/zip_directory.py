"""The size that a zip file says its directory has: zipfile reads that into memory, whole, before anybody can look."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 32 << 20
"""Several hundred thousand members."""

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_MOST_COMMENT: Final = 1 << 16


def check(path: Path) -> None:
    """Raise BadZipFile when the directory at the end of the file is larger than any honest one."""
    with path.open("rb") as stream:
        length = stream.seek(0, 2)
        start = max(length - _MOST_COMMENT - _END.size - _LOCATOR.size - _END_64.size, 0)
        stream.seek(start)
        tail = stream.read()
        # As zipfile looks for it: without a comment, else the last one.
        at = len(tail) - _END.size
        if not (tail[at : at + 4] == b"PK\5\6" and tail.endswith(b"\0\0")):
            at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > len(tail):
            message = "it has no directory"
            raise zipfile.BadZipFile(message)
        size = _END.unpack_from(tail, at)[5]
        located = at - _LOCATOR.size
        at_64 = located - _END_64.size
        if at_64 >= 0 and tail[located : located + 4] == b"PK\6\7" and tail[at_64 : at_64 + 4] == b"PK\6\6":
            size = _END_64.unpack_from(tail, at_64)[8]
    if size > MAX_BYTES:
        message = f"its directory has {size} bytes"
        raise zipfile.BadZipFile(message)
