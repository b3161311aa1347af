"""One worker as the front sees it: a process in the model's environment and the connection to it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import protocol

if TYPE_CHECKING:
    from typing import Mapping

    from .settings import Settings

BUFFER = 1 << 20
JSON = "application/json"
STDERR = 2


@dataclass(frozen=True)
class Failure:
    """Why a model could not be loaded, and the last lines of the traceback."""

    what: str
    trace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A request as workers read it."""

    content_type: str
    body: bytes
    accept: str = ""
    """The content type that is asked for, where it is another than JSON."""
    seconds: float | None = None
    """How long it may take, where that is another time than a request's."""


@dataclass(frozen=True)
class Answer:
    """A worker's answer to one request."""

    status: int
    body: bytes
    content_type: str = JSON
    queue_seconds: float = 0.0
    """What the request waited for a worker."""
    predict_seconds: float = 0.0
    """What the worker took."""


class LoadFailedError(Exception):
    """The worker could not load the model."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class WorkerDiedError(Exception):
    """The worker ended before it answered."""


class RequestTimeoutError(Exception):
    """The request took longer than it may."""


class _Forked:
    """A process that a worker forked and the front has to wait for: as much of Popen as is used of one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """Reap it."""
        if self.returncode is None:
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                self.returncode = 0
            else:
                self.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.returncode


class CannotForkError(Exception):
    """The worker does not fork another one."""


