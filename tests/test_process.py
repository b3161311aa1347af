from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from envbuilder import process

pytestmark = pytest.mark.process
ENVIRON = {"PATH": os.environ["PATH"]}


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", code)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_output_code_and_lines_come_back() -> None:
    seen: list[str] = []
    code = "import sys; print('out'); print('first', file=sys.stderr); print('second ', file=sys.stderr); sys.exit(3)"
    found = process.run(python(code), environ=ENVIRON, on_line=seen.append)
    assert (found.code, found.ok, found.stdout, found.command) == (3, False, b"out\n", python(code))
    assert found.tail == ("first", "second") == tuple(seen)


def test_only_the_last_lines_are_kept_and_all_are_passed_on() -> None:
    seen: list[str] = []
    code = "import sys; [print(i, file=sys.stderr) for i in range(1000)]"
    found = process.run(python(code), environ=ENVIRON, on_line=seen.append)
    assert found.ok
    assert seen == [str(number) for number in range(1000)]
    assert found.tail == tuple(seen[-process.TAIL_LINES :])


def test_bytes_that_are_no_text_do_not_end_the_reading() -> None:
    code = "import os; os.write(2, b'\\xff bad\\nlast without an end')"
    assert process.run(python(code), environ=ENVIRON).tail == ("\ufffd bad", "last without an end")


def test_lines_come_while_the_program_runs(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    code = "import os, sys, time; print('ready', file=sys.stderr)\n"
    code += f"while not os.path.exists({str(go_on)!r}): time.sleep(.01)"
    assert process.run(python(code), environ=ENVIRON, on_line=lambda _: go_on.touch(), timeout=20).ok


@pytest.mark.parametrize(
    "code",
    [
        "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data)",
        "import sys; [sys.stdout.buffer.write(piece) for piece in iter(lambda: sys.stdin.buffer.read(4096), b'')]",
    ],
    ids=["all at once", "in pieces"],
)
def test_large_input_and_output_do_not_block_each_other(code: str) -> None:
    data = bytes(range(256)) * 8192
    assert process.run(python(code), environ=ENVIRON, stdin=data, timeout=20).stdout == data


@pytest.mark.parametrize("size", [0, 10, 4 << 20], ids=["none", "small", "large"])
def test_a_program_need_not_read_its_input(size: int) -> None:
    for _ in range(5):
        assert process.run(python("pass"), environ=ENVIRON, stdin=bytes(size), timeout=20).ok


def test_the_environment_is_only_what_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CANARY", "sings")
    code = "import os; print(os.environ.get('CANARY'), os.environ['GIVEN'], os.getcwd())"
    found = process.run(python(code), environ={**ENVIRON, "GIVEN": "yes"}, cwd=tmp_path)
    assert found.stdout.decode().split() == ["None", "yes", str(tmp_path)]


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.run((str(tmp_path / "absent"),), environ=ENVIRON)


def test_a_program_that_takes_too_long_is_killed() -> None:
    pids: list[int] = []
    code = "import os, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "print(os.getpid(), file=sys.stderr); time.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"took longer than 0\.5 s"):
        process.run(python(code), environ=ENVIRON, timeout=0.5, on_line=lambda line: pids.append(int(line)))
    assert time.monotonic() - begin < 10
    assert not is_alive(pids[0])


def test_an_error_in_on_line_kills_the_program_and_is_raised() -> None:
    pids: list[int] = []

    def refuse(line: str) -> None:
        pids.append(int(line))
        raise LookupError(line)

    # It writes more than a pipe holds, so that it would hang if nobody read on.
    code = (
        "import os, sys, time; print(os.getpid(), file=sys.stderr); sys.stderr.write('x' * 1_000_000); time.sleep(60)"
    )
    begin = time.monotonic()
    with pytest.raises(LookupError):
        process.run(python(code), environ=ENVIRON, on_line=refuse)
    assert time.monotonic() - begin < 10
    assert len(pids) == 1
    assert not is_alive(pids[0])


def test_an_interrupt_kills_the_program() -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        os.kill(os.getpid(), 2)

    code = "import os, sys, time; print(os.getpid(), file=sys.stderr); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        process.run(python(code), environ=ENVIRON, on_line=interrupt)
    assert not is_alive(pids[0])


def start(code: str, *, grace: float = 15) -> tuple[int | None, list[str], float]:
    """Run the program until its first line; return its code, its lines and how long stopping took."""
    lines: list[str] = []
    ready = threading.Event()

    def keep(line: str) -> None:
        lines.append(line)
        ready.set()

    with process.started(python(code), environ=ENVIRON, on_line=keep, grace=grace) as child:
        assert ready.wait(20)
        begin = time.monotonic()
    return child.returncode, lines, time.monotonic() - begin


def test_a_started_program_is_asked_to_stop() -> None:
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('bye'), sys.exit(7)))\n"
    code += "print('ready', file=sys.stderr); time.sleep(60)"
    returncode, lines, seconds = start(code)
    assert (returncode, lines) == (7, ["ready", "bye"])
    assert seconds < 10


def test_a_started_program_that_does_not_stop_is_killed() -> None:
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready'); time.sleep(60)"
    returncode, _, seconds = start(code, grace=0.3)
    assert returncode == -9
    assert 0.3 <= seconds < 10


def test_a_started_program_that_ended_by_itself_keeps_its_code() -> None:
    lines: list[str] = []
    with process.started(python("print('done'); exit(5)"), environ=ENVIRON, on_line=lines.append) as child:
        child.wait(20)
    assert (child.returncode, lines) == (5, ["done"])
