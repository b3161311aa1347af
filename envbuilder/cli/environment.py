"""`envbuilder environment`: the environments that are registered in the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder.cli.common import Invocation, verb
from envbuilder.cli.tables import print_environments
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from envbuilder.environment_catalog import EnvironmentCatalog


@click.group("environment")
def command() -> None:
    """List, show or register the environments of the workspace."""


@verb("list")
def list_environments(invocation: Invocation) -> None:
    """List the registered environments."""
    catalog = _catalog(invocation)
    registered = [(one, catalog.load(one)) for one in catalog.registered()]
    rows: list[dict[str, object]] = [
        {
            "reference": f"{one.name}:{one.version}",
            "name": one.name,
            "version": one.version,
            "kind": environment.kind,
            "digest": environment.digest,
            "labels": list(catalog.labels(one)),
            "description": environment.description,
            "file": str(one.file),
        }
        for one, environment in registered
    ]
    invocation.data(rows, "\n".join(str(row["reference"]) for row in rows))
    if not invocation.quiet:
        print_environments(invocation.reporter.console, rows)


@verb("show")
@click.argument("reference", metavar="REF")
def show(invocation: Invocation, reference: str) -> None:
    """Show the environment that REF names, as YAML."""
    found = _catalog(invocation).find(EnvironmentReference.parse(reference, source=Source(file="REF")))
    invocation.data(
        {"reference": found.reference, "kind": found.kind, "digest": found.digest, **found.to_plain()},
        f"# {found.digest}\n{found.to_text()}",
    )


@verb("register")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Default: the name in FILE.")
@click.option("--version", metavar="VERSION", help="Default: the version in FILE, else the next whole number.")
def register(invocation: Invocation, file: Path, name: str | None, version: str | None) -> None:
    """Register the environment of FILE.

    Prints NAME:VERSION. The same content again changes nothing; other content under the same version is refused.
    """
    made = _catalog(invocation).register(file, name=name, version=version)
    reference = made.environment.reference
    invocation.data(
        {
            "reference": reference,
            "digest": made.environment.digest,
            "file": str(made.file),
            "existed": made.existed,
        },
        reference,
    )
    invocation.say(f"{'was registered already' if made.existed else 'registered'}: {made.file}")


def _catalog(invocation: Invocation) -> EnvironmentCatalog:
    if invocation.workspace is None:
        raise InvalidFileError(
            "no workspace is given",
            where=Source(file="--workspace"),
            fix="pass `--workspace DIR`, set ENVBUILDER_WORKSPACE, or put an envbuilder.yaml into this folder",
        )
    return invocation.workspace.catalog


for _member in (list_environments, show, register):
    command.add_command(_member)
