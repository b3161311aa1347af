"""The frames that the front and a worker exchange: a fixed header, a small JSON head and a body of bytes.

A request's head is `{"content_type": …}` and its answer's `{"status": …}`. A head with `"accept"` (Arrow's media type)
gets an answer with that `"content_type"`, unless it is an error. Several requests are one frame: the head is `{"batch":
[{"content_type": …, "size": …}, …]}` and their bodies follow each other, and so do the answers behind `{"batch":
[{"status": …, "size": …}, …]}`.
"""

import json
import struct
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

Head = Dict[str, Any]

HEADER = struct.Struct("!IQ")
MINI_BATCH = "application/vnd.envbuilder.mini-batch+json"
"""The content type of what a batch run asks; no request over HTTP gets through with it."""


def pack(head: Head, body_size: int) -> bytes:
    """Return what comes before a body of `body_size` bytes."""
    text = json.dumps(head).encode("utf-8")
    return HEADER.pack(len(text), body_size) + text


def write_frame(stream: BinaryIO, head: Head, body: bytes = b"") -> None:
    """Write one frame to a blocking stream."""
    stream.write(pack(head, len(body)))
    stream.write(body)
    stream.flush()


def read_frame(stream: BinaryIO) -> Optional[Tuple[Head, bytes]]:
    """Read one frame from a blocking stream; None when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    head_size, body_size = HEADER.unpack(header)
    head = stream.read(head_size)
    body = stream.read(body_size)
    if len(head) < head_size or len(body) < body_size:
        return None
    return json.loads(head.decode("utf-8")), body


def parts(heads: List[Head], body: bytes) -> List[Tuple[str, bytes]]:
    """Return the content type and the body of each request of a batch."""
    found, start = [], 0
    for head in heads:
        found.append((head["content_type"], body[start : start + head["size"]]))
        start += head["size"]
    return found
