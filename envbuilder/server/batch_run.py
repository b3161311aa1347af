"""A batch run: files are cut into mini-batches, workers predict for them, and their parts become one output."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import batch_summary, input_files, mini_batches, part_writer, protocol, runner, work_folder
from .batch_error import BatchFailedError, InvalidBatchError, TooManyFailuresError
from .batch_progress import Progress
from .batch_summary import Summary
from .pool import Pool, UnavailableError
from .shard import Shard
from .work_folder import Part
from .worker_process import Question, RequestTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from typing import Any, AsyncIterator, Callable, Mapping

    from .input_files import InputFile
    from .mini_batches import MiniBatch
    from .settings import Settings
    from .work_folder import WorkFolder

FORMS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
OK = 200
PATIENCE = 600.0
"""Seconds in which a worker that ended has to come back."""
TOLD_EVERY = 0.5
LONGEST_JOIN = 86_400.0
FORKING = 2.0
"""Seconds in which workers are forked, where they can be."""
MOST_LINES = 12
"""Of a traceback, so that what it is about is seen too."""
RECIPE = 1
"""Changed when the same run comes to other bytes."""

log = logging.getLogger("envbuilder.server")


@dataclass(frozen=True)
class Batch:
    """What a run is asked for."""

    inputs: tuple[Path, ...]
    output: Path
    """With the suffix .csv, .jsonl or .parquet."""
    shard: Shard = field(default_factory=Shard)
    rows: int = 20_000
    """Rows of a mini-batch of tables."""
    files: int = 10
    """Files of a mini-batch of images."""
    error_threshold: int = 0
    """Rows that may fail; -1 for all."""
    retries: int = 3
    """How often a mini-batch is tried again whose worker ended or took too long."""
    params: dict[str, Any] | None = None


async def run(
    batch: Batch, settings: Settings, environment: Mapping[str, str], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Run to the end and return the summary; what is done already stays done.

    Raises InvalidBatchError, TooManyFailuresError, BatchFailedError.
    """
    form = FORMS.get(batch.output.suffix)
    if form is None:
        raise InvalidBatchError(f"the output `{batch.output}` must end in {', '.join(FORMS)}")
    try:
        files = input_files.find(list(batch.inputs), output=batch.output)
    except input_files.InvalidInputsError as error:
        raise InvalidBatchError(str(error)) from None
    plan = _plan(batch, files, settings.model_dir)
    output = batch.shard.name(batch.output)
    summary = Summary(output, work_folder.key_of(plan))
    try:
        with work_folder.opened(output, plan) as folder:
            known = summary.known()
            if known is None:
                try:
                    known = await _Run(batch, files, folder, form, settings, tell).all(environment, summary)
                except BatchFailedError:
                    if not any(part.rows for part in folder.parts):
                        folder.remove()  # there is nothing to go on with
                    raise
            folder.remove()
            return known
    except work_folder.OtherRunError as error:
        raise InvalidBatchError(str(error)) from None
    except OSError as error:
        raise BatchFailedError(f"the output cannot be written: {error}") from error


def _plan(batch: Batch, files: list[InputFile], model_dir: str) -> dict[str, Any]:
    return {
        "recipe": RECIPE,
        "model": _model_key(Path(model_dir)),
        "inputs": [one.key for one in files],
        "shard": [batch.shard.index, batch.shard.count],
        "rows": batch.rows,
        "files": batch.files,
        "form": batch.output.suffix,
        "params": batch.params,
    }


def _model_key(directory: Path) -> str:
    """Return a digest of what a model says of itself, and of the names and sizes of its files."""
    found = hashlib.sha256()
    with contextlib.suppress(OSError):
        found.update((directory / "MLmodel").read_bytes())
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    listed = [[path.relative_to(directory).as_posix(), path.stat().st_size] for path in paths]
    found.update(json.dumps(listed).encode())
    return found.hexdigest()


