"""`envbuilder build`: from a model to a tried and named image."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from envbuilder import fleet, stages
from envbuilder.choices import Choices
from envbuilder.cli.common import (
    Invocation,
    allow_source_option,
    base_option,
    cuda_option,
    engine_option,
    environment_option,
    platform_option,
    python_option,
    repairs_option,
    verb,
)
from envbuilder.cli.console import print_build
from envbuilder.cli.fleet_console import FleetConsole


@verb("build")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option(
    "--all",
    "fleet_of",
    metavar="FILE|models:/…",
    help="Instead of MODEL: all models that FILE lists, or that a registry has: `models:/`, `models:/NAME*@ALIAS`.",
)
@click.option(
    "-t",
    "--tag",
    metavar="NAME:TAG",
    help="Default: the name of the model's folder, `latest`. With --all, `{name}` stands for each model's name.",
)
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
def command(invocation: Invocation, model: str | None, fleet_of: str | None, **choices: Any) -> int:  # noqa: ANN401
    """Build an image that serves MODEL, try it, and name it; prints REFERENCE@DIGEST, of the registry when pushed."""
    if (model is None) == (fleet_of is None):
        raise click.UsageError("give MODEL, or `--all` and what lists the models")
    chosen = Choices(**choices, workspace=invocation.workspace)
    if model is not None:
        report = stages.build(model, chosen, machine=invocation.machine)
        if not invocation.quiet:
            print_build(invocation.reporter.console, report)
        invocation.data(report.to_dict(), f"{report.references[0]}@{report.digest}")
        return 0
    members = fleet.members(fleet_of or "", machine=invocation.machine)
    with closing(FleetConsole(invocation)) as console:
        built = fleet.build(members, chosen, machine=invocation.machine, watch=console)
    console.print_errors(built)
    lines = (f"{one.report.references[0]}@{one.report.digest}" for one in built.outcomes if one.report is not None)
    invocation.data(built.to_dict(), "\n".join(lines))
    return built.exit_code
