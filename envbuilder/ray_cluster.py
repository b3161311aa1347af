"""Batch prediction on a Ray cluster: Ray starts a shard where there is room, and again where a node was lost.

Each shard is `envbuilder predict` in a process of its own, so that neither Ray nor its Python gets into the model's
environment; a node makes that environment once, from the lock that all shards are given. Places of files mean the same
on all nodes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import cache_lock, disk, reproduction
from envbuilder.batch import BatchReport
from envbuilder.errors import EngineMissingError, EnvBuilderError, Problem, ServingFailedError, Source
from envbuilder.lockfile import Lockfile
from envbuilder.reporter import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.batch import Batch
    from envbuilder.choices import Choices
    from envbuilder.machine import Machine

_RETRIES: Final = 5
"""How often a shard is started again whose node, or Ray's process on it, was lost."""

_POLL: Final = 0.5
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How the process of a shard ended."""

    code: int
    output: str
    log: str


def predict(
    model: str, batch: Batch, choices: Choices, *, address: str, shards: int, machine: Machine
) -> tuple[BatchReport, ...]:
    """Predict in shards on the cluster; return the report of each.

    The first shard that fails ends the others; what they have done stays, and the same call goes on there. Raises what
    `batch.predict` raises, and EngineMissingError where Ray is not here or the cluster does not answer.
    """
    timings = Timings(machine.reporter)
    with cache_lock.shared(machine.settings.cache_dir), disk.readable_by_all():
        found = reproduction.locked(model, choices, machine=machine, timings=timings)
    lock = Lockfile.of([found.lock]).to_text()
    words = [
        *("predict", str(found.model.directory), "--json", "--quiet"),
        *(f"--input={path.absolute()}" for path in batch.inputs),
        f"--output={batch.output.absolute()}",
        *batch.options(),
    ]
    # Ray tells of lost nodes on standard output, which is for the result.
    with contextlib.redirect_stdout(sys.stderr), _connected(address) as ray:
        run = ray.remote(num_cpus=batch.workers, max_retries=_RETRIES, scheduling_strategy="SPREAD")(run_shard)
        with timings.stage("predict", f"{shards} shards") as note:
            reports = _all(ray, {run.remote([*words, f"--shard={one}/{shards}"], lock): one for one in range(shards)})
            note.text = f"{sum(report.rows for report in reports)} rows"
        return reports


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give Ray's module, connected to the cluster while the block lasts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise EngineMissingError(
            "Ray is not in this environment", where=Source(file="--ray"), fix="pip install 'envbuilder[ray]'"
        ) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as cause:
        raise EngineMissingError(
            f"the Ray cluster at `{address}` cannot be used: {cause}",
            where=Source(file="--ray"),
            fix="start one with `ray start --head`, with the same Ray and Python as here",
        ) from cause
    try:
        yield ray
    finally:
        ray.shutdown()


def _all(ray: Any, shards: dict[Any, int]) -> tuple[BatchReport, ...]:  # noqa: ANN401
    waiting, found = list(shards), {}
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=_POLL)
            for one in ended:
                found[shards[one]] = _report(ray, one, shards[one])
    except BaseException:
        for one in waiting:
            ray.cancel(one, force=True)
        raise
    return tuple(found[number] for number in sorted(found))


def _report(ray: Any, shard: Any, number: int) -> BatchReport:  # noqa: ANN401
    try:
        ended = _Ended(**ray.get(shard))
    except ray.exceptions.RayError as cause:
        raise ServingFailedError(
            f"Ray lost the shard {number} for good: {cause}",
            where=Source(file="--ray"),
            fix="run the same again: it goes on where it was",
        ) from cause
    try:
        told = json.loads(ended.output)
    except ValueError:
        told = {}
    if ended.code == 0 and "output" in told:
        failures = Path(told["failures"]) if told["failures"] else None
        return BatchReport(**{**told, "output": Path(told["output"]), "failures": failures})
    raise _error(told.get("error"), ended, number)


def _error(told: dict[str, Any] | None, ended: _Ended, number: int) -> EnvBuilderError:
    """Return the error that a shard ended with, with the shard's number."""
    kinds = {kind.kind: kind for kind in EnvBuilderError.__subclasses__()}
    if told is None or told.get("kind") not in kinds:
        return ServingFailedError(
            f"the shard {number} ended with exit code {ended.code}\n{ended.log}".rstrip(),
            where=Source(file="--ray"),
            fix="run the shard alone with `--shard`, and read its log",
        )
    return kinds[told["kind"]](
        tuple(
            Problem(
                what=f"shard {number}: {one['what']}",
                where=Source(**one["where"]) if one["where"] is not None else None,
                fix=one["fix"],
            )
            for one in told["problems"]
        )
    )


def run_shard(words: list[str], lock: str) -> dict[str, Any]:
    """Run `envbuilder predict` for a shard on this node to its end; return the exit code and what it printed."""
    with tempfile.TemporaryDirectory(prefix="envbuilder-shard-") as folder:
        file = Path(folder, "conda-lock.yml")
        file.write_text(lock)
        finished = subprocess.run(
            (sys.executable, "-m", "envbuilder", *words, f"--lock={file}"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            preexec_fn=_end_with_ray,
        )
    return {
        "code": finished.returncode,
        "output": finished.stdout.decode(errors="replace"),
        "log": finished.stderr.decode(errors="replace")[-2000:],
    }


def _end_with_ray() -> None:
    """Have the kernel end this process with Ray's, so that a shard that is started elsewhere finds no other writer."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
