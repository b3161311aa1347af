"""`envbuilder lock`: find the exact packages and write them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envbuilder import disk, stages
from envbuilder.cli.common import (
    Invocation,
    base_option,
    engine_option,
    environment_option,
    model_argument,
    platform_option,
    python_option,
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
@python_option
@base_option
@platform_option
@engine_option
@environment_option
def command(invocation: Invocation, model: str, **arguments: Any) -> None:  # noqa: ANN401
    """Lock the environment of MODEL: every package with URL and sha256, as conda-lock.yml."""
    choices = stages.Choices(**arguments, workspace=invocation.workspace)
    lock = stages.make_lock(model, choices, machine=invocation.machine)
    output = stages.lock_output(lock.packages_digest, choices)
    text = lock.to_text()
    summary = {
        "digest": lock.digest,
        "packages_digest": lock.packages_digest,
        "base": {"reference": lock.base_reference, "digest": lock.base_digest},
        "python_version": lock.python_version,
        "subdir": lock.subdir,
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
