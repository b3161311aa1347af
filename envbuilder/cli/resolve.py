"""`envbuilder resolve`: what a model asks for, and where each line comes from."""

from __future__ import annotations

from envbuilder import stages
from envbuilder.cli.common import Invocation, environment_option, model_argument, python_option, verb
from envbuilder.cli.tables import print_spec


@verb("resolve")
@model_argument
@environment_option
@python_option
def command(invocation: Invocation, model: str, environment: str | None, python: str | None) -> None:
    """Print what MODEL (a directory or a URI) asks for, as YAML, with the place of each value and what it replaced."""
    choices = stages.Choices(environment=environment, python=python, workspace=invocation.workspace)
    spec = stages.resolve(model, choices, machine=invocation.machine)
    invocation.data(spec.to_dict(), spec.to_text())
    if not invocation.quiet:
        print_spec(invocation.reporter.console, spec)
