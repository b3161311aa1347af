"""The workers of a front: hands each request to a free one, and replaces those that end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from .worker_process import (
    Answer,
    CannotForkError,
    Failure,
    LoadFailedError,
    Question,
    RequestTimeoutError,
    WorkerDiedError,
    WorkerProcess,
)

if TYPE_CHECKING:
    from typing import Deque, Mapping

    from .settings import Settings

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
STEADY = 10.0
"""A worker that lived this many seconds is replaced at once, without a delay."""
MOST_TOGETHER = 256
MOST_BYTES_TOGETHER = 1 << 20
"""What is put into one prediction of a row-wise model, where more than one request waits."""

log = logging.getLogger("envbuilder.server")


class UnavailableError(Exception):
    """No worker can take the request now."""


class _Turn:
    """A request, from when it comes until it has its answer."""

    def __init__(self, question: Question, answer: asyncio.Future[Answer], begun: float) -> None:
        self.question = question
        self.answer = answer
        self.begun = begun
        self.taken = begun
        """When a worker took it."""

    def succeed(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Pool:
    """A fixed number of workers, kept alive until the pool is closed."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.failed: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        """Done when the model could not be loaded, however often that was tried, and never was before."""
        self.loaded = asyncio.Event()
        """Set when the first worker has loaded the model."""
        self.complete = asyncio.Event()
        """Set when all workers have been started, and forked where they can be."""
        self.mlflow_version: str | None = None
        self.size = settings.workers
        self.restarts = 0
        self.load_seconds = 0.0
        """What loading the model took last."""
        self._settings = settings
        self._environment = environment
        self._started: set[WorkerProcess] = set()
        self._ready: set[WorkerProcess] = set()
        self._idle: Deque[WorkerProcess] = deque()
        self._forking = asyncio.Lock()
        self._waiting: Deque[_Turn] = deque()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._keepers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers, without waiting for them."""
        self._keepers = [asyncio.ensure_future(self._keep(number)) for number in range(self._settings.workers)]

    @property
    def is_ready(self) -> bool:
        """Whether a request can be answered now, or as soon as a worker is free."""
        return not all(worker.is_doomed for worker in self._ready)

    @property
    def ready(self) -> int:
        """The number of workers that have the model loaded."""
        return sum(not worker.is_doomed for worker in self._ready)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a worker."""
        return len(self._waiting)

    @property
    def pids(self) -> set[int]:
        """The processes that are this pool's to reap."""
        return {worker.pid for worker in self._started}

    async def ask(self, question: Question) -> Answer:
        """Have a request answered by a free worker.

        Raises UnavailableError, WorkerDiedError or RequestTimeoutError.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(question, loop.create_future(), loop.time())
        worker = self._free()
        if worker is not None:
            self._begin(worker, [turn])
        elif not self.is_ready or len(self._waiting) >= self._settings.max_waiting:
            raise UnavailableError
        else:
            self._waiting.append(turn)
        # Waiting in line counts for the client's patience, not for the worker's: one that is merely late is not
        # killed, so the exchange goes on by itself when its client is gone.
        try:
            await asyncio.wait({turn.answer}, timeout=self._limit(question))
            if not turn.answer.done():
                raise RequestTimeoutError
        finally:
            turn.answer.cancel()  # of one that has its answer nothing changes
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
        return replace(
            turn.answer.result(), queue_seconds=turn.taken - turn.begun, predict_seconds=loop.time() - turn.taken
        )

    async def close(self) -> None:
        """End all workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for worker in list(self._started):
            worker.kill()
            await worker.ended.wait()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _limit(self, question: Question) -> float:
        return self._settings.request_timeout if question.seconds is None else question.seconds

    def _free(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.popleft()
            if not worker.is_doomed:
                return worker
        return None

    def _begin(self, worker: WorkerProcess, turns: list[_Turn]) -> None:
        exchange = asyncio.get_running_loop().create_task(self._exchange(worker, turns))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)

    async def _exchange(self, worker: WorkerProcess, turns: list[_Turn]) -> None:
        """Have the turns answered with one prediction, and give each its answer, or what went wrong."""
        taken = asyncio.get_running_loop().time()
        for turn in turns:
            turn.taken = taken
        questions = [turn.question for turn in turns]
        limit = max(map(self._limit, questions))
        try:
            answers = await worker.ask(questions, limit)
        except (RequestTimeoutError, WorkerDiedError) as error:
            if isinstance(error, RequestTimeoutError):
                log.warning("worker %d answers no more (limit %g s), killed", worker.pid, limit)
            for turn in turns:
                turn.fail(error)
        else:
            for turn, answer in zip(turns, answers):
                turn.succeed(answer)
        finally:
            self._give_back(worker)

    def _give_back(self, worker: WorkerProcess) -> None:
        if worker not in self._ready or worker.is_doomed:
            return
        turns = self._next(worker)
        if turns:
            self._begin(worker, turns)
        else:
            self._idle.append(worker)

    def _next(self, worker: WorkerProcess) -> list[_Turn]:
        """Take the turn that waited longest; with it, where the model is row-wise, what waits behind it."""
        turns: list[_Turn] = []
        size = 0
        while self._waiting:
            question = self._waiting[0].question
            size += len(question.body)
            is_full = not worker.is_row_wise or len(turns) >= MOST_TOGETHER or size > MOST_BYTES_TOGETHER
            if turns and (is_full or question.accept or turns[0].question.accept):
                break
            turns.append(self._waiting.popleft())
        return turns

    async def _keep(self, number: int) -> None:
        """Keep one worker alive; the first one loads the model, and the others are forked from it where they can be."""
        loop = asyncio.get_running_loop()
        failures, delay = 0, 0.0
        if number:
            await self.loaded.wait()
        while not self.failed.done():
            await asyncio.sleep(delay)
            delay = min(LONGEST_DELAY, max(FIRST_DELAY, delay * 2))
            started = loop.time()
            try:
                worker = await self._load()
            except LoadFailedError as error:
                failures += 1
                log.warning("the model does not load (attempt %d): %s", failures, error)
                if not self.loaded.is_set() and failures >= self._settings.load_attempts and not self.failed.done():
                    self.failed.set_result(error.failure)
                continue
            self.load_seconds = loop.time() - started
            log.info("worker %d has loaded the model in %.1f s", worker.pid, self.load_seconds)
            started, failures = loop.time(), 0
            await worker.ended.wait()
            self._remove(worker)
            self.restarts += 1
            log.warning("worker %d %s; it is replaced", worker.pid, worker.how_it_ended())
            if loop.time() - started >= STEADY:
                delay = 0.0

    async def _load(self) -> WorkerProcess:
        worker = await self._forked() or await WorkerProcess.start(self._settings, self._environment)
        self._started.add(worker)
        if len(self._started) == self.size:
            self.complete.set()
        try:
            await worker.loaded()
        except LoadFailedError:
            worker.kill()
            await worker.ended.wait()
            self._started.discard(worker)
            raise
        self.mlflow_version = worker.mlflow_version
        self._ready.add(worker)
        self.loaded.set()
        self._give_back(worker)
        return worker

    async def _forked(self) -> WorkerProcess | None:
        """Return a worker that is forked from a free one; None where none is free or fit for it."""
        async with self._forking:
            parent = next((worker for worker in self._idle if worker.can_fork and not worker.is_doomed), None)
            if parent is None:
                return None
            self._idle.remove(parent)
            try:
                return await parent.fork()
            except CannotForkError as error:
                log.info("worker %d forks no other: %s", parent.pid, error)
                parent.can_fork = False
                return None
            finally:
                self._give_back(parent)

    def _remove(self, worker: WorkerProcess) -> None:
        self._started.discard(worker)
        self._ready.discard(worker)
        with contextlib.suppress(ValueError):
            self._idle.remove(worker)
        if self._ready:
            return
        while self._waiting:
            self._waiting.popleft().fail(UnavailableError())
