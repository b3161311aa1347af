"""A worker that loads the model once and forks others, which share its memory.

The front sends `{"event": "fork"}`, gets `{"event": "give"}`, sends one byte with a socket beside it (SCM_RIGHTS), and
gets `{"event": "forked", "pid": …}`. The new worker says `ready` on that socket. It is no child of the one that forked
it but of the front, which must be process 1 or a subreaper: so it is waited for, and ends with it, as a started one.
"""

import array
import importlib
import os
import socket
import sys
import time

WAIT = 10.0


class CannotForkError(Exception):
    """The worker, or what the front sent, is not fit for it."""


def is_safe() -> bool:
    """Whether nothing but the main thread runs: a lock that another holds is never released in a fork.

    Libraries that compute on several threads keep them: `OMP_NUM_THREADS=1` and its likes keep them from starting.
    """
    try:
        if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - pathlib is one import more
            return False
    except OSError:
        return False
    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()


def take_socket(connection: socket.socket) -> socket.socket:
    """Return the socket that comes beside the next byte."""
    size = array.array("i").itemsize
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(size))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors = array.array("i")
            descriptors.frombytes(data[:size])
            return socket.socket(fileno=descriptors[0])
    raise CannotForkError("no socket came with the byte")


def fork(front: int) -> int:
    """Return the new worker's process id, and 0 in the new worker once it is the front's child."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        os.close(reading)
        pid = os.fork()
        if pid:
            os.write(writing, str(pid).encode("ascii"))
            os._exit(0)
        os.close(writing)
        _settle(front)
        return 0
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(between, 0)
    if not text:
        raise CannotForkError("the system has no more processes")
    return int(text)


def end() -> None:
    """End a forked worker without what was to be done once, at the end of the one that it was forked from."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _settle(front: int) -> None:
    """Become what a started worker is."""
    os.setsid()
    deadline = time.monotonic() + WAIT
    while os.getppid() != front:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.001)
    # Python gives each process a seed of its own, NumPy does not.
    if "numpy" in sys.modules:
        importlib.import_module("numpy").random.seed()
