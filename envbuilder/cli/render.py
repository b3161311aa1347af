"""`envbuilder render`: the Dockerfile and its build context, to read or to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envbuilder import disk, stages
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
from envbuilder.errors import InvalidFileError, Source
from envbuilder.image_reference import ImageReference
from envbuilder.kubernetes_job import KubernetesJob

_JOB = "Write a Kubernetes Job of so many shards instead, that predicts with the image."


@verb("render")
@model_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="What does not exist yet: a directory, or a file.",
)
@click.option("--lock", type=click.Path(path_type=Path), metavar="FILE", help="Use this lock instead of finding one.")
@python_option
@base_option
@platform_option
@cuda_option
@allow_source_option
@engine_option
@environment_option
@repairs_option
@click.option("--job", "shards", type=click.IntRange(1, 100_000), metavar="SHARDS", help=_JOB)
@click.option("--input", "inputs", multiple=True, metavar="CLAIM:PATH", help="With --job: where the inputs are.")
@click.option("--predictions", metavar="CLAIM:PATH", help="With --job: the .csv, .parquet or .jsonl file to write.")
@click.option("--name", help="With --job: its name; default: the image's.")
@click.option("--parallelism", type=click.IntRange(1), help="With --job: pods at once; default: all.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 512), help="With --job: for each pod.")
@click.option("--memory", default="2Gi", show_default=True, help="With --job: for each pod.")
@click.option(
    "--error-threshold", default=0, show_default=True, type=click.IntRange(-1), help="With --job: rows that may fail."
)
def command(  # noqa: PLR0913 - one for each option
    invocation: Invocation,
    model: str,
    output: Path,
    *,
    shards: int | None,
    inputs: tuple[str, ...],
    predictions: str | None,
    name: str | None,
    parallelism: int | None,
    workers: int,
    memory: str,
    error_threshold: int,
    **choices: Any,  # noqa: ANN401
) -> None:
    """Write the build context of MODEL, with its Dockerfile, to a new directory.

    With --job, MODEL is the name of an image, and OUTPUT a file: the Kubernetes Job that predicts with it.
    """
    if shards is not None:
        image = ImageReference.parse(model)
        job = KubernetesJob.of(
            str(image),
            inputs=inputs,
            output=predictions or "",
            shards=shards,
            name=name or image.repository.rpartition("/")[2].replace("_", "-").replace(".", "-"),
            parallelism=parallelism,
            workers=workers,
            memory=memory,
            error_threshold=error_threshold,
        )
        if image.digest is None:
            invocation.reporter.warning(
                f"`{image}` names no digest: pods may run other images when the name moves; `build --push` prints it"
            )
        _write(output, job.to_text())
        invocation.data({"file": str(output), "name": job.name, "shards": job.shards}, str(output))
        return
    if inputs or predictions or name or parallelism:
        raise InvalidFileError(
            "`--input`, `--predictions`, `--name` and `--parallelism` are of a Job",
            where=Source(file="render"),
            fix="add `--job SHARDS`, or leave them out",
        )
    stages.render(model, Choices(**choices, workspace=invocation.workspace), output, machine=invocation.machine)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if not path.is_dir())
    invocation.data({"directory": str(output), "files": files}, str(output))


def _write(file: Path, text: str) -> None:
    if file.exists():
        raise InvalidFileError(
            "the output exists already", where=Source(file=str(file)), fix="remove it, or choose another name"
        )
    with disk.replaced_file(file) as stream:
        stream.write(text.encode())
