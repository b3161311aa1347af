"""`envbuilder lock`: find the exact packages and write them down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder import disk, lock_export, stages
from envbuilder.choices import Choices
from envbuilder.cli.common import (
    Invocation,
    allow_source_option,
    base_option,
    cuda_option,
    engine_option,
    environment_option,
    model_argument,
    python_option,
    repairs_option,
    verb,
)
from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from envbuilder.locked import Lock, LockedPackage


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
@click.option("--no-base", is_flag=True, help="Lock for no image in particular, e.g. to reproduce the environment.")
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="`linux/amd64`, `linux/arm64`, or a subdir of conda: `osx-arm64`, `osx-64`, `win-64`, …; repeatable. "
    "Default: those of the lock that is there, else this machine's.",
)
@cuda_option
@allow_source_option
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
    if choices.no_base and choices.base is not None:
        raise InvalidFileError("`--base` and `--no-base` exclude each other", where=Source(file="--no-base"))
    lockfile = stages.make_lock(model, choices, machine=invocation.machine)
    if is_export:
        text = lock_export.export(lockfile, chosen_format)
    else:
        text, output = lockfile.to_text(), stages.lock_output(lockfile.locks[0].packages_digest, choices)
    summary = {
        "packages_digest": lockfile.locks[0].packages_digest,
        "locks": [_summary(lock) for lock in lockfile.locks],
        "warnings": invocation.reporter.warnings,
    }
    if output is not None:
        disk.write_file(output, text.encode())
        invocation.data({**summary, "file": str(output)}, str(output))
    else:
        invocation.data(summary, text)


def _summary(lock: Lock) -> dict[str, Any]:
    base = lock.base
    return {
        "subdir": lock.subdir,
        "digest": lock.digest,
        "base": {"reference": base.reference, "digest": base.digest} if base is not None else None,
        "python_version": lock.python_version,
        "conda_packages": [
            {"name": item.name, "version": item.version, "build": item.build, "url": item.url, "sha256": item.sha256}
            for item in lock.conda_packages
        ],
        "packages": [_package(item) for item in lock.packages],
    }


def _package(item: LockedPackage) -> dict[str, Any]:
    found = {"name": item.name, "version": item.version, "url": item.url, "sha256": item.sha256}
    if item.source is None:
        return found
    return {**found, "built_from": {"url": item.source.url, "digest": item.source.digest}}
