"""`envbuilder render`: the Dockerfile and its build context, to read or to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envbuilder import stages
from envbuilder.choices import Choices
from envbuilder.cli.common import (
    Invocation,
    allow_source_option,
    base_option,
    cuda_option,
    engine_option,
    environment_option,
    model_argument,
    platform_option,
    python_option,
    repairs_option,
    verb,
)


@verb("render")
@model_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A directory that does not exist.")
@click.option("--lock", type=click.Path(path_type=Path), metavar="FILE", help="Use this lock instead of finding one.")
@python_option
@base_option
@platform_option
@cuda_option
@allow_source_option
@engine_option
@environment_option
@repairs_option
def command(invocation: Invocation, model: str, output: Path, **choices: Any) -> None:  # noqa: ANN401
    """Write the build context of MODEL, with its Dockerfile, to a new directory."""
    stages.render(model, Choices(**choices, workspace=invocation.workspace), output, machine=invocation.machine)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if not path.is_dir())
    invocation.data({"directory": str(output), "files": files}, str(output))
