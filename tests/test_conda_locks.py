"""Locks of conda and pip together, through the command line: a generated channel, the real package index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from tests.conda_channel import package, python_package, sample, write_channel
from tests.conftest import BASE, EXAMPLES, command_line

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.network, pytest.mark.process]

ENGINE = ("--engine", "oci", "--base", BASE)


@dataclass(frozen=True)
class Place:
    """A model, and the folder of its channels."""

    model: Path
    channels: Path

    def ask(self, *specs: str, pip: tuple[str, ...] = ()) -> None:
        lines = [*(f"- {spec!r}" for spec in specs), *(["- pip:"] if pip else []), *(f"  - {line!r}" for line in pip)]
        (self.model / "conda.yaml").write_text("channels: [main]\ndependencies:\n" + "\n".join(lines) + "\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    write_channel(tmp_path / "channels" / "main", sample())
    return Place(model, tmp_path / "channels")


@pytest.fixture
def envbuilder(cache: Path, place: Place) -> Call:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command_line(cache, *arguments, ENVBUILDER_CHANNEL_ALIAS=place.channels.as_uri())

    return call


def locked(text: str, manager: str) -> dict[str, str]:
    found = re.findall(r"^- name: (\S+)\n  version: '?([^'\n]+)'?\n  manager: (\w+)$", text, re.MULTILINE)
    return {name: version for name, version, kind in found if kind == manager}


def lock(envbuilder: Call, place: Place, *more: str) -> str:
    finished = envbuilder("lock", str(place.model), *ENGINE, *more)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_what_conda_provides_counts_for_pip_and_is_not_installed_again(envbuilder: Call, place: Place) -> None:
    place.ask("python=3.11", "numpy=1.26", "six=1.15", pip=("pandas==2.2.3", "NumPy>=1.20"))
    text = lock(envbuilder, place)
    conda, pip = locked(text, "conda"), locked(text, "pip")
    assert (conda["python"], conda["numpy"], conda["six"]) == ("3.11.7", "1.26.4", "1.15.0")
    assert pip["pandas"] == "2.2.3"
    assert not {"numpy", "six"} & pip.keys()
    assert "python-dateutil" in pip


def test_python_and_pip_are_asked_for_as_conda_yaml_has_them(envbuilder: Call, place: Place) -> None:
    place.ask("python=3.11.7=h0d1ab_0_cpython", "pip", "hello")
    (place.model / "python_env.yaml").write_text("python: 3.9.1\nbuild_dependencies: [pip==23.2.1, wheel]\n")
    conda = locked(lock(envbuilder, place), "conda")
    assert (conda["python"], conda["pip"]) == ("3.11.7", "24.0")
    assert "wheel" not in conda
    assert locked(lock(envbuilder, place, "--python", "3.9"), "conda")["python"] == "3.9.18"
    place.ask("python=3.11.7=another_build", "hello")
    refused = envbuilder("lock", str(place.model), *ENGINE)
    assert refused.returncode == 5
    assert "conda.yaml: dependencies[0]" in refused.stderr


def test_conda_has_other_names_for_some_packages(envbuilder: Call, place: Place) -> None:
    place.ask("python=3.11", "pytorch", pip=("torch>=2",))
    text = lock(envbuilder, place)
    assert locked(text, "conda")["pytorch"] == "2.3.1"
    assert "torch" not in locked(text, "pip")


def test_a_version_that_only_conda_has_counts_all_the_same(envbuilder: Call, place: Place) -> None:
    odd = python_package("idna", "2.10.1.post99")
    write_channel(place.channels / "main", (*sample(), odd))
    place.ask("python=3.11", "idna", pip=("requests", "idna>=2"))
    text = lock(envbuilder, place)
    assert locked(text, "conda")["idna"] == "2.10.1.post99"
    assert "requests" in locked(text, "pip")
    assert "idna" not in locked(text, "pip")


def test_pip_and_conda_that_want_different_versions_are_told_both_lines(envbuilder: Call, place: Place) -> None:
    place.ask("python=3.11", "numpy=1.24", pip=("numpy==1.26.4",))
    finished = envbuilder("lock", str(place.model), *ENGINE)
    assert finished.returncode == 5
    assert "`numpy==1.26.4` clashes with the conda package numpy 1.24.4, which `numpy=1.24` asks for" in finished.stderr
    assert "conda.yaml: dependencies[2].pip[0]" in finished.stderr


@pytest.mark.parametrize(
    ("specs", "code", "texts"),
    [
        (("python=3.11", "left", "right"), 5, ("left", "right", "conda.yaml: dependencies[1]")),
        (("python=3.11", "no-such-package"), 5, ("no-such-package", "conda.yaml: dependencies[1]")),
        (("python=3.7", "hello"), 5, ("python", "conda.yaml: dependencies[0]")),
        (("python=3.11", "fresh"), 5, ("__glibc >=2.38", "fresh")),
        (("python=3.11", "cudalib"), 5, ("__cuda >=12",)),
        (("python=3.11", "gone::hello"), 7, ("gone",)),
    ],
    ids=["conflict", "unknown package", "unknown Python", "newer glibc", "no GPU", "unknown channel"],
)
def test_what_the_channel_cannot_give_is_told_with_its_line(
    specs: tuple[str, ...], code: int, texts: tuple[str, ...], envbuilder: Call, place: Place
) -> None:
    place.ask(*specs)
    finished = envbuilder("lock", str(place.model), *ENGINE)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    assert "hint: " in finished.stderr
    for text in texts:
        assert text in finished.stderr


def test_locking_again_keeps_conda_packages_too_and_an_update_moves_one(
    envbuilder: Call, place: Place, tmp_path: Path
) -> None:
    place.ask("python=3.11", "moving", "resting", pip=("six",))
    old = (python_package("moving", "1.0"), python_package("resting", "1.0"))
    write_channel(place.channels / "main", (*sample(), *old))
    file = tmp_path / "x.conda-lock.yml"
    lock(envbuilder, place, "-o", str(file))
    first = file.read_bytes()
    new = (python_package("moving", "2.0"), python_package("resting", "2.0"), package("unrelated"))
    write_channel(place.channels / "main", (*sample(), *old, *new))
    lock(envbuilder, place, "-o", str(file))
    assert file.read_bytes() == first
    lock(envbuilder, place, "-o", str(file), "--update", "moving")
    found = locked(file.read_text(), "conda")
    assert (found["moving"], found["resting"]) == ("2.0", "1.0")


def test_conda_lock_reads_and_renders_the_lock(envbuilder: Call, place: Place, tmp_path: Path) -> None:
    place.ask("python=3.11", "numpy=1.26", "hello", pip=("requests",))
    file = tmp_path / "conda-lock.yml"
    lock(envbuilder, place, "-o", str(file))
    for kind in ("explicit", "env"):
        finished = subprocess.run(
            [str(Path(sys.executable).with_name("conda-lock")), "render", "-k", kind, "-p", "linux-64", str(file)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
    explicit = (tmp_path / "conda-linux-64.lock").read_text()
    assert re.search(r"/linux-64/numpy-1\.26\.4-\S+\.conda#[0-9a-f]{32}$", explicit, re.MULTILINE)
    assert "requests" in (tmp_path / "conda-linux-64.lock.yml").read_text()


def test_a_lock_is_written_for_pip_and_conda_too(envbuilder: Call, place: Place, tmp_path: Path) -> None:
    place.ask("python=3.11", "hello", pip=("idna==3.10",))
    explicit = lock(envbuilder, place, "--format", "explicit")
    assert re.search(r"^file:.*/noarch/hello-2\.0-\S+\.conda#[0-9a-f]{32}$", explicit, re.MULTILINE)
    requirements = tmp_path / "requirements.txt"
    lock(envbuilder, place, "--format", "requirements", "-o", str(requirements))
    pylock = tmp_path / "pylock.toml"
    lock(envbuilder, place, "--format", "pylock", "-o", str(pylock))
    for file in (requirements, pylock):
        finished = subprocess.run(
            [
                *(find_uv_bin(), "pip", "install", "--require-hashes", "--no-config", "-r", str(file)),
                *("--target", str(tmp_path / file.stem), "--python-version", "3.11"),
            ],
            env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        assert (tmp_path / file.stem / "idna" / "core.py").is_file()


def test_the_workspace_says_where_channels_are(cache: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.yaml").write_text(f"defaults: {{channel_alias: {place.channels.as_uri()}}}\n")
    place.ask("python=3.11", "hello")
    finished = subprocess.run(
        [sys.executable, "-m", "envbuilder", "lock", str(place.model), *ENGINE, "-o", str(tmp_path / "x.yml")],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), "ENVBUILDER_WORKSPACE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert locked((tmp_path / "x.yml").read_text(), "conda")["hello"] == "2.0"


def test_a_python_that_does_not_run_on_the_base_ends_the_build(envbuilder: Call, place: Place) -> None:
    # The sample's Python is a shell script that only says its version.
    place.ask("python=3.11", "hello", pip=("six",))
    finished = envbuilder("build", str(place.model), *ENGINE, "-t", "never:1")
    assert finished.returncode in (4, 6), finished.stderr
    assert "Traceback" not in finished.stderr
    assert "hint: " in finished.stderr
