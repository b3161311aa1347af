from __future__ import annotations

import select
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from envbuilder import cache_lock
from tests.conftest import as_nobody

if TYPE_CHECKING:
    from pathlib import Path

USING = """
import sys, time
from pathlib import Path
from envbuilder import cache_lock
with getattr(cache_lock, sys.argv[1])(Path(sys.argv[2])):
    print("using", flush=True)
    time.sleep(60)
"""


def using(kind: str, caches: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", USING, kind, str(caches)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "using\n"
    return child


def test_runs_share_the_caches_and_may_be_inside_each_other(tmp_path: Path) -> None:
    with cache_lock.shared(tmp_path), cache_lock.shared(tmp_path), cache_lock.serving(tmp_path):
        pass


@pytest.mark.process
def test_pruning_waits_for_a_run_and_a_killed_one_is_no_run(tmp_path: Path) -> None:
    waited, entered = threading.Event(), threading.Event()

    def prune() -> None:
        with cache_lock.exclusive(tmp_path, on_wait=waited.set) as is_served_from:
            assert not is_served_from
            entered.set()

    with using("shared", tmp_path) as child:
        pruning = threading.Thread(target=prune)
        pruning.start()
        assert waited.wait(10)
        assert not entered.wait(0.3)
        child.send_signal(signal.SIGKILL)
        assert entered.wait(10)
        pruning.join()


@pytest.mark.process
def test_nobody_waits_for_what_is_served_and_it_is_told(tmp_path: Path) -> None:
    def never() -> None:
        pytest.fail("nobody runs")

    with using("serving", tmp_path) as child:
        with cache_lock.exclusive(tmp_path, on_wait=never) as is_served_from:
            assert is_served_from
        child.kill()
    with cache_lock.exclusive(tmp_path, on_wait=never) as is_served_from:
        assert not is_served_from


@pytest.mark.process
def test_a_run_waits_while_the_caches_are_pruned(tmp_path: Path) -> None:
    with cache_lock.exclusive(tmp_path, on_wait=lambda: None):
        child = subprocess.Popen(
            [sys.executable, "-c", USING, "shared", str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        readable, _, _ = select.select([child.stdout], [], [], 1.5)
        assert not readable
    assert child.stdout.readline() == "using\n"
    child.kill()
    child.wait()
    child.stdout.close()


def test_caches_that_cannot_be_written_can_be_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with as_nobody(tmp_path), cache_lock.shared(tmp_path):
        assert not (tmp_path / "in-use").exists()
    tmp_path.chmod(0o755)
