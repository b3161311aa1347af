"""`envbuilder serve`: a model on this machine, without an image, until interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn

import click

from envbuilder import local_serving
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, environment_option, python_option, repairs_option, verb
from envbuilder.errors import ServingFailedError, Source

_SETTINGS: Final = (
    "ENVBUILDER_MAX_",
    "ENVBUILDER_TOKEN",
    "ENVBUILDER_LOG_FORMAT",
    "ENVBUILDER_ROW_WISE",
    "ENVBUILDER_BATCH_ROWS",
    "ENVBUILDER_STACK_TRACES",
    "ENVBUILDER_STRICT_MLFLOW",
    "MLFLOW_SCORING_SERVER_",
    "SERVING_MODEL_CONFIG",
    "SERVICE_NAME",
    "OMP_",
)
"""What the variables begin with that the server reads."""


@verb("serve")
@click.argument("model")
@click.option("-p", "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="On 127.0.0.1.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 512), help="Processes with the model.")
@click.option("--lock", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Use this lock.")
@python_option
@environment_option
@repairs_option
def command(
    invocation: Invocation,
    model: str,
    *,
    port: int,
    workers: int,
    lock: Path | None,
    python: str | None,
    environment: str | None,
    repairs: bool,
) -> NoReturn:
    """Serve MODEL on 127.0.0.1 in its locked environment, without an image, until it is interrupted.

    The model's code runs as you: nothing keeps it from your files. `envbuilder build` and `run` do.
    """
    choices = Choices(
        lock=lock, python=python, environment=environment, repairs=repairs, workspace=invocation.workspace
    )
    settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
    serving = local_serving.serve(
        model, choices, port=port, workers=workers, variables=settings, machine=invocation.machine
    )
    with serving as running:
        invocation.say(f"serving at {running.url} (POST {running.url}/invocations, or see {running.url}/docs)")
        invocation.data({"url": running.url}, running.url)
        code = running.wait()
    raise ServingFailedError(
        f"the server ended by itself with exit code {code}", where=Source(file=model), fix="read its log above"
    )
