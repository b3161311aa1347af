"""Locks that are found, kept and enforced, through the command line and an index that moves on meanwhile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import BASE, EXAMPLES, command_line
from tests.package_index import PackageIndex, running_index, wheel

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Call = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.network, pytest.mark.process]

ENGINE = ("--engine", "oci", "--base", BASE)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index() as started:
        started.add(wheel("top", "1.0", requires=("part", "other")), wheel("part", "1.0"), wheel("other", "1.0"))
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


def versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^- name: (\S+)\n  version: '?([\d.]+)'?$", lock.read_text(), re.MULTILINE))


def new_versions(index: PackageIndex) -> None:
    index.add(wheel("part", "2.0"), wheel("other", "2.0"))


def test_locking_again_changes_nothing_and_an_update_only_what_it_names(
    envbuilder: Call, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    lock = tmp_path / "model.conda-lock.yml"
    again = ("lock", str(model), *ENGINE, "-o", str(lock))
    assert envbuilder(*again).returncode == 0
    first = lock.read_bytes()
    new_versions(index)
    assert envbuilder(*again).returncode == 0
    assert lock.read_bytes() == first
    assert envbuilder(*again, "--update", "Part").returncode == 0
    assert versions(lock) == {"top": "1.0", "part": "2.0", "other": "1.0"}
    (model / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [top, other>=2]}]\n")
    assert envbuilder(*again).returncode == 0
    assert versions(lock) == {"top": "1.0", "part": "2.0", "other": "2.0"}


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (("--update", "prt"), "`prt` is not in the lock", "did you mean `part`?"),
        (("--update", "zzz"), "`zzz` is not in the lock", "name a package that the lock holds"),
        (("--exclude-newer", "yesterday"), "`yesterday` is not a date", "2026-01-31"),
    ],
)
def test_an_update_of_nothing_is_refused(
    arguments: tuple[str, ...], what: str, fix: str, envbuilder: Call, model: Path, tmp_path: Path
) -> None:
    again = ("lock", str(model), *ENGINE, "-o", str(tmp_path / "x.yml"))
    assert envbuilder(*again).returncode == 0
    refused = envbuilder(*again, *arguments)
    assert refused.returncode == 2
    assert what in refused.stderr
    assert fix in refused.stderr


def test_an_update_without_a_lock_is_refused(envbuilder: Call, model: Path) -> None:
    refused = envbuilder("lock", str(model), *ENGINE, "--update", "part")
    assert refused.returncode == 2
    assert "there is no lock to update" in refused.stderr


def test_the_workspaces_lock_is_found_by_what_is_asked_and_shared(
    envbuilder: Call, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    where = ("--workspace", str(workspace))
    made = envbuilder("lock", str(model), *ENGINE, *where)
    assert made.returncode == 0, made.stderr
    (lock,) = (workspace / "locks").iterdir()
    assert made.stdout.strip() == str(lock)
    new_versions(index)
    other = tmp_path / "other"
    other.mkdir()
    (other / "MLmodel").write_bytes((model / "MLmodel").read_bytes())
    (other / "requirements.txt").write_text("# the same, elsewhere\nTop\n")
    rendered = envbuilder("render", str(other), *ENGINE, *where, "--python", "3.11", "-o", str(tmp_path / "context"))
    assert rendered.returncode == 0, rendered.stderr
    assert "3 packages, kept from before" in rendered.stderr
    written = "".join(file.read_text() for file in (tmp_path / "context").rglob("*.txt"))
    assert "part==1.0 " in written
    assert "part==2.0" not in written


def test_a_lock_beside_the_model_is_enforced(envbuilder: Call, model: Path, tmp_path: Path) -> None:
    beside = model / "conda-lock.yml"
    assert envbuilder("lock", str(model), *ENGINE, "-o", str(beside)).returncode == 0
    target = ("render", str(model), *ENGINE, "-o")
    assert envbuilder(*target, str(tmp_path / "context")).returncode == 0
    (model / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [top, part<2]}]\n")
    stale = envbuilder(*target, str(tmp_path / "stale"))
    assert stale.returncode == 11
    assert "the model's environment changed since it was locked" in stale.stderr
    assert f"envbuilder lock MODEL --base {BASE} -o {beside}" in stale.stderr
    assert not (tmp_path / "stale").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [("version: '1.0'", "version: '2.0'"), ("sha256: ", "sha256: 0"), ("name: part", "name: prat")],
    ids=["version", "hash", "name"],
)
def test_a_lock_that_was_edited_is_refused(old: str, new: str, envbuilder: Call, model: Path, tmp_path: Path) -> None:
    lock = tmp_path / "x.yml"
    assert envbuilder("lock", str(model), *ENGINE, "-o", str(lock)).returncode == 0
    text = lock.read_text()
    assert old in text
    edited = (
        re.sub(r"(sha256: )0(\w{63})\w", r"\1\g<2>0", text.replace(old, new, 1))
        if "sha" in old
        else text.replace(old, new, 1)
    )
    lock.write_text(edited)
    refused = envbuilder("build", str(model), *ENGINE, "--lock", str(lock), "-t", "never:1")
    assert refused.returncode in (2, 11), refused.stderr
    assert "edited or damaged" in refused.stderr or "sha256" in refused.stderr
    assert "hint: " in refused.stderr
