"""Batch prediction on a Ray cluster: Ray starts a shard where there is room, and again where a node was lost.

Each shard is `envbuilder predict` in a process of its own, so that neither Ray nor its Python gets into the model's
environment; a node makes that environment once, from the lock that all shards are given. Places of files mean the same
on all nodes and here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import batch, cache_lock, digest, disk, process, reproduction
from envbuilder.batch import BatchReport
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.errors import (
    EngineMissingError,
    EnvBuilderError,
    InvalidFileError,
    Problem,
    ServingFailedError,
    Source,
)
from envbuilder.lockfile import Lockfile
from envbuilder.reporter import Timings
from envbuilder.server import input_files
from envbuilder.settings import cache_dir
from envbuilder.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.batch import Batch
    from envbuilder.choices import Choices
    from envbuilder.machine import Machine

_RETRIES: Final = 5
"""How often a shard is started again whose node, or Ray's process on it, was lost."""

_POLL: Final = 0.5
_ANSWERS_WITHIN: Final = 10.0
_RAY: Final = Source(file="--ray")
_SAME: Final = "install the same envbuilder, Ray and Python on all nodes"
_START: Final = (
    "import ctypes, os, runpy, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM); "  # PR_SET_PDEATHSIG
    "os.getppid() == int(sys.argv.pop(1)) or sys.exit('Ray has ended'); "
    "runpy.run_module('envbuilder', run_name='__main__', alter_sys=True)"
)
"""The command line, which the kernel ends with Ray's process: a shard that is started elsewhere finds no other writer.

Ray's process has threads, so that nothing may be done between fork and exec.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """What the shards of a run came to."""

    shards: tuple[BatchReport, ...]
    files: int
    """That were read, each by one shard, or by all where there are fewer files than shards."""

    seconds: float

    @property
    def rows(self) -> int:
        """The rows that have a prediction."""
        return sum(one.rows for one in self.shards)

    @property
    def failed(self) -> int:
        """The rows that have none."""
        return sum(one.failed for one in self.shards)

    @property
    def failures(self) -> tuple[Path, ...]:
        """The lists of the rows that have none."""
        return tuple(one.failures for one in self.shards if one.failures is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "outputs": [str(one.output) for one in self.shards],
            "rows": self.rows,
            "failed": self.failed,
            "files": self.files,
            "failures": [str(one) for one in self.failures],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How the process of a shard ended."""

    code: int
    output: str
    log: str


def predict(
    model: str, wanted: Batch, choices: Choices, *, address: str, shards: int, machine: Machine
) -> ClusterReport:
    """Predict in shards on the cluster.

    The first shard that fails ends the others; what they have done stays, and the same call goes on there. Raises what
    `batch.predict` raises, and EngineMissingError where Ray is not here or the cluster does not answer.
    """
    timings = Timings(machine.reporter)
    batch.check(wanted)
    files = _files(model, wanted)
    with cache_lock.shared(machine.settings.cache_dir), disk.readable_by_all():
        found = reproduction.locked(model, choices, machine=machine, timings=timings)
    directory = found.model.directory
    words = _words(directory, wanted, choices, is_offline=machine.settings.offline)
    given = (Lockfile.of([found.lock]).to_text(), _places(directory, wanted, choices), __version__)
    # Ray tells of lost nodes on standard output, which is for the result.
    with contextlib.redirect_stdout(sys.stderr), _connected(address) as ray:
        _tell_small_nodes(ray, wanted, machine)
        run = ray.remote(num_cpus=wanted.workers, max_retries=_RETRIES, scheduling_strategy="SPREAD")(run_shard)
        with timings.stage("predict", f"{shards} shards") as note:
            try:
                started = {run.remote([*words, f"--shard={one}/{shards}"], *given): one for one in range(shards)}
            except ImportError as cause:  # at `ray://…`, of what the cluster's head has not
                raise EngineMissingError(f"the cluster cannot run shards: {cause}", where=_RAY, fix=_SAME) from None
            reports = _all(ray, started, wanted, machine)
            note.text = f"{sum(one.rows for one in reports)} rows"
    return ClusterReport(shards=reports, files=files, seconds=timings.seconds["predict"])


def _files(model: str, wanted: Batch) -> int:
    try:
        return len(input_files.find(list(wanted.inputs), output=wanted.output))
    except input_files.InvalidInputsError as cause:
        raise InvalidFileError(
            str(cause), where=Source(file=model), fix="mend what is named, and run the same again"
        ) from None


def _words(model: Path, wanted: Batch, choices: Choices, *, is_offline: bool) -> list[str]:
    """Return the command line of a shard: a node comes to the environment that is locked by the same choices."""
    given = {
        "output": wanted.output.absolute(),
        "workspace": choices.workspace.directory.absolute() if choices.workspace is not None else None,
        "environment": _environment(choices),
        "python": choices.python,
    }
    return [
        *("predict", str(model.absolute()), "--json", "--quiet"),
        *(f"--input={path.absolute()}" for path in wanted.inputs),
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        *wanted.options(),
        *(() if choices.repairs else ("--no-repairs",)),
        *(("--offline",) if is_offline else ()),
    ]


def _environment(choices: Choices) -> str | None:
    """Return `--environment` as it means the same in another directory."""
    if choices.environment is None or choices.environment.lstrip().startswith("{"):
        return choices.environment
    named = EnvironmentReference.parse(choices.environment, source=Source(file="--environment"))
    return choices.environment if named.path is None else str(Path(named.path).expanduser().absolute())


