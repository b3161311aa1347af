"""Locks for other platforms than this one's, for several, and for no base, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.conftest import BASE, EXAMPLES, command_line
from tests.package_index import PackageIndex, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Call = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.network, pytest.mark.process]

TAGS = {
    "linux-64": "cp311-cp311-manylinux_2_17_x86_64",
    "linux-aarch64": "cp311-cp311-manylinux_2_17_aarch64",
    "osx-arm64": "cp311-cp311-macosx_11_0_arm64",
    "osx-64": "cp311-cp311-macosx_10_9_x86_64",
    "win-64": "cp311-cp311-win_amd64",
}


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index() as started:
        started.add(wheel("top", "1.0", requires=("part", 'colour; sys_platform == "win32"')))
        started.add(wheel("colour", "1.0"), *(wheel("part", "1.0", tag=tag) for tag in TAGS.values()))
        yield started


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    (folder / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [top]}]\n")
    return folder


@pytest.fixture
def envbuilder(cache: Path, index: PackageIndex) -> Call:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command_line(cache, *arguments, ENVBUILDER_EXTRA_INDEX_URLS=index.url)

    return call


def platforms(*names: str) -> list[str]:
    return [word for name in names for word in ("--platform", name)]


def filenames(lock: Path, subdir: str) -> list[str]:
    items = yaml.safe_load(lock.read_text())["package"]
    return [item["url"].rpartition("/")[2] for item in items if item["platform"] == subdir]


def test_one_lock_holds_every_platform_each_with_its_own_wheels(
    envbuilder: Call, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    lock = tmp_path / "all.conda-lock.yml"
    made = envbuilder("lock", str(model), "--no-base", *platforms(*TAGS), "-o", str(lock))
    assert made.returncode == 0, made.stderr
    for subdir, tag in TAGS.items():
        colour = ["colour-1.0-py3-none-any.whl"] if subdir == "win-64" else []
        assert filenames(lock, subdir) == [*colour, f"part-1.0-{tag}.whl", "top-1.0-py3-none-any.whl"]
    # What is there already stays, and its platforms are those to lock for.
    first = lock.read_bytes()
    index.add(*(wheel("part", "2.0", tag=tag) for tag in TAGS.values()))
    assert envbuilder("lock", str(model), "-o", str(lock)).returncode == 0
    assert lock.read_bytes() == first
    assert envbuilder("lock", str(model), "-o", str(lock), "--update", "part").returncode == 0
    assert {name for subdir in TAGS for name in filenames(lock, subdir) if name.startswith("part")} == {
        f"part-2.0-{tag}.whl" for tag in TAGS.values()
    }


def test_conda_lock_renders_each_platform(envbuilder: Call, model: Path, tmp_path: Path) -> None:
    lock = tmp_path / "conda-lock.yml"
    chosen = platforms("linux/amd64", "osx-arm64")
    assert envbuilder("lock", str(model), "--no-base", *chosen, "-o", str(lock)).returncode == 0
    for subdir in ("linux-64", "osx-arm64"):
        rendering = (sys.executable, "-m", "conda_lock", "render", "-k", "env", "-p", subdir, lock.name)
        subprocess.run(rendering, cwd=tmp_path, check=True, capture_output=True)
        rendered = yaml.safe_load((tmp_path / f"conda-{subdir}.lock.yml").read_text())
        (pip,) = [item["pip"] for item in rendered["dependencies"] if isinstance(item, dict)]
        assert [line.partition(" --hash")[0] for line in pip] == ["part == 1.0", "top == 1.0"]


def test_an_image_takes_its_platform_from_a_lock_of_several(envbuilder: Call, model: Path, tmp_path: Path) -> None:
    lock = tmp_path / "x.yml"
    engine = ("--engine", "oci", "--base", BASE)
    chosen = platforms("linux/amd64", "osx-arm64")
    made = envbuilder("lock", str(model), *engine, *chosen, "-o", str(lock), "--json")
    assert made.returncode == 0, made.stderr
    linux, mac = json.loads(made.stdout)["locks"]
    assert (linux["base"]["reference"], mac["base"]) == (BASE, None)
    assert (linux["python_version"].count("."), mac["python_version"]) == (2, "3.11")
    rendered = envbuilder("render", str(model), *engine, "--lock", str(lock), "-o", str(tmp_path / "context"))
    assert rendered.returncode == 0, rendered.stderr
    other = envbuilder("lock", str(model), *platforms("osx-arm64"), "-o", str(tmp_path / "mac.yml"))
    assert other.returncode == 0, other.stderr
    refused = envbuilder(
        "render", str(model), *engine, "--lock", str(tmp_path / "mac.yml"), "-o", str(tmp_path / "other")
    )
    assert refused.returncode == 11
    assert "the lock is for osx-arm64, the image for linux-64" in refused.stderr
    assert f"`envbuilder lock MODEL --platform linux/amd64 -o {tmp_path / 'mac.yml'}`" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "what", "fix"),
    [
        (("--platform", "plan9"), 2, "nothing is locked for `plan9`", "`linux/amd64`, `linux/arm64`, `linux-64`"),
        (("--no-base", "--base", BASE), 2, "`--base` and `--no-base` exclude each other", ""),
        (("--no-base", "--cuda", "twelve"), 2, "`twelve` is not a version of cuda", "write e.g. `12.4`"),
        (
            ("--no-base", *platforms("osx-64", "win-64"), "--format", "pylock"),
            2,
            "the format `pylock` is for one platform",
            "choose one: `--platform` `osx-64` or `win-64`",
        ),
        (("--no-base", "--python", ">=3.99"), 5, "nothing is known of a Python >=3.99", "ask for one of 3.6 to 3.14"),
    ],
)
def test_what_cannot_be_locked_for_is_told(
    arguments: tuple[str, ...], code: int, what: str, fix: str, envbuilder: Call, model: Path
) -> None:
    refused = envbuilder("lock", str(model), *arguments)
    assert refused.returncode == code
    assert what in refused.stderr
    assert fix in refused.stderr
