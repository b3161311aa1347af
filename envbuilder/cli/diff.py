"""`envbuilder diff`: what differs between any two of model, lock, environment directory and image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from envbuilder import model_environment, model_uri, spec_diff
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, engine_option, verb
from envbuilder.cli.tables import print_differences
from envbuilder.prefix_record import RECORD_FILE

if TYPE_CHECKING:
    from envbuilder.choices import EngineName
    from envbuilder.workspace import Workspace

_HEAD: Final = 1 << 16
"""Bytes in which a lock says that it is one."""


@verb("diff")
@click.argument("a", metavar="MODEL|LOCK|PREFIX|IMAGE")
@click.argument("b", metavar="MODEL|ENVIRONMENT|LOCK|PREFIX|IMAGE")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json", "markdown")),
    default="text",
    help="How packages are compared on standard output; of two models, what they ask for is always text or JSON.",
)
@engine_option
def command(invocation: Invocation, a: str, b: str, form: str, engine: EngineName | None) -> int:
    """Compare what two models ask for, or MODEL with what ENVIRONMENT makes of it; else the packages of the two.

    Exits with 1 when they differ.
    """
    if _asks(a) and not _is_locked(b, invocation.workspace):
        return _compare_asked(invocation, a, b)
    return _compare_locked(invocation, a, b, "json" if invocation.as_json else form, engine or "auto")


def _asks(given: str) -> bool:
    """Tell whether a model is named."""
    path = Path(given)
    return model_uri.is_uri(given) or path.name == "MLmodel" or (path / "MLmodel").is_file()


def _is_locked(given: str, workspace: Workspace | None) -> bool:
    """Tell whether a lock, an environment directory or an image is named: what no model and no environment is.

    A plain name is an environment's where there is a workspace, else an image's.
    """
    path = Path(given)
    if (path / RECORD_FILE).is_file():
        return True
    if path.is_file():
        with path.open("rb") as stream:
            return b"custom_metadata:" in stream.read(_HEAD)
    if path.exists() or model_uri.is_uri(given) or given.startswith(("{", "azureml:")):
        return False
    return workspace is None or "/" in given


def _compare_asked(invocation: Invocation, a: str, b: str) -> int:
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


def _compare_locked(invocation: Invocation, a: str, b: str, form: str, engine: EngineName) -> int:
    from envbuilder.audit import audited, bill_diff  # noqa: PLC0415 - of use only here

    choices = Choices(workspace=invocation.workspace)
    sides = [audited.read(one, engine=engine, choices=choices, machine=invocation.machine) for one in (a, b)]
    layers = None
    images = [one.image for one in sides if one.image is not None]
    if len(images) == len(sides):
        before, after = ([(one.comment, str(one.digest)) for one in image.layers] for image in images)
        layers = bill_diff.compare_layers(before, after)
    bills = [one.bill(invocation.machine) for one in sides]
    found = bill_diff.compare(*bills, layers=layers)
    match form:
        case "json":
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        case "markdown":
            click.echo(found.to_markdown(), nl=False)
        case _:
            click.echo(found.to_text())
    return 0 if found.is_empty else 1
