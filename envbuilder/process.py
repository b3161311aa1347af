"""The only module that starts programs: argument tuples, never a shell, with their output's last lines on failure."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TAIL_LINES: Final = 20
_LONGEST_LINE: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended."""

    command: tuple[str, ...]
    code: int
    stdout: bytes
    tail: tuple[str, ...]
    """The last lines of its standard error."""

    @property
    def ok(self) -> bool:
        """True when the exit code is 0."""
        return self.code == 0


def run(
    command: tuple[str, ...],
    *,
    environ: Mapping[str, str],
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    on_output: Callable[[str], None] | None = None,
) -> Finished:
    """Run the program to its end and return how it ended; lines of its standard error go to `on_line` as they come.

    Lines of its standard output go to `on_output`, where there is one, and are not kept.

    Raises FileNotFoundError when there is no such program and TimeoutError when it takes longer than `timeout`
    seconds (it is killed then). An exception, KeyboardInterrupt and those of `on_line` too, kills it.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        cwd=cwd,
    ) as child:
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        failures: list[BaseException] = []
        reader = threading.Thread(target=_drain, args=(child, tail, on_line, failures), daemon=True)
        writer = threading.Thread(target=_feed, args=(child, stdin), daemon=True)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            child.kill()

        killer = threading.Timer(timeout, expire) if timeout is not None else None
        try:
            reader.start()
            writer.start()
            if killer is not None:
                killer.start()
            stdout = _output(child, on_output)
            code = child.wait()
            reader.join()
        except BaseException:
            child.kill()
            raise
        finally:
            if killer is not None:
                killer.cancel()
    if failures:
        raise failures[0]
    if expired.is_set():
        message = f"`{command[0]}` took longer than {timeout:g} s"
        raise TimeoutError(message)
    return Finished(command=command, code=code, stdout=stdout, tail=tuple(tail))


def _output(child: subprocess.Popen[bytes], on_output: Callable[[str], None] | None) -> bytes:
    if child.stdout is None or on_output is None:
        return child.stdout.read() if child.stdout is not None else b""
    for raw in child.stdout:
        on_output(raw.decode(errors="replace").rstrip())
    return b""


@contextmanager
def started(
    command: tuple[str, ...], *, environ: Mapping[str, str], on_line: Callable[[str], None], grace: float = 15
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program while the block lasts; both its outputs go to `on_line`.

    At the end of the block it is asked to stop (SIGTERM), and killed when it has not within `grace` seconds.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environ)
    )
    reader = threading.Thread(target=_pass_on, args=(child, on_line), daemon=True)
    reader.start()
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join(timeout=grace)
        if child.stdout is not None:
            child.stdout.close()


def _pass_on(child: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    for raw in child.stdout or ():
        on_line(raw.decode(errors="replace").rstrip())


def _drain(
    child: subprocess.Popen[bytes],
    tail: deque[str],
    on_line: Callable[[str], None] | None,
    failures: list[BaseException],
) -> None:
    try:
        stream = child.stderr
        # A program may write without ever ending a line.
        for raw in iter(lambda: stream.readline(_LONGEST_LINE), b"") if stream is not None else ():
            line = raw.decode(errors="replace").rstrip()
            tail.append(line)
            if on_line is not None:
                on_line(line)
    except BaseException as cause:  # noqa: BLE001 - raised again by `run`, in the thread that waits
        failures.append(cause)
        child.kill()


def _feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    if child.stdin is None:
        return
    try:
        child.stdin.write(data)
        child.stdin.close()
    except BrokenPipeError:
        return
