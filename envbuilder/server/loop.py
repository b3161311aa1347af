"""A worker's life: load the model once, then answer the front's frames until the front is gone."""

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, BinaryIO, List, Optional, cast

from . import arrow, forking, protocol, scoring

if TYPE_CHECKING:
    from .loading import LoadedModel

PR_SET_PDEATHSIG = 1
TRACE_LINES = 20
OK = 200
LONGEST = 2000  # characters of a text that may quote data


def main(arguments: List[str]) -> int:
    """Serve the model at `arguments[1]` over the inherited socket `arguments[0]`; `arguments[2]` is the front."""
    descriptor, model_dir, front = int(arguments[0]), arguments[1], int(arguments[2])
    _end_with(front)
    # A program that the model starts must not hold the connection open.
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    try:
        return _serve(connection, model_dir, front)
    except (BrokenPipeError, ConnectionResetError):
        return 0


def _serve(connection: socket.socket, model_dir: str, front: int) -> int:
    stream = _stream(connection)
    try:
        model = scoring.load(model_dir)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        trace = traceback.format_exc()
        sys.stderr.write(trace)
        lines = [line[:LONGEST] for line in trace.splitlines()[-TRACE_LINES:]]
        protocol.write_frame(stream, {"event": "failed", "what": scoring.describe(error)[:LONGEST], "trace": lines})
        return 1
    # What the libraries made while they were imported lives as long as the process: a collection that walks all of it
    # costs a request 100 ms and more, and in a fork a copy of its memory.
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    protocol.write_frame(stream, _ready(model))
    is_forked = False
    while True:
        frame = protocol.read_frame(stream)
        if frame is None:
            if is_forked:
                forking.end()
            return 0
        head, body = frame
        if head.get("event") == "fork":
            forked = _fork(connection, stream, front)
            if forked is not None:
                connection, stream, is_forked = forked, _stream(forked), True
                protocol.write_frame(stream, _ready(model))
        else:
            _answer(model, stream, head, body)


def _stream(connection: socket.socket) -> BinaryIO:
    return cast("BinaryIO", connection.makefile("rwb"))


def _ready(model: "LoadedModel") -> protocol.Head:
    return {
        "event": "ready",
        "mlflow_version": model.mlflow_version,
        "row_wise": model.is_row_wise,
        "can_fork": forking.is_safe(),
    }


def _fork(connection: socket.socket, stream: BinaryIO, front: int) -> Optional[socket.socket]:
    """Fork a worker; returns its connection in the new one and None in this one."""
    if not forking.is_safe():
        protocol.write_frame(stream, {"event": "failed", "what": "threads run beside the main one", "trace": []})
        return None
    protocol.write_frame(stream, {"event": "give"})
    given = forking.take_socket(connection)
    pid = forking.fork(front)
    if pid == 0:
        _end_with(front)
        stream.close()
        connection.close()
        return given
    given.close()
    protocol.write_frame(stream, {"event": "forked", "pid": pid})
    return None


def _answer(model: "LoadedModel", stream: BinaryIO, head: protocol.Head, body: bytes) -> None:
    if "batch" in head:
        found = scoring.answer_all(model, protocol.parts(head["batch"], body))
        sizes = [{"status": status, "size": len(answer)} for status, answer in found]
        protocol.write_frame(stream, {"batch": sizes}, b"".join(answer for _, answer in found))
        return
    if head["content_type"] == protocol.MINI_BATCH:
        from . import mini_batch  # noqa: PLC0415 - a server needs none of it

        status, answer = mini_batch.answer(model, body)
        protocol.write_frame(stream, {"status": status}, answer)
        return
    status, answer = scoring.answer(model, head["content_type"], body, head.get("accept", ""))
    is_arrow = status == OK and head.get("accept") == arrow.MEDIA_TYPE
    told = {"status": status, "content_type": arrow.MEDIA_TYPE} if is_arrow else {"status": status}
    protocol.write_frame(stream, told, answer)


def _end_with(front: int) -> None:
    """Have the kernel end this process when the front ends, even in the middle of a prediction."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # the end of the connection is then what ends it
    if os.getppid() != front:
        sys.exit(0)
