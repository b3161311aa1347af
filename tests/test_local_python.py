"""Pythons of this machine, some of them stand-ins that say what another one would."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from envbuilder import local_python
from envbuilder.errors import EngineMissingError

pytestmark = pytest.mark.process

HERE = local_python.this_subdir()
PLATFORM = {"linux-64": "linux-x86_64", "linux-aarch64": "linux-aarch64"}.get(HERE, "")


def stand_in(path: Path, version: str, /, **said: object) -> Path:
    """Write a program that answers the question as a Python of that version."""
    answer = {
        "version": version,
        "executable": str(path),
        "implementation": "cpython",
        "platform": PLATFORM,
        "glibc": "2.36",
        "free_threaded": False,
        **said,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps(answer))}\n")
    path.chmod(0o755)
    return path


def find(version: str, **environ: str) -> local_python.LocalPython:
    return local_python.find(version, subdir=HERE, environ={"PATH": "", **environ})


def test_this_python_says_what_it_is() -> None:
    found = local_python.ask(sys.executable, environ={}, owner="the tests")
    assert found is not None
    assert found.version == ".".join(str(part) for part in sys.version_info[:3])
    assert found.subdir == HERE
    # That of an environment leads to the one below it.
    assert Path(found.executable) == Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def test_the_exact_version_wins_over_the_newest_and_over_the_path(tmp_path: Path) -> None:
    stand_in(tmp_path / "bin/python3.99", "3.99.2")
    for version in ("3.99.9", "3.99.10", "3.99.1"):
        stand_in(tmp_path / f"pyenv/versions/{version}/bin/python3.99", version)
    environ = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert (find("3.99.1", **environ).version, find("3.99.1", **environ).owner) == ("3.99.1", "pyenv")
    assert find("3.99.2", **environ).owner == "PATH"
    assert find("3.99.5", **environ).version == "3.99.10"
    assert find("3.99", **environ).version == "3.99.10"


@pytest.mark.parametrize(
    "said",
    [
        {"implementation": "pypy"},
        {"free_threaded": True},
        {"platform": "macosx-11.0-arm64"},
        {"version": "3.98.1"},
        {"glibc": ""},
    ],
    ids=["PyPy", "without the lock", "of another machine", "another minor", "another C library"],
)
def test_what_is_another_environment_is_never_taken(said: dict[str, object], tmp_path: Path) -> None:
    stand_in(tmp_path / "python3.99", "3.99.1", **said)
    with pytest.raises(EngineMissingError) as raised:
        find("3.99.1", PATH=str(tmp_path))
    (problem,) = raised.value.problems
    assert problem.what.startswith(f"there is no Python 3.99 for {HERE} on this machine")
    assert problem.fix == "`uv python install 3.99.1`, `pyenv install 3.99.1`, or your system's packages"


def test_what_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    for folder, text in (("a", "#!/bin/sh\nexit 3\n"), ("b", "#!/bin/sh\necho words\n"), ("c", "no program")):
        path = tmp_path / folder / "python3.99"
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)
    stand_in(tmp_path / "d/python3.99", "3.99.1")
    folders = ":".join(str(tmp_path / folder) for folder in "abcd")
    assert find("3.99.1", PATH=folders).executable == str(tmp_path / "d/python3.99")


@pytest.mark.parametrize(
    ("name", "subdir"),
    [("macosx-11.0-arm64", "osx-arm64"), ("macosx-10.9-x86_64", "osx-64"), ("win-amd64", "win-64"), ("aix-7", "aix-7")],
)
def test_platforms_have_condas_names(name: str, subdir: str) -> None:
    assert local_python._subdir(name) == subdir
