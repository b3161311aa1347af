"""The Python API: the verbs of the command line as functions, with the same words and errors.

`envbuilder.build("models/churn", envbuilder.Choices(tag="churn:1"))`
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import (
    batch,
    diagnosis,
    engine_choice,
    fleet,
    local_serving,
    model_environment,
    ray_cluster,
    reproduction,
    spec_diff,
    stages,
    verification,
)
from envbuilder.batch import Batch, BatchReport
from envbuilder.choices import ENGINE_NAMES, Choices
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.reproduction import Wish
from envbuilder.settings import Settings
from envbuilder.workspace import Workspace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from envbuilder.audit.report import Report
    from envbuilder.choices import EngineName
    from envbuilder.engine import Running
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.finding import Finding
    from envbuilder.fleet import FleetReport
    from envbuilder.lockfile import Lockfile
    from envbuilder.ray_cluster import ClusterReport
    from envbuilder.reproduction import Reproduction
    from envbuilder.spec_diff import Difference
    from envbuilder.stages import BuildReport
    from envbuilder.verification import Verification

__all__ = [
    "Batch",
    "BatchReport",
    "Choices",
    "Wish",
    "Workspace",
    "audit_report",
    "build",
    "build_all",
    "diff",
    "doctor",
    "lock",
    "predict",
    "predict_on_ray",
    "render",
    "reproduce",
    "resolve",
    "run",
    "serve",
    "this_machine",
    "verify",
]

_NO_CHOICES = Choices()


def this_machine(
    reporter: Reporter | None = None, *, offline: bool = False, workspace: Workspace | None = None
) -> Machine:
    """Return the machine as environment variables, the workspace's defaults and pip's configuration describe it."""
    environ = {**(workspace.variables if workspace is not None else {}), **os.environ}
    return Machine(settings=Settings.from_environ(environ, offline=offline), reporter=reporter or Reporter())


def resolve(model: str | Path, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None) -> EnvironmentSpec:
    """Return what the model's environment, or the one chosen for it, asks for."""
    return model_environment.resolve(model, choices, machine=machine or this_machine())


def diff(
    first: str | Path, second: str, *, workspace: Workspace | None = None, machine: Machine | None = None
) -> tuple[Difference, ...]:
    """Return what two models ask for differently; where `second` is an environment, the model without and with it."""
    pair = model_environment.resolve_pair(first, second, workspace=workspace, machine=machine or this_machine())
    return spec_diff.compare(*pair)


def lock(model: str | Path, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None) -> Lockfile:
    """Find the exact packages for the model; `Lockfile.to_text()` is what is written down."""
    return stages.make_lock(model, choices, machine=machine or this_machine())


def render(
    model: str | Path, output: str | Path, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None
) -> None:
    """Write the Dockerfile and its build context to the new directory `output`."""
    stages.render(model, choices, Path(output), machine=machine or this_machine())


def build(model: str | Path, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None) -> BuildReport:
    """Build an image that serves the model, try it, and name it."""
    return stages.build(model, choices, machine=machine or this_machine())


def build_all(given: str, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None) -> FleetReport:
    """Build all models that a file lists or `models:/…` names; each one's outcome says what became of it."""
    machine = machine or this_machine()
    return fleet.build(fleet.members(given, machine=machine), choices, machine=machine)


def run(
    image: str, *, port: int = 8080, engine: EngineName = "auto", machine: Machine | None = None
) -> AbstractContextManager[Running]:
    """Serve a built image on 127.0.0.1:`port` while the `with` block lasts."""
    return stages.run(image, engine=engine, port=port, machine=machine or this_machine())


def serve(
    model: str | Path,
    choices: Choices = _NO_CHOICES,
    *,
    port: int = 8080,
    workers: int = 1,
    machine: Machine | None = None,
) -> AbstractContextManager[Running]:
    """Serve a model on 127.0.0.1:`port` in its locked environment, without an image, while the `with` block lasts."""
    return local_serving.serve(model, choices, port=port, workers=workers, machine=machine or this_machine())


def predict(
    given: str,
    wanted: Batch,
    choices: Choices = _NO_CHOICES,
    *,
    engine: EngineName = "auto",
    machine: Machine | None = None,
) -> BatchReport:
    """Predict for all rows of the inputs, by a model on this machine or by the image of that name."""
    return batch.predict(given, wanted, choices, engine=engine, machine=machine or this_machine())


def predict_on_ray(
    model: str,
    wanted: Batch,
    choices: Choices = _NO_CHOICES,
    *,
    address: str,
    shards: int,
    machine: Machine | None = None,
) -> ClusterReport:
    """Predict in so many shards on a Ray cluster, whose nodes see the model and the files where they are here."""
    machine = machine or this_machine()
    return ray_cluster.predict(model, wanted, choices, address=address, shards=shards, machine=machine)


def reproduce(
    model: str | Path, wish: Wish, choices: Choices = _NO_CHOICES, *, machine: Machine | None = None
) -> Reproduction:
    """Make the model's environment on this machine, exactly as locked: `reproduce(model, Wish(prefix=…))`."""
    return reproduction.reproduce(model, wish, choices, machine=machine or this_machine())


def verify(target: str | Path, *, lock: Path | None = None, machine: Machine | None = None) -> Verification:
    """Compare an environment directory, or the environment in an image, with its lock."""
    machine = machine or this_machine()
    if Path(target).is_dir():
        return verification.verify(Path(target), lock, machine=machine)
    return verification.verify_image(str(target), lock, machine=machine)


def audit_report(
    target: str | Path, *, lock: Path | None = None, workspace: Workspace | None = None, machine: Machine | None = None
) -> Report:
    """Return what is wrong with a model, a lock, an environment directory or an image, by the workspace's policy."""
    # Slow to import, and the other verbs need none of it.
    from envbuilder.audit import audited, report  # noqa: PLC0415
    from envbuilder.policy import Policy  # noqa: PLC0415
    from envbuilder.version import __version__  # noqa: PLC0415

    machine = machine or this_machine(workspace=workspace)
    subject = audited.read(str(target), lock=lock, choices=Choices(workspace=workspace), machine=machine)
    rules = workspace.says.policy if workspace is not None else Policy()
    today = datetime.now(tz=timezone.utc).date()
    return report.make(subject, rules, today=today, tool_version=__version__, machine=machine)


def doctor(*, machine: Machine | None = None) -> tuple[Finding, ...]:
    """Return what this machine can do, and the fix for what it cannot."""
    machine = machine or this_machine()
    engines = [(name, engine_choice.engine_module(name).available(machine)) for name in ENGINE_NAMES]
    return diagnosis.diagnose(machine, engines)