class _Run:
    def __init__(
        self,
        batch: Batch,
        files: list[InputFile],
        folder: WorkFolder,
        form: str,
        settings: Settings,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._batch = batch
        self._is_of_images = any(one.kind == "image" for one in files)
        # Each shard reads its own files where there are enough; else all read all, and take some of what is in them.
        self._is_dealt = len(files) >= batch.shard.count
        self._files = [one for place, one in enumerate(files) if not self._is_dealt or batch.shard.has(place)]
        self._folder = folder
        self._form = form
        self._settings = settings
        self._tell = tell
        self._progress = Progress()
        self._progress.total = sum(1 if self._is_of_images else one.size for one in self._files)
        self._columns: tuple[str, ...] = ()

    async def all(self, environment: Mapping[str, str], summary: Summary) -> dict[str, Any]:
        """Predict for everything and put it together."""
        task = asyncio.current_task()
        if task is not None:
            runner.on_stop(lambda: _cancel(task))
        runner.adopt_orphans()
        pool = Pool(self._settings, environment)
        pool.start()
        others = [asyncio.ensure_future(self._keep_telling()), asyncio.ensure_future(runner.reap_orphans(pool))]
        try:
            await self._loaded(pool)
            _, problem = await self._ask(pool, {"do": "check", "form": self._form})
            if problem:
                raise InvalidBatchError(f"the output `{self._batch.output}` cannot be written: {problem}")
            await self._predict(pool)
            return await self._published(pool, summary)
        finally:
            for other in others:
                other.cancel()
            await pool.close()

    async def _loaded(self, pool: Pool) -> None:
        loaded = asyncio.ensure_future(pool.loaded.wait())
        either: set[asyncio.Future[Any]] = {loaded, pool.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if pool.failed.done():
            loaded.cancel()
            failure = pool.failed.result()
            told = failure.trace[-MOST_LINES:] or (failure.what,)
            raise BatchFailedError("\n".join(("the model does not load", *told)))
        # Workers are forked from one that has nothing to do: it has a moment for that before there is.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(pool.complete.wait(), FORKING)

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY)
            self._tell(self._progress.to_dict())

    async def _predict(self, pool: Pool) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            async for number, one in self._mini_batches(pool):
                known = self._folder.done.get(number)
                if known is not None:
                    self._count(known, one.weight)
                    continue
                if len(running) >= pool.size:
                    running = await self._some(running)
                running.add(asyncio.ensure_future(self._part(pool, number, one)))
            while running:
                running = await self._some(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _some(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return left

    async def _mini_batches(self, pool: Pool) -> AsyncIterator[tuple[int, MiniBatch]]:
        """Give the shard's own, with their numbers."""

        async def measure(one: InputFile) -> list[int]:
            told, problem = await self._ask(pool, {"do": "measure", "path": str(one.path)})
            if problem:
                raise InvalidBatchError(f"`{one.path}`: {problem}")
            return list(told["groups"])

        number = 0
        if self._is_of_images:
            for one in mini_batches.of_images(self._files, self._batch.files):
                if self._is_mine(number, one):
                    yield number, one
                number += 1
            return
        async for one in mini_batches.of_tables(self._files, self._batch.rows, measure):
            if self._is_mine(number, one):
                yield number, one
            number += 1

    def _is_mine(self, number: int, one: MiniBatch) -> bool:
        is_mine = self._is_dealt or self._batch.shard.has(number)
        if not is_mine:
            self._progress.done += one.weight
        return is_mine

    async def _part(self, pool: Pool, number: int, one: MiniBatch) -> None:
        paths = {"part": str(self._folder.part(number)), "failures": str(self._folder.failures(number))}
        task = {"do": "predict", "form": self._form, "params": self._batch.params, **one.task, **paths}
        told, problem = await self._ask(pool, task)
        if problem:
            told = self._failed(number, one, problem)
        part = Part(number, told["rows"], told["failed"], told["size"], tuple(told["columns"]), tuple(told["first"]))
        self._folder.add(part)
        self._count(part, one.weight)

    def _failed(self, number: int, one: MiniBatch, what: str) -> dict[str, Any]:
        """Write down that a whole mini-batch has no prediction."""
        place = {} if self._is_of_images else {"row": one.first, "rows": one.rows}
        lines = [{"file_name": name, **place, "what": what} for name in one.names]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._folder.part(number).unlink(missing_ok=True)
        work_folder.write(self._folder.failures(number), text.encode("utf-8", "replace"))
        return {"rows": 0, "failed": one.rows, "size": 0, "columns": [], "first": lines[:3]}

    def _count(self, part: Part, weight: int) -> None:
        self._progress.rows += part.rows
        self._progress.failed += part.failed
        self._progress.done += weight
        if part.columns:
            if self._columns and self._columns != part.columns and self._form != "jsonl":
                raise BatchFailedError(
                    f"the model returns the columns {', '.join(part.columns)} for some rows and"
                    f" {', '.join(self._columns)} for others: such predictions fit into `.jsonl` only"
                )
            self._columns = part.columns
        if 0 <= self._batch.error_threshold < self._progress.failed:
            raise TooManyFailuresError(self._too_many())

    def _too_many(self) -> str:
        shown = [failure for part in self._folder.parts for failure in part.first][:3]
        rows = "row" if self._progress.failed == 1 else "rows"
        return "\n".join(
            (
                (
                    f"{self._progress.failed} {rows} failed, and the error threshold is {self._batch.error_threshold}"
                    " (what is predicted already stays, and is not predicted again):"
                ),
                *(f"  {batch_summary.line(one)}" for one in shown),
            )
        )

    async def _ask(self, pool: Pool, task: dict[str, Any], seconds: float | None = None) -> tuple[dict[str, Any], str]:
        """Have a worker do something; returns its report, or why it cannot be done."""
        question = Question(protocol.MINI_BATCH, json.dumps(task).encode(), protocol.MINI_BATCH, seconds)
        loop = asyncio.get_running_loop()
        tries, limit = 0, loop.time() + PATIENCE
        while True:
            try:
                answer = await pool.ask(question)
            except UnavailableError:
                if loop.time() > limit:
                    raise BatchFailedError(f"no worker was there for {PATIENCE:g} s: see the log above") from None
                await asyncio.sleep(0.1)
                continue
            except (WorkerDiedError, RequestTimeoutError) as error:
                tries, limit = tries + 1, loop.time() + PATIENCE
                what = str(error) or f"it took longer than {self._settings.request_timeout:g} s"
                if tries > self._batch.retries:
                    return {}, f"{what} ({tries} tries)"
                log.warning("%s: it is tried again (%d of %d)", what, tries, self._batch.retries)
                continue
            told = json.loads(answer.body)
            if answer.status == OK:
                return told, ""
            if told.get("is_fatal"):
                raise BatchFailedError(str(told["what"]))
            return {}, str(told["what"])

    async def _published(self, pool: Pool, summary: Summary) -> dict[str, Any]:
        """Put the parts together; the output comes last, because where it is, all is done."""
        parts = self._folder.parts
        failures = [self._folder.failures(part.number) for part in parts if part.failed]
        if failures:
            work_folder.join(failures, b"", summary.failures)
        else:
            summary.failures.unlink(missing_ok=True)
        paths = [self._folder.part(part.number) for part in parts if part.size]
        told = summary.write(parts, len(self._files))
        if self._form == "parquet":
            made = self._folder.path / "joined.parquet"
            task = {"do": "join", "parts": [str(path) for path in paths], "output": str(made)}
            _, problem = await self._ask(pool, task, LONGEST_JOIN)
            if problem:
                raise BatchFailedError(f"{problem}: write `.jsonl` instead")
            with made.open("rb") as stream:
                os.fsync(stream.fileno())
            made.replace(summary.output)
            return told
        columns = list(self._columns) or [part_writer.PREDICTION]
        head = part_writer.header(columns, has_rows=not self._is_of_images) if self._form == "csv" else b""
        work_folder.join(paths, head, summary.output)
        return told


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
