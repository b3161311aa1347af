"""`envbuilder verify`: tell whether an environment is exactly what was locked."""

from __future__ import annotations

from pathlib import Path

import click

from envbuilder import verification
from envbuilder.cli.common import Invocation, verb
from envbuilder.cli.tables import print_deviations


@verb("verify")
@click.argument("prefix", metavar="PREFIX", type=click.Path(path_type=Path))
@click.option(
    "--lock",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Compare with this lock; default: the one that the environment keeps, which others may have changed.",
)
def command(invocation: Invocation, prefix: Path, lock: Path | None) -> int:
    """Compare all files of an environment with the locked archives; exits with 1 where they differ."""
    found = verification.verify(prefix, lock, machine=invocation.machine)
    if invocation.as_json:
        invocation.data(found.to_dict(), "")
    elif found.deviations:
        print_deviations(invocation.reporter.console, found.deviations)
    else:
        invocation.say(f"as locked: {found.packages} packages, {found.files} files, {found.lock_digest}")
    return 1 if found.deviations else 0
