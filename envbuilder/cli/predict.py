"""`envbuilder predict`: predictions for files, by a model on this machine or by a built image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder import batch, ray_cluster
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, engine_option, environment_option, python_option, repairs_option, verb
from envbuilder.errors import InvalidFileError, Source
from envbuilder.server.shard import Shard

if TYPE_CHECKING:
    from envbuilder.choices import EngineName


@verb("predict")
@click.argument("subject", metavar="MODEL|IMAGE")
@click.option(
    "-i",
    "--input",
    "inputs",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A csv, parquet or jsonl file, an image, or a folder of them; can be repeated.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .csv, .parquet or .jsonl file.")
@click.option("--shard", metavar="INDEX/COUNT", help="Predict for one of COUNT parts; INDEX counts from 0.")
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Predict on this Ray cluster in `--shard COUNT` parts: `auto`, `HOST:PORT` or `ray://HOST:PORT`. Its nodes "
    "see MODEL, the inputs and the output where they are here.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 512), help="Processes with the model.")
@click.option("--batch-rows", type=click.IntRange(1), help="Rows of a mini-batch (default: 20000).")
@click.option("--batch-files", type=click.IntRange(1), help="Images of a mini-batch (default: 10).")
@click.option(
    "--error-threshold", default=0, show_default=True, type=click.IntRange(-1), help="Rows that may fail; -1: all."
)
@click.option("--retries", type=click.IntRange(0), help="For a mini-batch whose worker ended or hung (default: 3).")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds for a mini-batch (default: 300).")
@click.option("--params", metavar="JSON", help="Parameters of the model's signature, as a JSON object.")
@click.option("--lock", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Use this lock.")
@python_option
@environment_option
@repairs_option
@engine_option
def command(  # noqa: PLR0913 - one for each option
    invocation: Invocation,
    subject: str,
    *,
    inputs: tuple[Path, ...],
    output: Path,
    shard: str | None,
    address: str | None,
    workers: int,
    batch_rows: int | None,
    batch_files: int | None,
    error_threshold: int,
    retries: int | None,
    timeout: float | None,
    params: str | None,
    lock: Path | None,
    python: str | None,
    environment: str | None,
    repairs: bool,
    engine: EngineName | None,
) -> None:
    """Write one prediction for each row of the inputs, with the row's number and the file's name.

    MODEL runs in its locked environment, as you; IMAGE in a container without a network. The same command goes on
    where a run was interrupted or killed.
    """
    wanted = batch.Batch(
        inputs=inputs,
        output=output,
        shard=batch.shard_of(shard) if address is None else Shard(),
        workers=workers,
        rows=batch_rows,
        files=batch_files,
        error_threshold=error_threshold,
        retries=retries,
        timeout=timeout,
        params=_params(params),
    )
    choices = Choices(
        lock=lock, python=python, environment=environment, repairs=repairs, workspace=invocation.workspace
    )
    if address is not None:
        together = ray_cluster.predict(
            subject, wanted, choices, address=address, shards=batch.count_of(shard), machine=invocation.machine
        )
        if together.failures:
            lists = ", ".join(str(one) for one in together.failures)
            invocation.say(f"{together.failed} rows have no prediction: see {lists}")
        invocation.data(together.to_dict(), "\n".join(str(one.output) for one in together.shards))
        return
    report = batch.predict(subject, wanted, choices, engine=engine or "auto", machine=invocation.machine)
    if report.failures is not None:
        invocation.say(f"{report.failed} rows have no prediction: see {report.failures}")
    invocation.data(report.to_dict(), str(report.output))


def _params(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidFileError(
            "is no JSON object", where=Source(file="--params"), fix="""write it like '{"temperature": 0.5}'"""
        )
    return found
