"""What all verbs share: their common options, where results go, and how errors become exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from envbuilder import disk
from envbuilder.choices import ENGINE_NAMES
from envbuilder.cli.console import ConsoleReporter
from envbuilder.errors import EnvBuilderError
from envbuilder.machine import Machine
from envbuilder.secret import redact
from envbuilder.settings import Settings, cache_dir
from envbuilder.version import __version__
from envbuilder.workspace import Workspace
from envbuilder.workspace_yaml import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from rich.console import Console

BUG: Final = 70
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One call of a verb: the machine, and how results are printed."""

    machine: Machine
    reporter: ConsoleReporter
    as_json: bool
    quiet: bool
    workspace: Workspace | None = None

    def within(self, workspace: Workspace | None, *, offline: bool) -> Invocation:
        """Return the same call with the machine's settings; a workspace's defaults hold where no variable is set."""
        variables = workspace.variables if workspace is not None else {}
        settings = Settings.from_environ({**variables, **os.environ}, offline=offline)
        return replace(self, machine=replace(self.machine, settings=settings), workspace=workspace)

    def data(self, value: Any, text: str) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Print the result on standard output: as JSON when asked for, else as text."""
        click.echo(json.dumps(value, indent=2, ensure_ascii=False) if self.as_json else text.rstrip("\n"))

    def say(self, text: str) -> None:
        """Tell people something on standard error."""
        if not self.quiet:
            self.reporter.console.print(text, markup=False)


def verb(name: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a click command of a function that takes an Invocation first and returns an exit code (None is 0)."""

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @wraps(function)
        def called(
            *,
            as_json: bool,
            quiet: bool,
            verbose: bool,
            offline: bool,
            workspace: Path | None,
            **arguments: Any,  # noqa: ANN401
        ) -> NoReturn:
            signal.signal(signal.SIGTERM, _interrupt)
            reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
            # Only what is needed to tell an error: the settings can be what is wrong.
            caches = Settings(cache_dir=cache_dir(os.environ))
            plain = Invocation(
                machine=Machine(settings=caches, reporter=reporter), reporter=reporter, as_json=as_json, quiet=quiet
            )

            def call() -> int | None:
                return function(plain.within(_workspace(workspace), offline=offline), **arguments)

            sys.exit(_guarded(call, plain))

        return click.command(name)(_common(called))

    return decorate


def _workspace(given: Path | None) -> Workspace | None:
    """Read the workspace that is named, else the one that this folder is."""
    if given is not None:
        return Workspace.read(given)
    return Workspace.read(Path()) if Path(FILE).is_file() else None


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--workspace",
            type=click.Path(path_type=Path),
            envvar="ENVBUILDER_WORKSPACE",
            metavar="DIR",
            help=f"The workspace folder; default: this one, if it holds {FILE}.",
        ),
        click.option("--offline", is_flag=True, help="Use only what is in the caches."),
        click.option("-v", "--verbose", is_flag=True, help="Show what the programs print."),
        click.option("-q", "--quiet", is_flag=True, help="Show only errors."),
        click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON."),
    ):
        function = option(function)
    return function


engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINE_NAMES]),
    help="What makes images; `auto` (the default) is Docker when it answers, else the embedded engine.",
)
base_option = click.option(
    "--base",
    metavar="BASE",
    help="Base image: an image of a registry, `debian:SUITE` (put together from packages), an OCI layout "
    "directory or a rootfs tar. Default: the official slim image of the model's Python.",
)
python_option = click.option("--python", metavar="VERSION", help="Use this Python instead of the model's.")
platform_option = click.option(
    "--platform", metavar="OS/ARCH", help="`linux/amd64` or `linux/arm64`; default: this machine's."
)
allow_source_option = click.option(
    "--allow-source",
    multiple=True,
    metavar="PKG",
    help="Build this package from source where nobody offers a wheel: in the base image, without network; repeatable.",
)
cuda_option = click.option(
    "--cuda", metavar="VERSION", help="The newest CUDA that the GPU's driver knows, e.g. 12.4; default: no GPU."
)
environment_option = click.option(
    "--environment",
    metavar="REF",
    help="Put this environment over the model's own: `NAME:VERSION`, `NAME@latest`, a file, or YAML in braces.",
)
repairs_option = click.option(
    "--repairs/--no-repairs", default=True, help="Mend known breakages of old pins, and say so (the default)."
)
model_argument = click.argument("model", metavar="MODEL")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _guarded(call: Callable[[], int | None], invocation: Invocation) -> int:
    try:
        with disk.full_disk_named(invocation.machine.settings.cache_dir):
            return call() or 0
    except EnvBuilderError as error:
        invocation.reporter.close()
        _print_error(error, invocation)
        return error.exit_code
    except KeyboardInterrupt:
        invocation.reporter.close()
        invocation.reporter.console.print("interrupted; what is complete stays in the caches", markup=False)
        return INTERRUPTED
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - anything else is our bug, and says so
        invocation.reporter.close()
        print_bug(invocation, error)
        return BUG


def _print_error(error: EnvBuilderError, invocation: Invocation) -> None:
    if invocation.as_json:
        click.echo(json.dumps({"error": error.to_dict()}))
    print_problems(invocation.reporter.console, error)


def print_problems(console: Console, error: EnvBuilderError) -> None:
    """Tell people what is wrong, where, and how to fix it."""
    for problem in error.problems:
        console.print(f"error: {problem.what}", markup=False)
        if problem.where is not None:
            console.print(f"  at {problem.where}", markup=False)
    fixes = dict.fromkeys(problem.fix for problem in error.problems if problem.fix)
    for fix in fixes:
        console.print(f"\nhint: {fix}", markup=False)


def print_bug(invocation: Invocation, error: Exception) -> None:
    """Tell people that it is our fault, and keep a report of it."""
    trace = "\n".join(redact(line) for line in "".join(traceback.format_exception(error)).splitlines())
    stamp = datetime.now(tz=timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    report = invocation.machine.logs / f"bug-{stamp}.txt"
    shown = [redact(argument) for argument in sys.argv]
    try:
        disk.write_file(report, f"envbuilder {__version__}\n{shown}\n{sys.version}\n\n{trace}".encode())
        place = f"; the report is {report}"
    except (OSError, EnvBuilderError):
        place = f"\n{trace}"
    last = trace.splitlines()[-1]
    invocation.reporter.console.print(f"error: this is a bug of envbuilder ({last}){place}", markup=False)
