"""A worker's life: load the model once, then answer the front's frames until the front is gone."""

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from typing import BinaryIO, List, cast

from . import arrow, protocol, scoring

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
    stream = cast("BinaryIO", socket.socket(fileno=descriptor).makefile("rwb"))
    try:
        return _serve(stream, model_dir)
    except (BrokenPipeError, ConnectionResetError):
        return 0


def _serve(stream: BinaryIO, model_dir: str) -> int:
    try:
        model = scoring.load(model_dir)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        trace = traceback.format_exc()
        sys.stderr.write(trace)
        lines = [line[:LONGEST] for line in trace.splitlines()[-TRACE_LINES:]]
        protocol.write_frame(stream, {"event": "failed", "what": scoring.describe(error)[:LONGEST], "trace": lines})
        return 1
    # What the libraries made while they were imported lives as long as the process: a collection that walks all of it
    # costs a request 100 ms and more.
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    ready = {"event": "ready", "mlflow_version": model.mlflow_version, "row_wise": model.is_row_wise}
    protocol.write_frame(stream, ready)
    while True:
        frame = protocol.read_frame(stream)
        if frame is None:
            return 0
        head, body = frame
        if "batch" in head:
            found = scoring.answer_all(model, protocol.parts(head["batch"], body))
            sizes = [{"status": status, "size": len(answer)} for status, answer in found]
            protocol.write_frame(stream, {"batch": sizes}, b"".join(answer for _, answer in found))
        else:
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
