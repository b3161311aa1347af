"""Batch prediction: files in, one file of predictions out, by a model on this machine or by a built image."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import cache_lock, disk, image_environment, local_front, model_uri, process
from envbuilder.engine import Mount
from envbuilder.errors import InvalidFileError, PredictionFailedError, ServingFailedError, Source
from envbuilder.reporter import Timings
from envbuilder.server.shard import InvalidShardError, Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envbuilder.choices import Choices, EngineName
    from envbuilder.machine import Machine

_INPUTS: Final = "/mnt/input"
_OUTPUT: Final = "/mnt/output"
_USAGE, _TOO_MANY = 2, 3
_ERROR: Final = "error: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is predicted for, where to, and how."""

    inputs: tuple[Path, ...]
    output: Path
    """A file with the suffix .csv, .parquet or .jsonl; a shard's gets the shard's number in its name."""

    shard: Shard = field(default_factory=Shard)
    workers: int = 1
    rows: int | None = None
    """Of a mini-batch of tables; None for the server's default, as for the next ones."""

    files: int | None = None
    error_threshold: int = 0
    """Rows that may fail; -1 for all."""

    retries: int | None = None
    timeout: float | None = None
    """Seconds for a mini-batch."""

    params: Mapping[str, Any] | None = None

    def options(self) -> tuple[str, ...]:
        """Return the options of `predict`, without the places of files and the shard."""
        given: dict[str, object] = {
            "workers": self.workers,
            "batch-rows": self.rows,
            "batch-files": self.files,
            "error-threshold": self.error_threshold,
            "retries": self.retries,
            "timeout": self.timeout,
            "params": json.dumps(dict(self.params)) if self.params is not None else None,
        }
        return tuple(f"--{name}={value}" for name, value in given.items() if value is not None)

    def arguments(self) -> tuple[str, ...]:
        """Return what follows `predict` on the server's command line, without the places of files."""
        return ("--events", f"--shard={self.shard.index}/{self.shard.count}", *self.options())


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What a run came to."""

    output: Path
    rows: int
    failed: int
    files: int
    failures: Path | None
    """The list of the rows without a prediction."""

    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "output": str(self.output),
            "rows": self.rows,
            "failed": self.failed,
            "files": self.files,
            "failures": str(self.failures) if self.failures is not None else None,
            "seconds": round(self.seconds, 3),
        }


def shard_of(text: str | None) -> Shard:
    """Read `--shard`; raises InvalidFileError."""
    try:
        return Shard.parse(text, os.environ) if text is not None else Shard()
    except InvalidShardError as cause:
        raise InvalidFileError(
            str(cause), where=Source(file="--shard"), fix="give `--shard INDEX/COUNT`, INDEX from 0"
        ) from None


def count_of(text: str | None) -> int:
    """Read `--shard` as a number of shards; raises InvalidFileError."""
    if text is None or re.fullmatch("[1-9][0-9]{0,5}", text) is None:
        raise InvalidFileError(
            "no number of shards is given" if text is None else f"`{text}` is no number of shards",
            where=Source(file="--shard"),
            fix="give `--shard COUNT` with `--ray`, e.g. `--shard 12`",
        )
    return int(text)


def predict(
    given: str, batch: Batch, choices: Choices, *, engine: EngineName = "auto", machine: Machine
) -> BatchReport:
    """Predict for all rows of all inputs; what a run that was killed had done is not done again.

    `given` is a model, or else the name of an image. Raises InvalidFileError for inputs that cannot be read,
    PredictionFailedError where more rows fail than may, ServingFailedError where the model does not work.
    """
    check(batch)
    is_model = model_uri.is_uri(given) or Path(given).exists()
    run = _by_model if is_model else _by_image
    return run(given, batch, choices, engine, machine)


def check(batch: Batch) -> None:
    """Raise InvalidFileError where the output's directory does not exist."""
    if not batch.output.parent.is_dir():
        raise InvalidFileError(
            "the output's directory does not exist", where=Source(file=str(batch.output)), fix="make it first"
        )


