"""What people see on standard error: progress while stages run, plain lines where it is not a terminal, tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console

from envbuilder.reporter import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from envbuilder.finding import Finding
    from envbuilder.stages import BuildReport

_MEGABYTE = 1_000_000
_WHOLE_LINES = 10_000
_MINUTE = 60
_STEADY = 1.0
"""Seconds until a speed is worth telling."""
_SAID_EVERY = 10.0


class ConsoleReporter(Reporter):
    """Shows a line for each stage that ended, and a moving one for the stage that runs when on a terminal."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        if not self.console.is_terminal:
            # Nobody reads a log in a window: lines that are whole can be searched.
            self.console.width = _WHOLE_LINES
        self.warnings: list[str] = []
        """All that was warned of, also what was not shown."""

        self._quiet = quiet
        self._verbose = verbose
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._portion: tuple[float, float, int] | None = None
        """When and where the portions began that are told."""
        self._said = time.monotonic()

    def started(self, stage: str, detail: str = "") -> None:
        if self._quiet or not self.console.is_terminal:
            return
        from rich.progress import (  # noqa: PLC0415 - only terminals show it
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(f"{stage} {detail}".strip(), total=None, amount="")

    def ended(self, stage: str, seconds: float, detail: str = "") -> None:
        self.close()
        if not self._quiet:
            self.console.print(f"{stage:<12} {seconds:7.2f} s  {detail}".rstrip(), markup=False)

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        if self._progress is not None and self._task is not None:
            amount = f"{done}/{total} {unit}" if total else f"{done or ''} {unit}"
            self._progress.update(
                self._task, completed=done, total=total or None, amount=" ".join(f"{stage} {amount}".split())
            )

    def portion(self, stage: str, fraction: float, *, rows: int, failed: int) -> None:
        now = time.monotonic()
        if fraction and self._portion is None:
            # What an earlier run did is there at once, and says nothing of how fast this one is.
            self._portion = (now, fraction, rows)
        amount = f"{rows:,} rows" + (f", {failed:,} failed" if failed else "")
        if self._portion is not None and now - self._portion[0] > _STEADY:
            begin, from_fraction, from_rows = self._portion
            seconds = now - begin
            amount += f", {(rows - from_rows) / seconds:,.0f} rows/s"
            if fraction > from_fraction:
                amount += f", {_clock((1 - fraction) * seconds / (fraction - from_fraction))} left"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=fraction, total=1, amount=amount)
        elif not self._quiet and now - self._said >= _SAID_EVERY:
            self._said = now
            self.console.print(f"{stage:<12} {100 * fraction:7.1f} %  {amount}", markup=False)

    def line(self, stage: str, text: str) -> None:
        if self._verbose or stage == "run":
            self.console.print(f"  {stage} | {text}", markup=False)

    def warning(self, text: str) -> None:
        self.warnings.append(text)
        if not self._quiet:
            self.console.print(f"warning: {text}", markup=False)

    def close(self) -> None:
        """Take down the moving line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._task = None, None


def _clock(seconds: float) -> str:
    """Write a time that is left as people say it."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest:02} s" if minutes < _MINUTE else f"{minutes // _MINUTE} h {minutes % _MINUTE:02} min"


def print_build(console: Console, report: BuildReport) -> None:
    """Print what was built: layers, sizes and the times of the stages."""
    from rich.table import Table  # noqa: PLC0415 - most runs show none

    layers = Table(title=None, box=None, pad_edge=False)
    for name, justify in (("layer", "left"), ("digest", "left"), ("MB", "right"), ("", "left")):
        layers.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for item in report.image.layers:
        # Whether the base was made or pulled in this run is the stage's matter, not the build's.
        state = "" if item.comment == "base" else "kept" if item.reused else "made"
        layers.add_row(item.comment, item.digest[7:19], f"{item.size / _MEGABYTE:.1f}", state)
    console.print()
    console.print(layers)
    console.print()
    for name, value in build_facts(report):
        console.print(f"{name:<9} {value}", markup=False, soft_wrap=True)


def build_facts(report: BuildReport) -> list[tuple[str, str]]:
    """Return what is worth knowing about the build, in pairs of name and value."""
    total = sum(seconds for _, seconds in report.seconds)
    facts = [
        ("image", report.references[0]),
        ("content", report.references[-1] if len(report.references) > 1 else "not tried, so without a content tag"),
        ("digest", report.digest),
        ("size", f"{report.image.size / _MEGABYTE:.1f} MB in {len(report.image.layers)} layers"),
        ("base", report.base),
        ("packages", str(report.packages)),
        *_system_facts(report),
        ("engine", report.engine),
        ("time", f"{total:.2f} s" + (" (the same content existed already)" if report.existed else "")),
    ]
    if report.pushed is not None:
        facts.append(("pushed", report.pushed.to_text()))
    if report.smoke is not None:
        facts.append(("tried", f"ready after {report.smoke.startup_seconds:.1f} s, example {report.smoke.example}"))
    return facts


def _system_facts(report: BuildReport) -> list[tuple[str, str]]:
    facts = []
    if report.system.packages:
        reasons = ((one.name, ", ".join(one.needed_by) or "asked for") for one in report.system.packages)
        facts.append(("system", ", ".join(f"{name} ({reason})" for name, reason in reasons)))
    if report.gpu is not None:
        found = report.gpu.generation
        needs = (
            f": driver {found.driver} or newer, compute capability {found.oldest} to {found.newest}" if found else ""
        )
        facts.append(("GPU", f"CUDA {report.gpu.cuda} ({report.gpu.package}){needs}"))
    return facts


def print_findings(console: Console, findings: tuple[Finding, ...]) -> None:
    """Print what `doctor` found, with the fix of each thing that is missing."""
    from rich.table import Table  # noqa: PLC0415 - most runs show none

    table = Table(box=None, pad_edge=False)
    for name in ("", "subject", "finding"):
        table.add_column(name)
    for finding in findings:
        table.add_row("ok" if finding.ok else "no", finding.subject, finding.detail)
        if finding.fix:
            table.add_row("", "", f"fix: {finding.fix}")
    console.print(table)
