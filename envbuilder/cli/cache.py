"""`envbuilder cache`: what the caches hold, making them smaller, and checking them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import click

from envbuilder import caches
from envbuilder.cache_entry import size_of
from envbuilder.cli.common import Invocation, verb
from envbuilder.cli.tables import print_caches

if TYPE_CHECKING:
    from envbuilder.cache_entry import CacheEntry

_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}
_BYTES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    match = re.fullmatch(r"(\d+)([hdw])", value or "")
    if value is not None and match is None:
        raise click.BadParameter(f"`{value}` is no age: write hours, days or weeks, such as `30d`")
    return float(match[1]) * _SECONDS[match[2]] if match is not None else None


def _bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)b?", value or "", re.IGNORECASE)
    if value is not None and match is None:
        raise click.BadParameter(f"`{value}` is no size: write bytes, or a number with `MB` or `GB`, such as `20GB`")
    return int(float(match[1]) * _BYTES[match[2].lower()]) if match is not None else None


@click.group("cache")
def command() -> None:
    """See, shrink or check the caches."""


@verb("size")
def size(invocation: Invocation) -> None:
    """Tell what the caches hold, by kind; prints the bytes on the disk."""
    entries = caches.read(invocation.machine)
    total = size_of(entries)
    rows = _by_kind(entries)
    if not invocation.quiet:
        print_caches(invocation.reporter.console, rows, total=total, place=str(invocation.machine.settings.cache_dir))
    invocation.data({"bytes": total, "kinds": rows}, str(total))


@verb("prune")
@click.option("--older-than", callback=_age, metavar="AGE", help="Remove what was not used for so long, e.g. `30d`.")
@click.option("--to", callback=_bytes, metavar="SIZE", help="Remove what was not used for longest until this is left.")
def prune(invocation: Invocation, older_than: float | None, to: int | None) -> None:
    """Remove what was not used for long, images too; prints the bytes that became free.

    With neither option, only what killed processes left half done. Locks stay, and whatever a running build uses:
    pruning waits for its end. While images are being served, all images stay.
    """
    pruned = caches.prune(
        invocation.machine,
        used_before=time.time() - older_than if older_than is not None else None,
        most_bytes=to,
        on_wait=lambda: invocation.say("waiting for the end of what is running and uses the caches"),
    )
    if pruned.is_served_from:
        invocation.say("images, and what they are made of, stay: some are being served")
    names = [name for one in pruned.removed for name in one.names]
    for name in names:
        invocation.say(f"removed the image {name}")
    if not invocation.quiet:
        print_caches(
            invocation.reporter.console,
            _by_kind(pruned.removed),
            total=pruned.freed,
            place=str(invocation.machine.settings.cache_dir),
        )
    invocation.data({"freed": pruned.freed, "left": pruned.left, "images": names}, str(pruned.freed))


@verb("verify")
def verify(invocation: Invocation) -> int:
    """Hash what is named by its content, and remove what is damaged: it is made or fetched again; exits with 1 then."""
    reporter = invocation.reporter
    reporter.started("verify")
    found = caches.verify(
        invocation.machine, on_bytes=lambda count: reporter.progress("verify", count // 1_000_000, 0, "MB")
    )
    reporter.close()
    invocation.say(f"{found.files} files of {found.bytes / 1e6:.1f} MB read, {len(found.damaged)} damaged")
    for one in found.damaged:
        invocation.say(f"removed {one}: it was damaged")
    for name in found.names:
        invocation.say(f"removed the image {name}: it was not whole; build it again")
    invocation.data(
        {"files": found.files, "bytes": found.bytes, "damaged": list(found.damaged), "images": list(found.names)},
        "\n".join((*found.damaged, *found.names)),
    )
    return 1 if found.damaged or found.names else 0


def _by_kind(entries: tuple[CacheEntry, ...]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for kind in sorted({entry.kind for entry in entries}):
        own = [entry for entry in entries if entry.kind == kind]
        rows.append({"kind": kind, "entries": len(own), "bytes": size_of(own)})
    return rows


command.add_command(size)
command.add_command(prune)
command.add_command(verify)
