"""The locked environment on this machine: made whole or not at all, never over what others made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import local_python, reproduction, stages, verification
from envbuilder.choices import Choices
from envbuilder.errors import EngineMissingError, InvalidFileError, LockMismatchError, UnreachableError
from envbuilder.reproduction import Wish
from tests import small_environment as environments
from tests.conftest import command_line
from tests.package_index import wheel
from tests.small_environment import MINOR, SITE, write_model

if TYPE_CHECKING:
    from envbuilder.machine import Machine
    from tests.conftest import RecordingReporter
    from tests.package_index import PackageIndex
    from tests.small_environment import Reproduce

reproduce = environments.reproduce
small_index = environments.small_index
small_machine = environments.small_machine
small_model = environments.small_model

pytestmark = pytest.mark.process


def output(*command: object, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True, env={**kept, **environ}
    )
    return finished.stdout.strip()


def test_the_environment_of_a_model_works(reproduce: Reproduce, tmp_path: Path) -> None:
    made = reproduce()
    prefix = tmp_path / "env"
    assert (made.prefix, made.existed, made.packages) == (prefix, False, 2)
    assert (
        output(made.python, "-c", "import sys; print(sys.prefix, sys.base_prefix == sys.prefix)") == f"{prefix} False"
    )
    assert output(prefix / "bin/top") == "1.0"
    assert output(prefix / "bin/tool") == "tool"
    assert (prefix / "share/top/data.txt").read_bytes() == b"data\n"
    installer = prefix / SITE / "top-1.0.dist-info/INSTALLER"
    assert installer.read_text() == "envbuilder\n"
    assert json.loads((prefix / "envbuilder-meta/prefix.json").read_text())["prefix"] == str(prefix)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["env", "with space and 'quote'", "x" * 130])
def test_it_is_activated_in_a_shell_and_left_again(name: str, reproduce: Reproduce) -> None:
    made = reproduce(name)
    (sh, fish) = made.activation
    assert (sh.language, fish.language) == ("sh", "fish")
    script = (
        f'{sh.command} && top && tool && echo "$VIRTUAL_ENV" && deactivate && echo "[${{VIRTUAL_ENV-}}]" && echo $PATH'
    )
    lines = output("sh", "-euc", script, PATH="/usr/bin:/bin").splitlines()
    assert lines == ["1.0", "tool", str(made.prefix), "[]", "/usr/bin:/bin"]


def test_the_same_environment_is_not_made_twice(reproduce: Reproduce, small_machine: Machine, tmp_path: Path) -> None:
    first = reproduce()
    inode = (tmp_path / "env").stat().st_ino
    second = reproduce(machine=replace(small_machine, settings=replace(small_machine.settings, offline=True)))
    assert (first.existed, second.existed) == (False, True)
    assert replace(second, existed=False) == first
    assert (tmp_path / "env").stat().st_ino == inode


def test_it_is_made_without_a_network_from_the_caches(
    reproduce: Reproduce, small_machine: Machine, small_index: PackageIndex
) -> None:
    offline = replace(small_machine, settings=replace(small_machine.settings, offline=True))
    with pytest.raises(Exception, match=r"not in the caches|network|offline"):
        reproduce("none", machine=offline)
    reproduce("first")
    small_index.asked.clear()
    made = reproduce("second", machine=offline)
    assert not made.existed
    assert small_index.asked == []


def test_what_somebody_else_made_is_not_touched(reproduce: Reproduce, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, what in (("env", "envbuilder did not make it"), ("file", "there is a file"), ("link", "there is a file")):
        for options in ({}, {"replace": True}):
            with pytest.raises(InvalidFileError, match=what):
                reproduce(name, **options)
    assert (tmp_path / "env/thesis.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert not reproduce("empty").existed


def test_another_lock_and_changes_by_hand_need_replace(
    reproduce: Reproduce, tmp_path: Path, small_machine: Machine
) -> None:
    reproduce()
    (tmp_path / "env" / SITE / "notes.py").write_text("")
    with pytest.raises(LockMismatchError, match="not as locked: extra") as raised:
        reproduce()
    assert "--replace" in str(raised.value.problems[0].fix)
    other = write_model(tmp_path / "other", "top", "part==2.0")
    with pytest.raises(LockMismatchError, match="environment of another lock"):
        reproduce(model=other)
    made = reproduce(model=other, replace=True)
    assert not made.existed
    assert output(tmp_path / "env/bin/top") == "2.0"
    assert verification.verify(made.prefix, None, machine=small_machine).deviations == ()
    assert sorted(path.name for path in tmp_path.iterdir() if "envbuilder-new" in path.name) == []


def test_a_lock_for_an_image_and_for_other_platforms_is_taken(
    reproduce: Reproduce, small_model: Path, small_machine: Machine, tmp_path: Path
) -> None:
    choices = Choices(no_base=True, platforms=(local_python.this_subdir(), "osx-arm64", "win-64"))
    lock = tmp_path / "conda-lock.yml"
    lock.write_text(stages.make_lock(small_model, choices, machine=small_machine).to_text())
    assert reproduce(lock=lock).lock_digest
    elsewhere = tmp_path / "elsewhere.yml"
    choices = Choices(no_base=True, platforms=("osx-arm64",))
    elsewhere.write_text(stages.make_lock(small_model, choices, machine=small_machine).to_text())
    with pytest.raises(LockMismatchError, match="the lock is for osx-arm64, this machine is"):
        reproduce("x", lock=elsewhere)
    other = write_model(tmp_path / "other", "top", "part==2.0")
    with pytest.raises(LockMismatchError, match="the model's environment changed since it was locked"):
        reproduce("x", model=other, lock=lock)


def test_a_python_that_this_machine_has_not_is_told(reproduce: Reproduce, tmp_path: Path) -> None:
    with pytest.raises(EngineMissingError) as raised:
        reproduce(model=write_model(tmp_path / "old", "part", python="3.5.1"))
    (problem,) = raised.value.problems
    assert "there is no Python 3.5 for " in problem.what
    assert problem.fix is not None
    assert problem.fix.startswith("`uv python install 3.5.1`")
    assert not (tmp_path / "env").exists()


def test_another_micro_version_is_taken_and_told(reproduce: Reproduce, tmp_path: Path, small_machine: Machine) -> None:
    reporter: RecordingReporter = small_machine.reporter  # type: ignore[assignment]
    made = reproduce(model=write_model(tmp_path / "near", "part", python=f"{MINOR}.99"))
    (warning,) = reporter.warnings
    assert warning.startswith(f"locked for Python {MINOR}.99, which is not here; taken is {made.python_version} at ")
    assert verification.verify(made.prefix, None, machine=small_machine).deviations == ()


def test_a_kernel_is_registered(reproduce: Reproduce, tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="holds no ipykernel"):
        reproduce(kernel="churn")
    model = write_model(tmp_path / "with", "part", "ipykernel")
    with pytest.raises(InvalidFileError, match="is not a name of a kernel"):
        reproduce(model=model, kernel="../churn")
    made = reproduce("a", model=model, kernel="churn")
    file = tmp_path / "home/.local/share/jupyter/kernels/churn/kernel.json"
    assert made.kernel == file
    value = json.loads(file.read_text())
    assert value["argv"] == [f"{tmp_path}/a/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    assert value["env"] == {"VIRTUAL_ENV": f"{tmp_path}/a", "PATH": f"{tmp_path}/a/bin:${{PATH}}"}
    assert reproduce("a", model=model, kernel="churn").existed
    with pytest.raises(InvalidFileError, match="there is another kernel of that name"):
        reproduce("b", model=model, kernel="churn")
    assert not (tmp_path / "b").exists()


def test_a_wheel_of_the_model_is_installed_and_is_needed_to_verify(
    reproduce: Reproduce, small_machine: Machine, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "with", "./wheels/own-1.0-py3-none-any.whl")
    (model / "wheels").mkdir()
    (model / "wheels/own-1.0-py3-none-any.whl").write_bytes(wheel("own").data)
    made = reproduce(model=model)
    assert output(made.python, "-c", "import own; print(own.version)") == "1.0"
    for file in small_machine.wheels.rglob("own-*.whl"):
        file.unlink()
    with pytest.raises(UnreachableError, match="is a file of the model"):
        verification.verify(made.prefix, None, machine=small_machine)


def test_a_wheel_cannot_write_through_links_of_the_environment(
    reproduce: Reproduce, small_index: PackageIndex, tmp_path: Path
) -> None:
    before = Path(sys.executable).resolve().read_bytes()
    files = {"evil/__init__.py": b"", "evil-1.0.data/data/bin/python": b"#!/bin/sh\necho evil\n"}
    small_index.add(wheel("evil", files=files))
    made = reproduce(model=write_model(tmp_path / "evil", "evil"))
    assert Path(sys.executable).resolve().read_bytes() == before
    assert (made.prefix / "bin/python").is_symlink()
    assert output(made.python, "-c", "print(1)") == "1"


@pytest.mark.parametrize("name", ["a:b", "a\nb", 'a"b'], ids=["colon", "line end", "quote"])
def test_a_path_that_no_command_can_begin_with_is_refused(name: str, reproduce: Reproduce) -> None:
    with pytest.raises(InvalidFileError, match="commands cannot begin with this path"):
        reproduce(name)


def test_a_run_that_was_killed_leaves_nothing_in_the_way(
    small_model: Path, small_machine: Machine, small_index: PackageIndex, tmp_path: Path
) -> None:
    """Killed at ever later moments, until it ends by itself: each time nothing is there, or all of it."""
    many = [
        wheel(f"many{number}", files={f"many{number}/{n}.py": b"x = 1\n" * 2000 for n in range(200)})
        for number in range(8)
    ]
    small_index.add(*many)
    model = write_model(small_model, *(one.name.split("-")[0] for one in many))
    prefix, settings = tmp_path / "env", small_machine.settings
    environ = {**os.environ, "ENVBUILDER_CACHE_DIR": str(settings.cache_dir), "ENVBUILDER_INDEX_URL": small_index.url}
    command = (sys.executable, "-m", "envbuilder", "reproduce", str(model), "--prefix", str(prefix))
    begun = tmp_path / ".env.envbuilder-new"
    killed_while_installing, seconds = 0, 0.0
    while not prefix.exists():
        child = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not begun.exists() and child.poll() is None:
            time.sleep(0.005)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        killed_while_installing += begun.exists()
        seconds += 0.2
    made = reproduction.reproduce(model, Wish(prefix=prefix), Choices(), machine=small_machine)
    assert made.existed
    assert made.packages == 8
    assert killed_while_installing > 0


def test_what_was_moved_away_by_a_killed_run_comes_back(tmp_path: Path) -> None:
    work = tmp_path / ".env.envbuilder-new"
    (work / "old").mkdir(parents=True)
    (work / "old/kept.txt").write_text("kept")
    reproduction._clean(work, tmp_path / "env")
    assert (tmp_path / "env/kept.txt").read_text() == "kept"
    assert not work.exists()


def test_the_command_prints_the_directory_and_how_to_enter_it(
    small_model: Path, small_index: PackageIndex, tmp_path: Path
) -> None:
    called = command_line(
        tmp_path / "cache",
        "reproduce",
        str(small_model),
        "--prefix",
        str(tmp_path / "env"),
        ENVBUILDER_INDEX_URL=small_index.url,
    )
    assert (called.returncode, called.stdout) == (0, f"{tmp_path}/env\n"), called.stderr
    assert f"sh:   . {tmp_path}/env/bin/activate" in called.stderr
    again = command_line(
        tmp_path / "cache",
        "reproduce",
        str(small_model),
        "--prefix",
        str(tmp_path / "env"),
        "--json",
        "--offline",
        ENVBUILDER_INDEX_URL=small_index.url,
    )
    assert json.loads(again.stdout)["existed"] is True