def _places(model: Path, wanted: Batch, choices: Choices) -> list[str]:
    """Return what each node has to see."""
    workspace = (choices.workspace.directory,) if choices.workspace is not None else ()
    places = (model, *wanted.inputs, wanted.output.parent, *workspace)
    return [str(path.absolute()) for path in places]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give Ray's module, connected to the cluster while the block lasts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise EngineMissingError(
            "Ray is not in this environment", where=_RAY, fix="pip install 'envbuilder[ray]'"
        ) from None
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as cause:
        raise EngineMissingError(
            f"the Ray cluster at `{address}` cannot be used: {_told(cause)}",
            where=_RAY,
            fix="start one with `ray start --head`, with the same Ray and Python as here",
        ) from cause
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for a quarter of an hour."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:([0-9]{1,5})", address)
    if found is not None:
        socket.create_connection((found[1], int(found[2])), timeout=_ANSWERS_WITHIN).close()


def _told(cause: Exception) -> str:
    """Return what Ray says, without the tracebacks of its processes."""
    text = str(cause).strip()
    before, traceback, _ = text.partition("Traceback (most recent call last)")
    return f"{before.strip()} {text.splitlines()[-1]}".strip() if traceback else text


def _tell_small_nodes(ray: Any, wanted: Batch, machine: Machine) -> None:  # noqa: ANN401
    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if largest < wanted.workers:
        machine.reporter.warning(
            f"`--workers {wanted.workers}` takes a node with as many CPUs, and the largest has {largest:g}: "
            "the shards wait until there is one"
        )


def _all(ray: Any, shards: dict[Any, int], wanted: Batch, machine: Machine) -> tuple[BatchReport, ...]:  # noqa: ANN401
    waiting = list(shards)
    found: dict[int, BatchReport] = {}
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=_POLL)
            for one in ended:
                found[shards[one]] = _report(ray, one, shards[one], wanted)
            rows, failed = (sum(getattr(one, name) for one in found.values()) for name in ("rows", "failed"))
            machine.reporter.portion("predict", len(found) / len(shards), rows=rows, failed=failed)
    except BaseException:
        for one in waiting:
            ray.cancel(one, force=True)
        raise
    return tuple(found[number] for number in sorted(found))


def _report(ray: Any, shard: Any, number: int, wanted: Batch) -> BatchReport:  # noqa: ANN401
    try:
        ended = _Ended(**ray.get(shard))
    except ray.exceptions.RayTaskError as cause:
        what = str(cause).strip().splitlines()[-1]  # the rest is a traceback
        raise ServingFailedError(f"shard {number} did not start: {what}", where=_RAY, fix=_SAME) from cause
    except ray.exceptions.RayError as cause:
        raise ServingFailedError(
            f"Ray lost shard {number} for good: {cause}", where=_RAY, fix="run the same again: it goes on where it was"
        ) from cause
    try:
        told = json.loads(ended.output)
    except ValueError:
        told = {}
    if ended.code == 0 and "output" in told:
        folder = wanted.output.parent
        failures = folder / Path(told["failures"]).name if told["failures"] else None
        return BatchReport(**{**told, "output": folder / Path(told["output"]).name, "failures": failures})
    raise _error(told.get("error"), ended, number)


def _error(told: dict[str, Any] | None, ended: _Ended, number: int) -> EnvBuilderError:
    """Return the error that a shard ended with, with the shard's number."""
    kinds = {kind.kind: kind for kind in EnvBuilderError.__subclasses__()}
    if told is None or told.get("kind") not in kinds:
        return ServingFailedError(
            f"shard {number} ended with exit code {ended.code}\n{ended.log}".rstrip(),
            where=_RAY,
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


def run_shard(words: list[str], lock: str, places: list[str], version: str) -> dict[str, Any]:
    """Run `envbuilder predict` for a shard on this node to its end; return the exit code and what it printed."""
    refusal = _refusal(places, version)
    if refusal is not None:
        return {"code": refusal.exit_code, "output": json.dumps({"error": refusal.to_dict()}), "log": ""}
    # In the caches, so that nothing is left where Ray's process is killed; no folder of the user, so no workspace.
    file = cache_dir(os.environ) / "locks" / f"shard-{digest.hex_of(digest.of_bytes(lock.encode()))}.conda-lock.yml"
    disk.write_file(file, lock.encode())
    environ = {name: value for name, value in os.environ.items() if name != "ENVBUILDER_WORKSPACE"}
    finished = process.run(
        (sys.executable, "-c", _START, str(os.getpid()), *words, f"--lock={file}"), environ=environ, cwd=file.parent
    )
    return {
        "code": finished.code,
        "output": finished.stdout.decode(errors="replace"),
        "log": "\n".join(finished.tail),
    }


def _refusal(places: list[str], version: str) -> EnvBuilderError | None:
    """Return why this node cannot run shards of the run."""
    node = platform.node()
    if version != __version__:
        return EngineMissingError(
            f"the node `{node}` has envbuilder {__version__}, and {version} asks", where=_RAY, fix=_SAME
        )
    unseen = [place for place in places if not Path(place).exists()]
    if not unseen:
        return None
    return InvalidFileError(
        tuple(
            Problem(
                what=f"the node `{node}` does not see it",
                where=Source(file=place),
                fix="keep the model, the inputs and the output on a file system that all nodes have at the same place",
            )
            for place in unseen
        )
    )


__all__ = ["ClusterReport", "predict", "run_shard"]
