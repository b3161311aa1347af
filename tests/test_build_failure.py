from __future__ import annotations

import pytest

from envbuilder import build_failure
from envbuilder.errors import Source

WHERE = Source(file="https://index.example/thing-1.0.tar.gz")


@pytest.mark.parametrize(
    ("line", "meaning", "fix"),
    [
        ("error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'", "it needs a C compiler", "has one"),
        ("error: command 'gcc' failed: No such file or directory", "it needs a C compiler", "has one"),
        ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", "it needs a C compiler", "has one"),
        ("../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc']]", "it needs a C compiler", "has one"),
        ("  No CMAKE_CXX_COMPILER could be found.", "it needs a C compiler", "has one"),
        ("thing.c:1:10: fatal error: Python.h: No such file or directory", "no headers of its Python", "Python.h"),
        ("error: can't find Rust compiler", "it needs a Rust compiler", "`cargo`"),
        ("LookupError: setuptools-scm was unable to detect version for /build/source", "its version from", "released"),
        ("ModuleNotFoundError: No module named 'pkg_resources'", "today's build tools", "--exclude-newer"),
        ("ModuleNotFoundError: No module named 'numpy'", "imports what it does not ask for", "build-system.requires"),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", "builds have no network", "wheel"),
        ("OSError: [Errno 28] No space left on device", "there is no space left", "free space"),
        ("ValueError: no", "its build ended with code 1", "another version"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_lines_say_what_to_do(line: str, meaning: str, fix: str) -> None:
    (problem,) = build_failure.error("thing", ("before", line), code=1, where=WHERE).problems
    first, *rest = problem.what.splitlines()
    assert first.startswith("`thing` cannot be built from source: ")
    assert meaning in first
    assert rest == ["before", line]
    assert problem.where == WHERE
    assert fix in str(problem.fix)


def test_a_kill_is_told_and_credentials_are_not() -> None:
    error = build_failure.error("thing", ("https://user:secret@index.example/x",), code=137, where=WHERE)
    assert "killed, probably for want of memory" in str(error)
    assert "secret" not in str(error)
    assert str(build_failure.error("thing", (), code=2, where=WHERE)).startswith(
        "`thing` cannot be built from source: its build ended with code 2\n  at "
    )
