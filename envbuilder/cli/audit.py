"""`envbuilder audit`: tell what is in a model's environment, and whether it may be shipped."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from envbuilder import disk
from envbuilder.audit import (
    audited,
    cyclonedx,
    html_report,
    index_facts,
    markdown,
    report,
    sarif,
    spdx,
    vulnerability_database,
    vulnerability_service,
)
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, engine_option, verb
from envbuilder.cli.tables import print_findings
from envbuilder.errors import InvalidFileError, Source
from envbuilder.policy import Policy
from envbuilder.version import __version__

if TYPE_CHECKING:
    from envbuilder.audit.report import Report
    from envbuilder.choices import EngineName

_FORMATS: Final = ("table", "json", "sarif", "markdown", "html")


@verb("audit")
@click.argument("target", metavar="MODEL|LOCK|PREFIX|IMAGE", required=False)
@click.option(
    "--lock",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read what is locked from this file; default: the lock that the target has.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="table",
    help="How the report is written to standard output; the table goes to standard error.",
)
@click.option(
    "--sbom",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the bill of materials there: SPDX 2.3 where the name ends in `.spdx.json`, else CycloneDX 1.6.",
)
@click.option(
    "--update-database",
    metavar="URL|FILE",
    help="First take over a database of vulnerabilities: an `all.zip` of an ecosystem, as OSV publishes it.",
)
@click.option(
    "--ask",
    metavar="URL",
    help="Also ask this service, which speaks OSV's API, e.g. https://api.osv.dev; it learns the packages' names.",
)
@click.option(
    "--ask-index",
    is_flag=True,
    help="Also ask the package index which wheels were taken back, and how old they are.",
)
@engine_option
def command(  # noqa: PLR0913 - the options of a verb
    invocation: Invocation,
    *,
    target: str | None,
    lock: Path | None,
    form: str,
    sbom: Path | None,
    update_database: str | None,
    ask: str | None,
    ask_index: bool,
    engine: EngineName | None,
) -> int:
    """Tell what is wrong with a model, a lock, an environment or an image; exits with 1 where the policy is broken."""
    machine = invocation.machine
    if update_database is not None:
        updated = vulnerability_database.update(update_database, machine)
        skipped = f", {updated.skipped} skipped" if updated.skipped else ""
        invocation.say(f"{updated.entries} entries of {', '.join(updated.ecosystems)}{skipped}")
    if target is None:
        if update_database is None:
            raise InvalidFileError(
                "nothing is named that is to be audited",
                where=Source(file="MODEL"),
                fix="name a model, a lock, an environment directory or an image",
            )
        return 0
    choices = Choices(workspace=invocation.workspace)
    subject = audited.read(target, lock=lock, engine=engine or "auto", choices=choices, machine=machine)
    if sbom is not None:
        writer = spdx if sbom.name.endswith(".spdx.json") else cyclonedx
        disk.write_file(sbom, writer.to_bytes(subject.bill(machine)))
    today = datetime.now(tz=timezone.utc).date()
    rules = invocation.workspace.says.policy if invocation.workspace is not None else Policy()
    service = vulnerability_service.Service(ask, machine) if ask is not None else None
    index = index_facts.read(subject.lock, machine) if ask_index and subject.lock is not None else None
    made = report.make(
        subject, rules, today=today, tool_version=__version__, machine=machine, service=service, index=index
    )
    _show(invocation, made, "json" if invocation.as_json else form)
    return 1 if made.is_broken else 0


def _show(invocation: Invocation, made: Report, form: str) -> None:
    match form:
        case "json":
            click.echo(json.dumps(made.to_dict(), indent=2, ensure_ascii=False))
        case "sarif":
            click.echo(json.dumps(sarif.to_dict(made), indent=2, ensure_ascii=False))
        case "markdown":
            click.echo(markdown.to_text(made), nl=False)
        case "html":
            click.echo(html_report.to_text(made), nl=False)
        case _:
            if not invocation.quiet:
                print_findings(invocation.reporter.console, made.findings)
            if not made.databases:
                invocation.reporter.warning(
                    "vulnerabilities were not looked up: `--update-database URL|FILE` brings a database here"
                )
            counts = ", ".join(f"{count} of severity {severity}" for severity, count in made.counts.items())
            invocation.say(f"{counts}, {len(made.ignored)} ignored")
