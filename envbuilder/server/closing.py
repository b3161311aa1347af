"""A listening socket that takes no new connections and loses none of those that it has."""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
FLAGS = 13
"""Where a TCP header has its flags."""
SYN = 0x02

# Classic BPF, as linux/filter.h has it: code, jump where true, jump where false, operand.
PROGRAM = (
    (0x30, 0, 0, FLAGS),  # load the byte of the flags
    (0x45, 0, 1, SYN),  # does it begin a connection?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFF),  # else take it
)


def turn_away(listener: socket.socket) -> None:
    """Let the kernel drop what would begin a connection; those that have begun are still made, and can be accepted.

    A client that is turned away asks again, and is refused once the socket is closed. Where the system has no such
    filter, the queue is made as short as can be.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in PROGRAM)
    kept = ctypes.create_string_buffer(code, len(code))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(PROGRAM), ctypes.addressof(kept))
        )
    except OSError:
        listener.listen(0)
