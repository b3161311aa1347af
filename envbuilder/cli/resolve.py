"""`envbuilder resolve`: what a model asks for, and where each line comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder import stages
from envbuilder.cli.common import Invocation, model_argument, python_option, verb
from envbuilder.cli.console import print_overridden

if TYPE_CHECKING:
    from pathlib import Path


@verb("resolve")
@model_argument
@python_option
def command(invocation: Invocation, model: Path, python: str | None) -> None:
    """Print what the environment of MODEL asks for, as YAML, with the place of each value."""
    spec = stages.resolve(model, python=python)
    invocation.data(spec.to_dict(), spec.to_text())
    if not invocation.quiet:
        print_overridden(invocation.reporter.console, spec.overridden)
