"""From a model, as the user names it, to the environment it gets: fetched, read, overridden and repaired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import model_uri, repair, resolution
from envbuilder.choices import Choices
from envbuilder.errors import Source
from envbuilder.model import Model
from envbuilder.model_uri import ModelUri
from envbuilder.reporter import Timings
from envbuilder.workspace import Workspace

if TYPE_CHECKING:
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.machine import Machine
    from envbuilder.override import Override


def read_model(model: str | Path, *, machine: Machine) -> Model:
    """Read a model directory, or fetch the model that a URI names and read that."""
    if isinstance(model, str) and model_uri.is_uri(model):
        from envbuilder import model_store  # noqa: PLC0415 - most models are on disk

        uri = ModelUri.parse(model, source=Source(file="MODEL"))
        with Timings(machine.reporter).stage("fetch", str(uri)) as note:
            fetched = model_store.fetch(uri, machine=machine)
            note.text = str(fetched.location)
        return Model.read(fetched.directory, name=_model_name(uri), shown_as=str(uri))
    return Model.read(Path(model))


def _model_name(uri: ModelUri) -> str:
    """Return the registered name, or the last part of the path of what is not registered."""
    if uri.kind in {"version", "alias", "stage", "latest"}:
        return uri.name
    return (uri.path or uri.location).rstrip("/").rpartition("/")[2] or uri.name


def resolve(model: str | Path, choices: Choices, *, machine: Machine) -> EnvironmentSpec:
    """Read the model and say what environment it gets: its own, the workspace's, or the one chosen for this build."""
    return resolve_model(read_model(model, machine=machine), choices)


def resolve_model(model: Model, choices: Choices) -> EnvironmentSpec:
    """Say what environment a model gets that is read already."""
    workspace = choices.workspace or Workspace(directory=Path(), says=choices.says)
    override = workspace.override(model, choices.environment, source=Source(file="--environment"))
    return _decided(model, override, choices)


def _decided(model: Model, override: Override | None, choices: Choices) -> EnvironmentSpec:
    says = choices.says
    spec = resolution.resolve(model, override, allowed_indexes=says.allowed_indexes)
    if choices.python is not None:
        spec = resolution.with_python(spec, choices.python, source=Source(file="--python"))
    if not choices.repairs:
        return spec
    return repair.repaired(spec, model.mlmodel, switched_off=frozenset(one.value for one in says.repairs_off))


def tell_repairs(spec: EnvironmentSpec, machine: Machine) -> None:
    """Warn of every rule that was applied."""
    for one in repair.repairs_of(spec):
        machine.reporter.warning(f"repaired by the rule `{one.name}`: {one.reason}")


def resolve_pair(
    first: str | Path, second: str, *, workspace: Workspace | None, machine: Machine
) -> tuple[EnvironmentSpec, EnvironmentSpec]:
    """Return what two models ask for; where `second` is an environment, the first model without and with it."""
    choices = Choices(workspace=workspace)
    model = read_model(first, machine=machine)
    if model_uri.is_uri(second) or (Path(second).exists() and Path(second).suffix not in {".yaml", ".yml"}):
        return resolve_model(model, choices), resolve(second, choices, machine=machine)
    return _decided(model, None, choices), resolve_model(model, replace(choices, environment=second))
