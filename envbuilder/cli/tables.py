"""Tables for people on standard error: a spec, what two of them differ in, the environments of a workspace."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from envbuilder.audit_finding import Finding
    from envbuilder.comparison import Deviation
    from envbuilder.environment_spec import EnvironmentSpec, Overridden
    from envbuilder.errors import Source
    from envbuilder.spec_diff import Difference


def print_caches(console: Console, rows: list[dict[str, object]], *, total: int, place: str) -> None:
    """Print how much there is of each kind."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("entries", justify="right")
    table.add_column("MB", justify="right")
    for row in rows:
        table.add_row(str(row["kind"]), str(row["entries"]), _megabytes(row["bytes"]))
    table.add_row("together", "", _megabytes(total))
    console.print(table)
    console.print(place, markup=False)


def _megabytes(size: object) -> str:
    return f"{int(str(size)) / 1e6:.1f}"


def print_spec(console: Console, spec: EnvironmentSpec) -> None:
    """Print each thing that is asked for, where it comes from and what it replaced; then what is not used, and why."""
    table = _table("asks for", "value", "from", "instead of")
    told: set[int] = set()
    field = ""
    for entry in spec.entries():
        lost = spec.replaced_by(entry)
        told |= {id(one) for one in lost}
        replaced = "\n".join(f"{one.value} ({place(one.source)})" for one in lost)
        _row(table, entry.field if entry.field != field else "", entry.value, place(entry.source), replaced)
        field = entry.field
    console.print(table)
    rest = [one for one in spec.overridden if id(one) not in told]
    if not rest and not spec.unused:
        return
    table = _table("not used", "value", "from", "because")
    for one in rest:
        _row(table, one.field, one.value, place(one.source), _reason(one))
    for unused in spec.unused:
        _row(table, unused.name, unused.value, place(unused.source), unused.reason)
    console.print()
    console.print(table)


def print_differences(console: Console, differences: tuple[Difference, ...]) -> None:
    """Print what differs, both sides beside each other."""
    table = _table("differs in", "first", "from", "second", "from")
    for one in differences:
        sides = [
            text
            for side in (one.before, one.after)
            for text in ("\n".join(entry.value for entry in side), "\n".join(place(entry.source) for entry in side))
        ]
        _row(table, one.field, *sides)
    console.print(table)


def print_environments(console: Console, rows: list[dict[str, object]]) -> None:
    """Print the registered environments."""
    table = _table("environment", "kind", "labels", "digest", "description")
    for row in rows:
        labels = row["labels"]
        _row(
            table,
            str(row["reference"]),
            str(row["kind"]),
            ", ".join(labels) if isinstance(labels, list) else "",
            str(row["digest"])[7:19],
            str(row["description"] or ""),
        )
    console.print(table)


def print_deviations(console: Console, deviations: tuple[Deviation, ...]) -> None:
    """Print how an environment differs from its lock."""
    table = _table("is", "package", "path", "because")
    for one in deviations:
        _row(table, one.kind, one.package, one.path, one.detail)
    console.print(table)


def print_findings(console: Console, findings: tuple[Finding, ...]) -> None:
    """Print what an audit found, the worst first."""
    table = _table("severity", "rule", "what", "where", "fix")
    for one in findings:
        where = place(one.where) if one.where is not None else ""
        _row(table, one.severity, one.rule, one.what, where, one.amendment or one.fix)
    if findings:
        console.print(table)


def place(source: Source) -> str:
    """Return the place in a model or workspace as short as people need it: the file's name and the key."""
    parts = PurePath(source.file).parts
    # The name of a registered environment's file is but its version.
    name = "/".join(parts[parts.index("environments") :]) if "environments" in parts[:-1] else parts[-1]
    return f"{name}: {source.key}" if source.key else name


def _reason(one: Overridden) -> str:
    return f"{one.reason} ({place(one.by)})" if one.by is not None else one.reason


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    # What a model says is text, never markup.
    table.add_row(*(Text(cell) for cell in cells))
