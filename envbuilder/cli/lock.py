"""`envbuilder lock`: find the exact packages and write them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envbuilder import disk, lock_export, stages
from envbuilder.choices import Choices
from envbuilder.cli.common import (
    Invocation,
    base_option,
    engine_option,
    environment_option,
    model_argument,
    platform_option,
    python_option,
    repairs_option,
    verb,
)


@verb("lock")
@model_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What it holds already is kept as long as it fits. Default: the workspace's `locks`, else standard output.",
)
@click.option("--update", multiple=True, metavar="PKG", help="Do not keep this package as it is locked; repeatable.")
@click.option("--exclude-newer", metavar="DATE", help="Take nothing that was uploaded later, e.g. 2026-01-31.")
@click.option(
    "--format",
    "chosen_format",
    type=click.Choice(["conda-lock", *lock_export.FORMATS]),
    default="conda-lock",
    show_default=True,
    help="Write it for another tool: what is written then is no lock that envbuilder reads.",
)
@python_option
@base_option
@platform_option
@engine_option
@environment_option
@repairs_option
def command(
    invocation: Invocation,
    model: str,
    chosen_format: str,
    output: Path | None,
    **arguments: Any,  # noqa: ANN401
) -> None:
    """Lock the environment of MODEL: every package with URL and sha256, as conda-lock.yml."""
    is_export = chosen_format in lock_export.FORMATS
    choices = Choices(**arguments, output=None if is_export else output, workspace=invocation.workspace)
    lock = stages.make_lock(model, choices, machine=invocation.machine)
    if is_export:
        text = lock_export.FORMATS[chosen_format](lock)
    else:
        text, output = lock.to_text(), stages.lock_output(lock.packages_digest, choices)
    summary = {
        "digest": lock.digest,
        "packages_digest": lock.packages_digest,
        "base": {"reference": lock.base_reference, "digest": lock.base_digest},
        "python_version": lock.python_version,
        "subdir": lock.subdir,
        "conda_packages": [
            {"name": item.name, "version": item.version, "build": item.build, "url": item.url, "sha256": item.sha256}
            for item in lock.conda_packages
        ],
        "packages": [
            {"name": item.name, "version": item.version, "url": item.url, "sha256": item.sha256}
            for item in lock.packages
        ],
    }
    if output is not None:
        disk.write_file(output, text.encode())
        invocation.data({**summary, "file": str(output)}, str(output))
    else:
        invocation.data(summary, text)
