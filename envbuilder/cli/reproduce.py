"""`envbuilder reproduce`: the locked environment on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder import reproduction
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, engine_option, environment_option, python_option, repairs_option, verb
from envbuilder.errors import InvalidFileError, Source
from envbuilder.reproduction import Wish

if TYPE_CHECKING:
    from envbuilder.choices import EngineName
    from envbuilder.reproduction import Reproduction


@verb("reproduce")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--from-image", metavar="IMAGE", help="Take the lock that is in this image, instead of a MODEL.")
@click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the environment is to be: a directory that is not there yet, or that this verb made.",
)
@click.option("--lock", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Use this lock.")
@click.option("--kernel", metavar="NAME", help="Register a Jupyter kernel of that name; needs ipykernel in the lock.")
@click.option("--replace", is_flag=True, help="Put it in the place of the one that was made there before.")
@engine_option
@python_option
@environment_option
@repairs_option
def command(  # noqa: PLR0913 - one argument for each option
    invocation: Invocation,
    *,
    model: str | None,
    from_image: str | None,
    engine: EngineName | None,
    prefix: Path,
    lock: Path | None,
    kernel: str | None,
    replace: bool,
    python: str | None,
    environment: str | None,
    repairs: bool,
) -> None:
    """Make the environment of MODEL in a directory, exactly as locked; prints the directory."""
    if (model is None) is (from_image is None):
        raise InvalidFileError(
            "expected a MODEL, or an image",
            where=Source(file="reproduce"),
            fix="name one of them: MODEL or `--from-image`",
        )
    wish = Wish(prefix=prefix, kernel=kernel, replace=replace)
    if from_image is not None:
        if lock is not None or python is not None or environment is not None:
            raise InvalidFileError(
                "an image brings its own lock",
                where=Source(file="--from-image"),
                fix="leave `--lock`, `--python` and `--environment` out, or name the MODEL",
            )
        tell(
            invocation,
            reproduction.reproduce_image(from_image, wish, engine=engine or "auto", machine=invocation.machine),
        )
        return
    choices = Choices(
        lock=lock, python=python, environment=environment, repairs=repairs, workspace=invocation.workspace
    )
    tell(invocation, reproduction.reproduce(str(model), wish, choices, machine=invocation.machine))


def tell(invocation: Invocation, made: Reproduction) -> None:
    """Print the directory, and how to enter it."""
    if made.existed:
        invocation.say("the same environment was there, whole")
    for one in made.activation:
        invocation.say(f"{one.language + ':':<5} {one.command}")
    if made.kernel is not None:
        invocation.say(f"kernel: {made.kernel}")
    invocation.data(made.to_dict(), str(made.prefix))