def _by_model(given: str, batch: Batch, choices: Choices, _engine: EngineName, machine: Machine) -> BatchReport:
    timings = Timings(machine.reporter)
    with local_front.ready(given, choices, machine=machine, timings=timings) as front:
        where = [word for path in batch.inputs for word in ("-i", str(path.absolute()))]

        def run(on_output: Callable[[str], None]) -> process.Finished:
            return process.run(
                (*front.command, "predict", *where, "-o", str(batch.output.absolute()), *batch.arguments()),
                environ=front.environ,
                on_line=lambda line: machine.reporter.line("predict", line),
                on_output=on_output,
            )

        return _followed(given, batch, run, timings, {})


def _by_image(given: str, batch: Batch, _choices: Choices, engine: EngineName, machine: Machine) -> BatchReport:
    timings = Timings(machine.reporter)
    found = image_environment.find(given, engine=engine, machine=machine)
    mounts, where, shown = [], [], {}
    for place, path in enumerate(batch.inputs):
        if not path.exists():
            raise InvalidFileError("does not exist", where=Source(file=str(path)), fix="name another input")
        target = f"{_INPUTS}/{place}" if path.is_dir() else f"{_INPUTS}/{place}/{path.name}"
        mounts.append(Mount(source=path.resolve(), target=target))
        where += ["-i", target]
        shown[target] = str(path)
    mounts.append(Mount(source=batch.output.parent.resolve(), target=_OUTPUT, writable=True))
    shown[_OUTPUT] = str(batch.output.parent)
    arguments = (*where, "-o", f"{_OUTPUT}/{batch.output.name}", *batch.arguments())

    def run(on_output: Callable[[str], None]) -> process.Finished:
        return found.module.predict(found.image, arguments, tuple(mounts), on_output=on_output, machine=machine)

    with cache_lock.serving(machine.settings.cache_dir), disk.readable_by_all():
        return _followed(given, batch, run, timings, shown)


def _followed(
    given: str,
    batch: Batch,
    run: Callable[[Callable[[str], None]], process.Finished],
    timings: Timings,
    shown: Mapping[str, str],
) -> BatchReport:
    """Run, tell the progress, and return what the server says that it came to."""
    done: dict[str, Any] = {}

    def hear(line: str) -> None:
        event = json.loads(line)
        if event["event"] == "done":
            done.update(event)
        else:
            timings.reporter.portion("predict", event["fraction"], rows=event["rows"], failed=event["failed"])

    with timings.stage("predict", str(batch.output)) as note:
        finished = run(hear)
        if finished.code == 0 and done:
            note.text = f"{done['rows']} rows"
    if finished.code or not done:
        raise _failure(given, finished, shown)
    folder = batch.output.parent
    return BatchReport(
        output=folder / done["output"],
        rows=done["rows"],
        failed=done["failed"],
        files=done["files"],
        failures=folder / done["failures"] if done["failures"] else None,
        seconds=timings.seconds["predict"],
    )


def _failure(
    given: str, finished: process.Finished, shown: Mapping[str, str]
) -> InvalidFileError | PredictionFailedError | ServingFailedError:
    lines = list(finished.tail)
    begins = [place for place, line in enumerate(lines) if line.startswith(_ERROR)]
    text = "\n".join(line.removeprefix(_ERROR) for line in lines[begins[0] :]) if begins else ""
    for inside, outside in shown.items():
        text = text.replace(inside, outside)
    if finished.code == _USAGE and text:
        return InvalidFileError(text, where=Source(file=given), fix="mend what is named, and run the same again")
    if finished.code == _TOO_MANY and text:
        return PredictionFailedError(
            text,
            where=Source(file=given),
            fix="mend the rows, or allow more of them to fail with `--error-threshold` (-1: all)",
        )
    return ServingFailedError(
        text or f"the run ended by itself with exit code {finished.code}",
        where=Source(file=given),
        fix="mend the model, or see its log with `-v`; the same command goes on where this run ended",
    )


__all__ = ["Batch", "BatchReport", "check", "count_of", "predict", "shard_of"]
