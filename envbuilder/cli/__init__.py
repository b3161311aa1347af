"""The command line: the only place that prints and exits."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from envbuilder.version import __version__

_VERBS: Final = {
    "resolve": "What a model asks for, and where each line comes from.",
    "diff": "What two models, or a model with and without an environment, ask for differently.",
    "environment": "List, show or register the environments of the workspace.",
    "lock": "Find the exact packages and write them down.",
    "render": "Write the Dockerfile and its build context.",
    "build": "Build an image that serves the model, try it, name it.",
    "run": "Serve a built image on this machine.",
    "serve": "Serve a model on this machine in its locked environment, without an image.",
    "predict": "Write a prediction for each row of files.",
    "reproduce": "Make the environment of a model on this machine, exactly as locked.",
    "verify": "Compare an environment with its lock: every package, file and link.",
    "audit": "What is in it, whether it may be shipped, and its bill of materials.",
    "cache": "See, shrink or check the caches.",
    "doctor": "What this machine can do, and the fix for what it cannot.",
}


class _Verbs(click.Group):
    """Imports a verb's module when it is called: some take longer to import than others to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        command = import_module(f"envbuilder.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            message = f"`{cmd_name}` is not a command"
            raise TypeError(message)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs, in the order in which they follow each other"):
            formatter.write_dl(list(_VERBS.items()))


@click.command(cls=_Verbs)
@click.version_option(__version__, prog_name="envbuilder")
def main() -> None:
    """Turn a logged MLflow model into a locked, reproducible image that serves its predict."""
