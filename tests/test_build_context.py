from __future__ import annotations

import io
import json
import os
import re
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import build_context
from envbuilder.build_context import BuildContext
from envbuilder.errors import BaseImageError, InvalidFileError, UnreachableError
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.test_dockerfile import PIP, conda_plan_of, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.build_context import Variant


def context_of(folder: Path, *, variant: Variant = "buildkit", ca: bytes | None = None) -> BuildContext:
    wheel = folder / "wheel" / PIP
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"a wheel")
    return BuildContext.of(plan_of(folder), variant=variant, pip_wheel=wheel, ca=ca)


def tree(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode & 0o777
        content = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def test_the_tar_is_the_same_wherever_and_whenever_it_is_made(tmp_path: Path) -> None:
    first, second = (context_of(tmp_path / name) for name in ("first", "second"))
    assert b"".join(first.tar_stream()) == b"".join(second.tar_stream())


def test_the_folder_holds_what_the_tar_holds(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    before = os.umask(0o077)
    try:
        context.write(tmp_path / "folder")
    finally:
        os.umask(before)
    unpacked = tmp_path / "unpacked"
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.tar_stream()))) as tar:
        tar.extractall(unpacked, filter="tar")
    assert tree(tmp_path / "folder") == tree(unpacked)


def test_the_files_are_where_the_dockerfile_looks(tmp_path: Path) -> None:
    paths = [entry.path for entry in context_of(tmp_path).entries]
    assert paths == sorted(paths)
    assert {
        "Dockerfile",
        "environment.txt",
        "environment/pyvenv.cfg",
        "environment/bin/python",
        "installer/finish.py",
        f"installer/{PIP}",
        "conda-lock.yml",
        "model/MLmodel",
        "model/data/weights.bin",
        "server.txt",
        "server/lib/python3.11/site-packages/envbuilder/server/__init__.py",
    } <= set(paths)
    links = {entry.path: entry.link for entry in context_of(tmp_path / "again").entries if entry.link}
    assert links["environment/bin/python"] == "/usr/local/bin/python3.11"


def test_requirements_are_names_versions_and_hashes_without_urls(tmp_path: Path) -> None:
    entries = {entry.path: entry.content for entry in context_of(tmp_path).entries}
    text = entries["environment.txt"]
    assert isinstance(text, bytes)
    assert [line.split(b" ")[0] for line in text.splitlines()] == [b"numpy==2.4.6", b"scikit-learn==1.9.1"]
    assert all(b" --hash=sha256:" in line for line in text.splitlines())
    # The lock, which the image keeps, is the one file that says where packages came from.
    naming = [path for path, content in entries.items() if isinstance(content, bytes) and b"index.example" in content]
    assert naming == ["conda-lock.yml"]


def test_a_conda_environment_brings_its_packages_and_no_skeleton(tmp_path: Path) -> None:
    wheel, files = tmp_path / PIP, {}
    wheel.write_bytes(b"a wheel")
    for name in ("gdal", "python"):
        files[name] = tmp_path / f"{name}.conda"
        files[name].write_bytes(name.encode())
    context = BuildContext.of(conda_plan_of(tmp_path), variant="buildkit", pip_wheel=wheel, conda_files=files)
    entries = {entry.path: entry.content for entry in context.entries}
    assert entries["conda/gdal/gdal-1.0-0.conda"] == files["gdal"]
    assert {"installer/conda_link.py", "installer/merge_trees.py", "installer/rattler.txt"} <= entries.keys()
    assert "environment/bin/python" not in entries
    content = entries["conda/job.json"]
    assert isinstance(content, bytes)
    job = json.loads(content)
    assert [one["archive"] for one in job["packages"]] == ["gdal/gdal-1.0-0.conda", "python/python-1.0-0.conda"]
    assert str(tmp_path) not in content.decode()


def test_rattler_needs_a_python_that_an_old_base_does_not_have(tmp_path: Path) -> None:
    plan = conda_plan_of(tmp_path)
    old = replace(plan.base, interpreter=replace(plan.base.interpreter, version="3.9.2"))
    machine = Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=Reporter())
    with pytest.raises(BaseImageError, match=r"Python 3\.10 or newer, `python:3\.11-slim` provides 3\.9\.2") as raised:
        build_context.make(replace(plan, base=old), variant="buildkit", machine=machine)
    assert "--engine oci" in str(raised.value.problems[0].fix)


def test_only_the_classic_builder_gets_the_ca_in_the_context(tmp_path: Path) -> None:
    canary = b"-----BEGIN CERTIFICATE-----"
    for variant, expected in (("classic", True), ("buildkit", False)):
        context = context_of(tmp_path / variant, variant=variant, ca=canary)  # type: ignore[arg-type]
        assert (canary in b"".join(context.tar_stream())) is expected


def test_hard_links_are_made_only_of_files_that_everybody_may_read(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    secret = tmp_path / "model" / "MLmodel"
    open_to_all = tmp_path / "model" / "data" / "weights.bin"
    secret.chmod(0o600)
    open_to_all.chmod(0o644)
    context.write(tmp_path / "folder", link=True)
    assert (tmp_path / "folder" / "model" / "data" / "weights.bin").stat().st_ino == open_to_all.stat().st_ino
    copied = tmp_path / "folder" / "model" / "MLmodel"
    assert copied.stat().st_ino != secret.stat().st_ino
    assert copied.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    taken = tmp_path / "taken"
    taken.mkdir()
    context.write(taken)
    assert (taken / "Dockerfile").exists()
    with pytest.raises(InvalidFileError, match="exists already"):
        context.write(taken)


def test_a_file_that_shrinks_while_it_is_read_ends_the_build(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    weights = tmp_path / "model" / "data" / "weights.bin"
    weights.write_bytes(b"x" * (3 << 20))
    stream = context.tar_stream()
    assert any(len(piece) == 1 << 20 for piece in stream)
    os.truncate(weights, 1 << 20)
    with pytest.raises(InvalidFileError, match="shorter"):
        list(stream)


def test_offline_without_pips_wheel_is_told(tmp_path: Path) -> None:
    machine = Machine(settings=Settings(cache_dir=tmp_path / "cache", offline=True), reporter=Reporter())
    with pytest.raises(UnreachableError) as raised:
        build_context.make(plan_of(tmp_path), variant="buildkit", machine=machine)
    (problem,) = raised.value.problems
    assert re.fullmatch(
        r"`pip-\S+\.whl`, with which the build of a Dockerfile begins, is not in the caches, .*", problem.what
    )
    assert "--engine oci" in str(problem.fix)
