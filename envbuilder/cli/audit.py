"""`envbuilder audit`: tell what is in a model's environment, and write it down as a bill of materials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder import disk
from envbuilder.audit import audited, cyclonedx, spdx
from envbuilder.choices import Choices
from envbuilder.cli.common import Invocation, engine_option, verb

if TYPE_CHECKING:
    from envbuilder.choices import EngineName


@verb("audit")
@click.argument("target", metavar="MODEL|LOCK|PREFIX|IMAGE")
@click.option(
    "--lock",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read what is locked from this file; default: the lock that the target has.",
)
@click.option(
    "--sbom",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the bill of materials there: SPDX 2.3 where the name ends in `.spdx.json`, else CycloneDX 1.6.",
)
@engine_option
def command(
    invocation: Invocation, target: str, lock: Path | None, sbom: Path | None, engine: EngineName | None
) -> int:
    """Tell what is in a model, a lock, an environment or an image."""
    machine = invocation.machine
    choices = Choices(workspace=invocation.workspace)
    subject = audited.read(target, lock=lock, engine=engine or "auto", choices=choices, machine=machine)
    if sbom is not None:
        bill = subject.bill(machine)
        writer = spdx if sbom.name.endswith(".spdx.json") else cyclonedx
        disk.write_file(sbom, writer.to_bytes(bill))
        for one in bill.unlicensed:
            invocation.reporter.warning(f"nobody knows the licence of {one.name} {one.version}")
    return 0
