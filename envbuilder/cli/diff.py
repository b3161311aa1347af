"""`envbuilder diff`: what two models, or a model with and without an environment, ask for differently."""

from __future__ import annotations

import click

from envbuilder import model_environment, spec_diff
from envbuilder.cli.common import Invocation, verb
from envbuilder.cli.tables import print_differences


@verb("diff")
@click.argument("a", metavar="MODEL")
@click.argument("b", metavar="MODEL|ENVIRONMENT")
def command(invocation: Invocation, a: str, b: str) -> int:
    """Compare two models, or MODEL with what ENVIRONMENT makes of it; exits with 1 when they differ."""
    first, second = model_environment.resolve_pair(a, b, workspace=invocation.workspace, machine=invocation.machine)
    found = spec_diff.compare(first, second)
    text = "\n".join(one.text for one in found) or "no difference"
    invocation.data(
        {
            "digests": [first.digest, second.digest],
            "differences": [one.to_dict() for one in found],
        },
        text,
    )
    if found and not invocation.quiet:
        print_differences(invocation.reporter.console, found)
    return 1 if found else 0
