"""A conda environment on this machine: linked by rattler for its real place, with wheels beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import reproduction, verification
from envbuilder.choices import Choices
from envbuilder.reproduction import Wish
from tests import small_environment as environments
from tests.conda_channel import write_channel
from tests.conda_python import linking_sample

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine
    from envbuilder.reproduction import Reproduction
    from tests.conftest import RecordingReporter

small_index = environments.small_index
small_machine = environments.small_machine

pytestmark = pytest.mark.process

SITE = "lib/python3.11/site-packages"


@pytest.fixture
def machine(small_machine: Machine, tmp_path: Path) -> Machine:
    write_channel(tmp_path / "channels" / "main", linking_sample())
    environ = (("ENVBUILDER_CHANNEL_ALIAS", (tmp_path / "channels").as_uri()),)
    return replace(small_machine, settings=replace(small_machine.settings, conda_environ=environ))


@pytest.fixture
def made(machine: Machine, tmp_path: Path) -> Reproduction:
    model = environments.write_model(tmp_path / "model")
    specs = "python=3.11, greet=1, paths, hooked, first-owner, second-owner"
    (model / "conda.yaml").write_text(f"channels: [main]\ndependencies: [{specs}, {{pip: [top]}}]\n")
    return reproduction.reproduce(model, Wish(prefix=tmp_path / "env"), Choices(), machine=machine)


def output(*command: object) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True, env=environ
    ).stdout.strip()


def test_a_conda_environment_works_where_it_is_and_is_as_locked(
    made: Reproduction, machine: Machine, tmp_path: Path
) -> None:
    prefix = tmp_path / "env"
    assert output(made.python, "-c", "import sys, greet, top; print(sys.prefix)") == str(prefix)
    assert output(prefix / "bin/paths") == "1.0"
    assert output(prefix / "bin/top") == "2.0"
    assert (prefix / "share/paths/data.txt").read_text() == f"root = {prefix}/share\n"
    assert (prefix / "share/owned/both.txt").read_text() == "second\n"
    assert not (prefix / "link-script-ran").exists()
    reporter: RecordingReporter = machine.reporter  # type: ignore[assignment]
    assert [one for one in reporter.warnings if "share/owned/both.txt` is in first-owner and in second-owner" in one]
    (sh, _) = made.activation
    assert output("sh", "-euc", f'{sh.command} && echo "$CONDA_PREFIX $PATHS_DATA $PATHS_WORDS"') == (
        f"{prefix} {prefix}/share/paths two words"
    )
    found = verification.verify(prefix, None, machine=machine)
    assert found.deviations == ()
    assert found.packages == 9
    assert list((prefix / SITE / "__pycache__").glob("greet.*.pyc"))


def test_what_was_tampered_with_in_it_is_named(made: Reproduction, machine: Machine) -> None:
    prefix = made.prefix
    (prefix / "lib/libpaths.so").write_bytes((prefix / "lib/libpaths.so").read_bytes().replace(b"end", b"END"))
    (prefix / "lib/libpaths.so.1").unlink()
    (prefix / "lib/libpaths.so.1").symlink_to("/tmp/other.so")  # noqa: S108 - is not opened
    (prefix / "share/owned/both.txt").unlink()
    for path in (*(prefix / SITE).glob("greet*"), *(prefix / "conda-meta").glob("greet-*"), prefix / "bin/greet"):
        (shutil.rmtree if path.is_dir() else os.unlink)(path)
    (prefix / "conda-meta/extra-3.1-0.json").write_text("{}")
    (prefix / f"{SITE}/top/__init__.py").write_text("")
    found = {(one.kind, one.package, one.path) for one in verification.verify(prefix, None, machine=machine).deviations}
    assert found == {
        ("changed", "paths", "lib/libpaths.so"),
        ("changed", "paths", "lib/libpaths.so.1"),
        ("missing", "second-owner", "share/owned/both.txt"),
        ("missing package", "greet", ""),
        ("extra package", "extra", ""),
        ("extra", "", "conda-meta/extra-3.1-0.json"),
        ("changed", "top", f"{SITE}/top/__init__.py"),
    }


def test_bytecode_of_a_conda_environment_is_compared_too(made: Reproduction, machine: Machine) -> None:
    output(made.python, "-c", "import greet, top.lazy")
    cached = made.prefix / SITE / "top/__pycache__/lazy.cpython-311.pyc"
    cached.write_bytes(cached.read_bytes().replace(b"lazy.py", b"LAZY.PY"))
    assert verification.verify(made.prefix, None, machine=machine).deviations == ()
    other = made.prefix / SITE / "top/__pycache__/__init__.cpython-311.pyc"
    cached.write_bytes(other.read_bytes())
    (found,) = verification.verify(made.prefix, None, machine=machine).deviations
    assert (found.path, found.detail) == (
        f"{SITE}/top/__pycache__/lazy.cpython-311.pyc",
        "is not the bytecode of its module",
    )