class WorkerProcess:
    """A started worker; it takes one request at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes] | _Forked,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.ended = asyncio.Event()
        self.mlflow_version = ""
        self.can_fork = False
        """Another worker may be forked from it, which shares its memory."""
        self.is_row_wise = False
        """Several requests may be answered with one prediction."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._overdue = False
        self.is_doomed = False
        """Ended, or about to: it takes no more requests."""
        loop = asyncio.get_running_loop()
        # A thread waits because the connection says nothing while a child that the model forked holds it open.
        threading.Thread(target=self._wait, args=(loop,), daemon=True).start()

    @classmethod
    async def start(cls, settings: Settings, environment: Mapping[str, str]) -> WorkerProcess:
        """Start a worker; it begins to load the model."""
        ours, theirs = socket.socketpair()
        worker = Path(__file__).with_name("worker.py")
        descriptor = theirs.fileno()
        # What it runs from may be the user's own folder, and -I does not hear PYTHONDONTWRITEBYTECODE.
        command = (settings.model_python, "-I", "-B", "-u", str(worker))
        arguments = (str(descriptor), settings.model_dir, str(os.getpid()))
        try:
            # Its own session: what the model starts can be ended with it, and a terminal's Ctrl-C reaches the front
            # only. What the model prints goes to the log, because stdout is the answer of `predict` and `try`.
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork, done in a millisecond
                (*command, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                pass_fds=(descriptor,),
                start_new_session=True,
                env=_environment(environment, settings),
            )
        except OSError as error:
            ours.close()
            raise LoadFailedError(Failure(f"cannot start `{settings.model_python}`: {error}")) from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER)
        return cls(process, reader, writer)

    async def fork(self) -> WorkerProcess:
        """Return a worker that is forked from this one, which answers nothing meanwhile; raises CannotForkError."""
        ours, theirs = socket.socketpair()
        try:
            await self._offer()
            own = self._writer.get_extra_info("socket")
            with socket.fromfd(own.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                given = array.array("i", [theirs.fileno()])
                connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
            head, _ = await self._receive()
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER)
            return WorkerProcess(_Forked(head["pid"]), reader, writer)
        except (OSError, EOFError, KeyError) as error:
            ours.close()
            self.kill()  # nobody knows what it would say next
            raise CannotForkError(str(error)) from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    async def _offer(self) -> None:
        self._writer.write(protocol.pack({"event": "fork"}, 0))
        await self._writer.drain()
        head, _ = await self._receive()
        if head.get("event") != "give":
            raise CannotForkError(head.get("what", ""))

    @property
    def pid(self) -> int:
        """The process, also after its end."""
        return self._process.pid

    async def loaded(self) -> None:
        """Wait until the model is loaded; raises LoadFailedError."""
        try:
            head, _ = await self._receive()
        except (OSError, EOFError):
            await self.ended.wait()
            what = f"the worker {self.how_it_ended()} while it loaded the model"
            raise LoadFailedError(Failure(what)) from None
        if head["event"] != "ready":
            raise LoadFailedError(Failure(head["what"], tuple(head["trace"])))
        self.mlflow_version = head["mlflow_version"]
        self.is_row_wise = bool(head.get("row_wise"))
        self.can_fork = bool(head.get("can_fork"))

    async def ask(self, questions: list[Question], timeout: float) -> list[Answer]:
        """Have questions answered with one prediction; a worker that takes longer is killed."""
        overdue = asyncio.get_running_loop().call_later(timeout, self._give_up)
        try:
            for part in _packed(questions):
                self._writer.write(part)
            await self._writer.drain()
            head, body = await self._receive()
        except (OSError, EOFError):
            self.kill()
            if self._overdue:
                raise RequestTimeoutError from None
            await self.ended.wait()
            raise WorkerDiedError(f"the worker {self.how_it_ended()} while it answered the request") from None
        except BaseException:
            self.kill()  # the answer to this request would be taken for the next one's
            raise
        finally:
            overdue.cancel()
        if "batch" not in head:
            return [Answer(head["status"], body, head.get("content_type", JSON))]
        answers, start = [], 0
        for one in head["batch"]:
            answers.append(Answer(one["status"], body[start : start + one["size"]]))
            start += one["size"]
        return answers

    def kill(self) -> None:
        """End the worker and what it started."""
        self.is_doomed = True
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def how_it_ended(self) -> str:
        """Say how the process ended, as the end of a sentence."""
        code = self._process.returncode
        if code is not None and code < 0:
            hint = ", possibly for lack of memory" if -code == signal.SIGKILL else ""
            return f"was ended by {signal.Signals(-code).name}{hint}"
        return f"exited with code {code}"

    def _give_up(self) -> None:
        self._overdue = True
        self.kill()

    async def _receive(self) -> tuple[protocol.Head, bytes]:
        header = await self._reader.readexactly(protocol.HEADER.size)
        head_size, body_size = protocol.HEADER.unpack(header)
        head = json.loads(await self._reader.readexactly(head_size))
        return head, await self._reader.readexactly(body_size)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        # Only looks: while the process is not reaped its number, and its group's, cannot be anybody else's.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._on_end)

    def _on_end(self) -> None:
        self.kill()  # children that are left
        self._process.wait()
        self.ended.set()
        self._writer.transport.abort()


def _packed(questions: list[Question]) -> list[bytes]:
    """Return the frame of a question, or of several."""
    bodies = [one.body for one in questions]
    if len(questions) > 1:
        parts = [{"content_type": one.content_type, "size": len(one.body)} for one in questions]
        head: protocol.Head = {"batch": parts}
    else:
        head = {"content_type": questions[0].content_type}
        if questions[0].accept:
            head["accept"] = questions[0].accept
    return [protocol.pack(head, sum(map(len, bodies))), *bodies]


def _environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    programs = str(Path(settings.model_python).parent)
    home = environment.get("HOME", "")
    return {
        # Not from a container that may have no network, and not without being asked.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # pyarrow's allocator keeps a thread to give memory back, beside which no worker can be forked.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        **environment,
        # Libraries that keep caches at home find a place on a read-only root too.
        "HOME": home if home and os.access(home, os.W_OK) else environment.get("TMPDIR", "/tmp"),  # noqa: S108
        "PATH": os.pathsep.join(part for part in (programs, environment.get("PATH", os.defpath)) if part),
    }
