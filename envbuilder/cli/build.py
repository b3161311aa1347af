"""`envbuilder build`: from a model to a tried and named image."""

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
from envbuilder.cli.console import print_build


@verb("build")
@model_argument
@click.option("-t", "--tag", metavar="NAME:TAG", help="Default: the name of the model's folder, `latest`.")
@click.option("--lock", type=click.Path(path_type=Path), metavar="FILE", help="Use this lock instead of finding one.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Also write the image: an OCI layout directory, or an archive for `docker load` when it ends in .tar.",
)
@click.option("--push", is_flag=True, help="Push the image to the registry that the tag names; what is there is kept.")
@click.option("--smoke/--no-smoke", default=True, help="Try the image on its own example before it is named.")
@click.option("--rebuild", is_flag=True, help="Build even where an image with the same content exists.")
@python_option
@base_option
@platform_option
@cuda_option
@allow_source_option
@engine_option
@environment_option
@repairs_option
def command(invocation: Invocation, model: str, **choices: Any) -> None:  # noqa: ANN401
    """Build an image that serves MODEL, try it, and name it; prints REFERENCE@DIGEST, of the registry when pushed."""
    report = stages.build(model, Choices(**choices, workspace=invocation.workspace), machine=invocation.machine)
    if not invocation.quiet:
        print_build(invocation.reporter.console, report)
    invocation.data(report.to_dict(), f"{report.references[0]}@{report.digest}")
