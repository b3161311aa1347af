"""Batch runs that are ended in the middle, however roughly, and go on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.batch.scored import Scorer
from tests.server.served import wait_until

pytestmark = [pytest.mark.process, pytest.mark.network]


def source(path: Path, count: int = 4000) -> Path:
    path.write_text("x\n" + "".join(f"{number + 100}\n" for number in range(count)))
    return path


def test_a_run_that_is_killed_again_and_again_comes_to_the_same(
    batch_models: Path, batch_python: str, tmp_path: Path
) -> None:
    score = Scorer(batch_models / "moody", batch_python, tmp_path)
    options = ("-i", source(tmp_path / "in.csv"), "--batch-rows", "10", "--workers", "2")
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    begin = time.monotonic()
    expected = score(*options, "-o", whole).summary()
    took = time.monotonic() - begin
    chance = random.Random(8)
    progress = []
    for _ in range(20):
        process = score.start(*options, "-o", killed, MOODY_SECONDS="1")
        time.sleep(chance.uniform(0.2 * took, took + 2))
        process.kill()
        process.communicate()
        journal = killed.with_name(f"{killed.name}.parts") / "journal.jsonl"
        progress.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
    assert progress == sorted(progress)
    assert 0 < progress[-1] < 400
    summary = score(*options, "-o", killed).summary()
    assert {**summary, "output": whole.name} == expected
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("killed")) == [
        killed.name,
        "killed.csv.summary.json",
    ]


def test_a_run_that_is_asked_to_stop_leaves_nobody_behind(
    batch_models: Path, batch_python: str, tmp_path: Path
) -> None:
    score = Scorer(batch_models / "moody", batch_python, tmp_path)
    process = score.start(
        *("-i", source(tmp_path / "in.csv"), "-o", tmp_path / "out.csv", "--batch-rows", "40"), MOODY_SECONDS="0.2"
    )
    journal = tmp_path / "out.csv.parts/journal.jsonl"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 0, 60, tmp_path / "contract.json")
    (worker,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert not (tmp_path / "out.csv").exists()


def test_the_same_run_twice_at_once_is_one_run(batch_models: Path, batch_python: str, tmp_path: Path) -> None:
    score = Scorer(batch_models / "moody", batch_python, tmp_path)
    options = ("-i", source(tmp_path / "in.csv"), "-o", tmp_path / "out.csv", "--batch-rows", "400")
    processes = [score.start(*options, MOODY_SECONDS="0.1") for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in processes]
    told = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    assert told[0] == told[1]
    assert any(b"waiting for its end" in log for _, log in ended)
    assert [process.returncode for process in processes] == [0, 0]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4001
