"""Digests: `sha256:<64 hex>` of bytes, files and canonical JSON."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, BinaryIO, Final, NewType

if TYPE_CHECKING:
    from pathlib import Path

Digest = NewType("Digest", str)

_CHUNK: Final = 1 << 20
_GRAMMAR: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")


def parse(text: str) -> Digest:
    """Return `text` as a digest; raises ValueError when it is not `sha256:` and 64 lower-case hex digits."""
    if not _GRAMMAR.match(text):
        message = f"not a sha256 digest: {text!r}"
        raise ValueError(message)
    return Digest(text)


def of_hex(hexdigest: str) -> Digest:
    """Return the digest whose sha256 is `hexdigest`."""
    return parse(f"sha256:{hexdigest}")


def of_bytes(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def of_stream(stream: BinaryIO) -> Digest:
    """Return the digest of what is left to read in `stream`."""
    state = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        state.update(chunk)
    return Digest(f"sha256:{state.hexdigest()}")


def of_file(path: Path) -> Digest:
    """Return the digest of the file's content."""
    with path.open("rb") as stream:
        return of_stream(stream)


def of_json(value: object) -> Digest:
    """Return the digest of `value` as canonical JSON: sorted keys, no spaces, UTF-8."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def hex_of(digest: Digest) -> str:
    """Return the 64 hex digits of `digest`."""
    return digest.removeprefix("sha256:")


def short(digest: Digest) -> str:
    """Return the first 12 hex digits, as tags and people use them."""
    return hex_of(digest)[:12]
