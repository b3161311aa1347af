"""`envbuilder resolve`: what a model asks for, and where each line comes from."""

from __future__ import annotations

from typing import Any

from envbuilder import model_environment, repair
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, environment_option, model_argument, python_option, repairs_option, verb
from envbuilder.cli.tables import print_spec


@verb("resolve")
@model_argument
@environment_option
@python_option
@repairs_option
def command(invocation: Invocation, model: str, **arguments: Any) -> None:  # noqa: ANN401
    """Print what MODEL (a directory or a URI) asks for, as YAML, with the place of each value and what it replaced."""
    choices = Choices(**arguments, workspace=invocation.workspace)
    spec = model_environment.resolve(model, choices, machine=invocation.machine)
    repairs = [{"name": one.name, "reason": one.reason} for one in repair.repairs_of(spec)]
    invocation.data({**spec.to_dict(), "repairs": repairs}, spec.to_text())
    if not invocation.quiet:
        print_spec(invocation.reporter.console, spec)
        for one in repairs:
            invocation.say(f"repaired by the rule `{one['name']}`: {one['reason']}")
