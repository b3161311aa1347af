from __future__ import annotations

import pytest

from envbuilder.reporter import Reporter, Timings


class Told(Reporter):
    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def started(self, stage: str, detail: str = "") -> None:
        self.events.append(("started", stage, detail))

    def ended(self, stage: str, seconds: float, detail: str = "") -> None:
        assert seconds >= 0
        self.events.append(("ended", stage, detail))


def test_a_plain_reporter_hears_everything_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.started("lock", "x")
    reporter.progress("fetch", 1, 2, "MB")
    reporter.line("lock", "text")
    reporter.warning("text")
    reporter.ended("lock", 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_stage_is_told_from_start_to_end() -> None:
    told = Told()
    with Timings(told).stage("lock", "python:3.11") as note:
        note.text = "52 packages"
    assert told.events == [("started", "lock", "python:3.11"), ("ended", "lock", "52 packages")]


def test_stages_keep_their_order_and_add_up() -> None:
    timings = Timings(Reporter())
    for name in ("lock", "build", "lock"):
        with timings.stage(name):
            pass
    assert list(timings.seconds) == ["lock", "build"]
    timings.seconds["lock"] = 1000.0
    with timings.stage("lock"):
        pass
    assert timings.seconds["lock"] >= 1000.0


def test_a_stage_that_fails_does_not_end() -> None:
    told = Told()
    timings = Timings(told)
    with pytest.raises(RuntimeError), timings.stage("lock"):
        raise RuntimeError
    assert told.events == [("started", "lock", "")]
    assert timings.seconds == {}


def test_notes_do_not_share_their_text() -> None:
    timings = Timings(Reporter())
    with timings.stage("a") as first, timings.stage("b") as second:
        first.text = "first"
        assert second.text == ""
