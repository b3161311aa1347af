"""What people see of a fleet: a table that moves on a terminal, and elsewhere a line for each model that ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from envbuilder.cli.common import print_bug, print_problems
from envbuilder.errors import EnvBuilderError
from envbuilder.fleet import Watch
from envbuilder.reporter import Reporter

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from envbuilder.cli.common import Invocation
    from envbuilder.fleet import FleetReport, Outcome
    from envbuilder.fleet_yaml import Member

_FRAME: Final = 4
"""Lines of the terminal that are not rows."""


class FleetConsole(Watch):
    """Shows each model's state, and its stage while it is built."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._console = invocation.reporter.console
        self._lock = threading.Lock()
        self._members: tuple[Member, ...] = ()
        self._stages: dict[int, str] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._live: Live | None = None
        self._is_over = False

    def close(self) -> None:
        """Leave the whole table standing."""
        if self._live is not None:
            self._is_over = True
            self._live.stop()

    def listed(self, members: tuple[Member, ...]) -> None:
        self._members = members
        if self._invocation.quiet or not self._console.is_terminal:
            return
        from rich.live import Live  # noqa: PLC0415 - only terminals show it

        self._live = Live(
            console=self._console, get_renderable=self._table, refresh_per_second=8, vertical_overflow="visible"
        )
        self._live.start()

    def reporter(self, number: int) -> Reporter:
        return _MemberReporter(self, number)

    def ended(self, number: int, outcome: Outcome) -> None:
        with self._lock:
            self._stages.pop(number, None)
            self._outcomes[number] = outcome
            done = len(self._outcomes)
        if self._live is None and not self._invocation.quiet:
            line = "  ".join(
                (f"{done}/{len(self._members)}", f"{outcome.state:<7}", f"{outcome.seconds:7.2f} s", *_facts(outcome))
            )
            self._console.print(line, markup=False)

    def staged(self, number: int, stage: str) -> None:
        """Note what is done for a model now."""
        with self._lock:
            self._stages[number] = stage

    def warn(self, number: int, text: str) -> None:
        """Show a warning with the model that it is about."""
        self._invocation.reporter.warning(f"{self._members[number].model}: {text}")

    def line(self, stage: str, text: str) -> None:
        """Show what a program prints, where that is wanted."""
        self._invocation.reporter.line(stage, text)

    def print_errors(self, report: FleetReport) -> None:
        """Tell what is wrong with each model that failed, and how many did not."""
        for outcome in report.outcomes:
            if outcome.error is not None:
                self._console.print(f"\n{outcome.member.model}:", markup=False)
            if isinstance(outcome.error, EnvBuilderError):
                print_problems(self._console, outcome.error)
            elif outcome.error is not None:
                print_bug(self._invocation, outcome.error)
        counts = ", ".join(f"{report.count(state)} {state}" for state in ("built", "existed", "failed"))
        environments = f"{report.environments} environment{'s' * (report.environments != 1)}"
        self._invocation.say(f"{len(report.outcomes)} models of {environments} in {report.seconds:.2f} s: {counts}")

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415 - only terminals show it

        table = Table(box=None, pad_edge=False)
        for name in ("", "seconds", "model", "image"):
            table.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if name == "seconds" else "left")
        with self._lock:
            numbers = list(range(len(self._members)))
            room = max(self._console.height - _FRAME, 1)
            if not self._is_over and len(numbers) > room:
                # What is being done, then what waits; those that ended are told in the last line.
                numbers.sort(key=lambda number: (number in self._outcomes, number not in self._stages, number))
                numbers = numbers[:room]
            for number in numbers:
                outcome = self._outcomes.get(number)
                if outcome is None:
                    table.add_row(self._stages.get(number, "waits"), "", self._members[number].model, "")
                else:
                    table.add_row(outcome.state, f"{outcome.seconds:.2f}", *_facts(outcome))
            if not self._is_over:
                table.add_row(f"{len(self._outcomes)} of {len(self._members)}")
        return table


class _MemberReporter(Reporter):
    """Hears of one model."""

    def __init__(self, console: FleetConsole, number: int) -> None:
        self._console = console
        self._number = number

    def started(self, stage: str, detail: str = "") -> None:
        del detail
        self._console.staged(self._number, stage)

    def ended(self, stage: str, seconds: float, detail: str = "") -> None:
        del seconds, detail
        self._console.staged(self._number, f"after {stage}")

    def line(self, stage: str, text: str) -> None:
        self._console.line(stage, text)

    def warning(self, text: str) -> None:
        self._console.warn(self._number, text)


def _facts(outcome: Outcome) -> tuple[str, str]:
    """Return the model, and its image or what is wrong."""
    if outcome.report is not None:
        return outcome.member.model, outcome.report.references[0]
    return outcome.member.model, str(outcome.error).partition("\n")[0]
