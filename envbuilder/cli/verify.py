"""`envbuilder verify`: tell whether an environment is exactly what was locked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder import verification
from envbuilder.cli.common import Invocation, engine_option, verb
from envbuilder.cli.tables import print_deviations

if TYPE_CHECKING:
    from envbuilder.choices import EngineName


@verb("verify")
@click.argument("target", metavar="PREFIX|IMAGE")
@click.option(
    "--lock",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Compare with this lock; default: the one that the environment keeps, which others may have changed.",
)
@engine_option
def command(invocation: Invocation, target: str, lock: Path | None, engine: EngineName | None) -> int:
    """Compare all files of an environment with the locked archives; exits with 1 where they differ.

    PREFIX is a directory that `reproduce` made; anything that is no directory is the name of an image.
    """
    machine = invocation.machine
    if Path(target).is_dir():
        found = verification.verify(Path(target), lock, machine=machine)
    else:
        found = verification.verify_image(target, lock, engine=engine or "auto", machine=machine)
    if invocation.as_json:
        invocation.data(found.to_dict(), "")
    elif found.deviations:
        print_deviations(invocation.reporter.console, found.deviations)
    else:
        invocation.say(f"as locked: {found.packages} packages, {found.files} files, {found.lock_digest}")
    return 1 if found.deviations else 0
