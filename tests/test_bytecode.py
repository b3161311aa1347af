"""Bytecode is compared by what it does, not by its header; what ends the program that reads it is told too."""

from __future__ import annotations

import marshal
import py_compile
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from envbuilder import bytecode

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

SOURCE = "def f(x):\n    'words'\n    assert x in {'a', 'b', 'c'}\n    return lambda: (x, 1.0, -0.0, b'x')\n"
CRASH = b"\xfb\x00" + b"\xa9" * 40
"""A code object that is cut short."""


def written(folder: Path, count: int) -> list[tuple[str, str]]:
    pairs = []
    for number in range(count):
        source = folder / f"m{number}.py"
        source.write_text(SOURCE)
        pairs.append((str(source), str(py_compile.compile(str(source), doraise=True))))
    return pairs


def test_each_way_to_write_the_same_code_is_the_same(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text(SOURCE)
    modes = (py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for optimize in (0, 1, 2):
        for mode in modes:
            made = py_compile.compile(
                str(source), dfile="/elsewhere/m.py", optimize=optimize, invalidation_mode=mode, doraise=True
            )
            assert bytecode.foreign([(str(source), str(made))], sys.executable) == ()


def test_other_code_and_what_is_no_code_are_told(tmp_path: Path) -> None:
    pairs = written(tmp_path, 6)
    for number, data in ((1, marshal.dumps(compile("x = 1\n", "m", "exec"))), (3, b""), (4, CRASH)):
        path = tmp_path / "__pycache__" / f"m{number}.{sys.implementation.cache_tag}.pyc"
        path.write_bytes(path.read_bytes()[:16] + data)
    expected = tuple(pairs[number][1] for number in (1, 3, 4))
    assert bytecode.foreign(pairs, sys.executable) == expected
    said = subprocess.run(bytecode.command(sys.executable, str(tmp_path)), capture_output=True, check=True)
    assert bytecode.told(said.stdout) == (expected, True)


def test_what_ends_the_program_is_told_and_the_rest_is_still_compared(tmp_path: Path) -> None:
    """A stand-in for a Python that hostile bytecode ends: marshal is not safe, and says so."""
    pairs = written(tmp_path, 5)
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "for source, path in json.loads(sys.stdin.read()):\n"
        "    if '/m2.py' in source:\n        os.abort()\n"
        "    print(0 if '/m3.py' in source else 1, flush=True)\n"
    )
    python.chmod(0o755)
    assert bytecode.foreign(pairs, str(python)) == (pairs[2][1], pairs[3][1])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"whole\n", ((), True)),
        (b"/a\n/b\nwhole\n", (("/a", "/b"), True)),
        (b"/a\n/b", (("/a",), False)),
        (b"", ((), False)),
    ],
)
def test_an_answer_that_breaks_off_is_told(answer: bytes, expected: tuple[tuple[str, ...], bool]) -> None:
    assert bytecode.told(answer) == expected
