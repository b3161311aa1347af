from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import layer, sandbox
from envbuilder.errors import BuildFailedError, EnvBuilderError, LockMismatchError
from envbuilder.image_store import ImageStore
from envbuilder.installer import wheels
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import package_index as package_indexes
from tests import root_file_system as root_file_systems
from tests.package_index import PackageIndex, WheelFile, record_hash, wheel
from tests.root_file_system import own_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.installer.wheels import Tree

package_index = package_indexes.package_index
root_file_system = root_file_systems.root_file_system

INTERPRETER = own_interpreter()
SITE = f"opt/env/lib/python{INTERPRETER.minor}/site-packages"
CACHED = f"__pycache__/{{}}.{sys.implementation.cache_tag}.pyc"
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=Reporter())


def keep(machine: Machine, *files: WheelFile) -> None:
    for file in files:
        path = wheels.wheel_path(file.locked(), machine.wheels)
        path.parent.mkdir(parents=True)
        path.write_bytes(file.data)


def install(machine: Machine, file: WheelFile) -> Path:
    """Install one wheel without bytecode and return where."""
    keep(machine, file)
    wheels._install(file.locked(), machine.trees / "new", "/opt/env", INTERPRETER, machine)
    return machine.trees / "new"


@pytest.fixture
def grow(root_file_system: Path) -> Callable[..., tuple[Tree, ...]]:
    reason = sandbox.is_allowed()
    if reason is not None:
        pytest.skip(f"this machine allows no sandbox: {reason}")

    def grown(machine: Machine, *files: WheelFile) -> tuple[Tree, ...]:
        return wheels.grow(
            [file.locked() for file in files],
            prefix="/opt/env",
            interpreter=INTERPRETER,
            lower=lambda: (root_file_system,),
            machine=machine,
        )

    return grown


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FULL = wheel(
    "full",
    files={
        "full/__init__.py": b"x = {'b', 'a'}\n",
        "full/native.so": b"ELF",
        "full/__pycache__/__init__.cpython-30.pyc": b"stale",
        "full-1.0.data/scripts/tool": b"#!python\nprint(1)\n",
        "full-1.0.data/scripts/shell": b"#!/bin/sh\n",
        "full-1.0.data/data/share/full/data.txt": b"data",
        "full-1.0.data/headers/full.h": b"header",
        "full-1.0.data/purelib/pure.py": b"pure = 1\n",
        "full-1.0.data/platlib/plat.py": b"plat = 1\n",
    },
    entry_points="[console_scripts]\nfull = full:main\n[gui_scripts]\nwindow = full:window\n",
    executables=("full/native.so",),
)


def test_every_scheme_has_its_place(machine: Machine) -> None:
    found = files(install(machine, FULL))
    info = f"{SITE}/full-1.0.dist-info"
    assert set(found) == {
        f"{SITE}/full/__init__.py",
        f"{SITE}/full/native.so",
        f"{SITE}/pure.py",
        f"{SITE}/plat.py",
        "opt/env/bin/full",
        "opt/env/bin/window",
        "opt/env/bin/tool",
        "opt/env/bin/shell",
        "opt/env/share/full/data.txt",
        f"opt/env/include/site/python{INTERPRETER.minor}/full/full.h",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED", "entry_points.txt")),
    }
    assert found[f"{info}/INSTALLER"] == b"envbuilder\n"


def test_scripts_start_with_the_environments_python(machine: Machine) -> None:
    root = install(machine, FULL)
    for name in ("full", "window", "tool"):
        script = root / "opt/env/bin" / name
        assert script.read_bytes().splitlines()[0] == b"#!/opt/env/bin/python"
        assert os.access(script, os.X_OK)
    assert (root / "opt/env/bin/shell").read_bytes() == b"#!/bin/sh\n"
    assert b"from full import main" in (root / "opt/env/bin/full").read_bytes()
    assert os.access(root / SITE / "full/native.so", os.X_OK)
    assert not os.access(root / SITE / "full/__init__.py", os.X_OK)


def test_record_lists_every_file_with_its_hash(machine: Machine) -> None:
    root = install(machine, FULL)
    record = root / SITE / "full-1.0.dist-info/RECORD"
    listed = {}
    for path, checksum, size in csv.reader(record.read_text().splitlines()):
        listed[os.path.relpath(os.path.normpath(root / SITE / path), root)] = (checksum, size)
    found = files(root)
    assert set(listed) == set(found)
    own = record.relative_to(root).as_posix()
    assert listed.pop(own) == ("", "")
    for path, (checksum, size) in listed.items():
        assert (checksum, size) == (f"sha256={record_hash(found[path])}", str(len(found[path])))


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "../../../../../../evil",
        "../../../../../etc/passwd",
        "/etc/evil",
        "evil-1.0.data/scripts/../../evil",
        "evil-1.0.data/data/../evil",
    ],
)
def test_a_path_that_leaves_its_place_is_refused(path: str, machine: Machine) -> None:
    file = wheel("evil", files={"evil.py": b"", path: b"evil"})
    with pytest.raises(EnvBuilderError) as raised:
        install(machine, file)
    assert isinstance(raised.value, BuildFailedError | LockMismatchError)
    assert not [found for found in machine.settings.cache_dir.rglob("*") if found.name in ("evil", "passwd")]


def test_an_entry_point_cannot_leave_the_folder_of_scripts(machine: Machine) -> None:
    file = wheel("evil", entry_points="[console_scripts]\n../../evil = evil:main\n")
    with pytest.raises(BuildFailedError) as raised:
        install(machine, file)
    (problem,) = raised.value.problems
    assert problem.what == "the wheel of `evil` holds a path that leaves the environment: '../../evil'"
    assert problem.fix is not None


BROKEN = wheel("broken")
NOT_LISTED = wheel("broken", recorded=False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BROKEN.data[: len(BROKEN.data) // 2],
        BROKEN.data.replace(b"version = '1.0'", b"version = '6.6'"),
        NOT_LISTED.data,
        wheel("other").data,
        BROKEN.data.replace(b"Wheel-Version: 1.0", b"Wheel-Version: 9.0"),
    ],
    ids=["empty", "truncated", "damaged inside", "no RECORD", "another package", "a newer format"],
)
def test_what_is_no_wheel_is_told(data: bytes, machine: Machine) -> None:
    with pytest.raises(LockMismatchError) as raised:
        install(machine, replace(BROKEN, data=data))
    (problem,) = raised.value.problems
    assert problem.what.startswith("`broken-1.0-py3-none-any.whl` is not a wheel that can be installed (")
    assert str(problem.where) == "https://index.example/broken-1.0-py3-none-any.whl"
    assert problem.fix == "lock another version of it, or tell its authors"


def test_only_missing_wheels_are_fetched(package_index: PackageIndex, machine: Machine) -> None:
    files = [wheel(name) for name in ("one", "two", "three")]
    package_index.add(*files)
    locked = [file.locked(package_index.file_url("").rstrip("/")) for file in files]
    wheels.fetch(locked[:1], machine)
    wheels.fetch(locked, machine)
    assert sorted(package_index.asked) == sorted(f"/files/{file.name}" for file in files)
    for file, package in zip(files, locked, strict=True):
        assert wheels.wheel_path(package, machine.wheels).read_bytes() == file.data
    wheels.fetch(locked, machine)
    assert len(package_index.asked) == 3


@pytest.mark.parametrize("cut_off", [True, False], ids=["cut off", "replaced"])
def test_a_wheel_that_is_not_the_locked_one_is_not_kept(
    cut_off: bool,  # noqa: FBT001
    package_index: PackageIndex,
    machine: Machine,
) -> None:
    good, bad = wheel("good"), wheel("bad")
    package_index.add(good, bad)
    if cut_off:
        package_index.cut_off.add(bad.name)
    else:
        package_index.files[bad.name] = wheel("bad", requires=("more",)).data
    locked = [file.locked(package_index.file_url("").rstrip("/")) for file in (good, bad)]
    with pytest.raises(EnvBuilderError):
        wheels.fetch(locked, machine)
    assert not wheels.wheel_path(locked[1], machine.wheels).exists()
    assert not list(machine.wheels.rglob(".tmp-*"))


TRICKY = wheel(
    "tricky",
    files={
        "tricky/__init__.py": b"letters = {'c', 'a', 'b'}\ncheck = lambda x: x in {'p', 'q', 'r'}\n",
        "tricky/broken.py": b"def (:\n",
        "tricky/null.py": b"x = 1\0\n",
        "tricky/latin.py": b"# -*- coding: no-such -*-\n",
        "tricky/deep.py": b"(" * 5000 + b")" * 5000 + b"\n",
        "tricky/tests/test_a.py": b"",
        "tricky/test/__init__.py": b"",
        "tricky/testing.py": b"",
        "tests/test_b.py": b"",
    },
)


@pytest.mark.process
def test_bytecode_is_by_hash_and_names_the_images_paths(
    grow: Callable[..., tuple[Tree, ...]], machine: Machine
) -> None:
    keep(machine, TRICKY)
    (tree,) = grow(machine, TRICKY)
    found = files(tree.directory)
    compiled = {path for path in found if path.endswith(".pyc")}
    assert compiled == {f"{SITE}/tricky/{CACHED.format(name)}" for name in ("__init__", "testing")}
    code = found[f"{SITE}/tricky/{CACHED.format('__init__')}"]
    assert code[:4] == importlib.util.MAGIC_NUMBER
    assert code[4:8] == b"\x01\0\0\0", "PEP 552: by hash, not checked"
    assert code[8:16] == importlib.util.source_hash(found[f"{SITE}/tricky/__init__.py"])
    assert f"/{SITE}/tricky/__init__.py".encode() in code
    assert str(machine.settings.cache_dir).encode() not in code
    assert tree.size == len(TRICKY.data)


@pytest.mark.process
def test_two_machines_grow_equal_trees(grow: Callable[..., tuple[Tree, ...]], tmp_path: Path, machine: Machine) -> None:
    other = replace(machine, settings=Settings(cache_dir=tmp_path / "a rather longer name" / "cache"))
    layers = []
    for number, one in enumerate((machine, other)):
        keep(one, TRICKY, FULL)
        old = os.umask((0o022, 0o077)[number])
        try:
            trees = grow(one, TRICKY, FULL) if number else grow(one, FULL, TRICKY)
        finally:
            os.umask(old)
        store = ImageStore(tmp_path / "store")
        entries = [entry for tree in trees for entry in layer.tree_entries(tree.directory)]
        layers.append(layer.write_layer(store, entries, comment=""))
    assert layers[0] == layers[1]


@pytest.mark.process
def test_a_tree_is_grown_once_and_for_one_python(
    grow: Callable[..., tuple[Tree, ...]], machine: Machine, root_file_system: Path
) -> None:
    keep(machine, FULL)
    (first,) = grow(machine, FULL)
    wheels.wheel_path(FULL.locked(), machine.wheels).write_bytes(b"is not read again")
    (second,) = grow(machine, FULL)
    assert (first.directory, first.key) == (second.directory, second.key)
    assert [path.name for path in machine.trees.iterdir()] == [first.key]
    other = replace(INTERPRETER, version="3.99.0")
    keys = {
        wheels._tree(FULL.locked(), prefix, interpreter, machine, has_bytecode=has_bytecode).key
        for prefix, interpreter, has_bytecode in (
            ("/opt/env", other, True),
            ("/opt/envbuilder", INTERPRETER, True),
            ("/opt/env", INTERPRETER, False),
        )
    }
    assert len(keys | {first.key}) == 4
    assert root_file_system.is_dir()


@pytest.mark.process
def test_a_base_whose_python_does_not_run_is_told(machine: Machine, root_file_system: Path) -> None:
    keep(machine, FULL)
    with pytest.raises(EnvBuilderError):
        wheels.grow(
            [FULL.locked()],
            prefix="/opt/env",
            interpreter=replace(INTERPRETER, executable="/usr/lib/ld-absent"),
            lower=lambda: (root_file_system,),
            machine=machine,
        )
    assert list(machine.trees.iterdir()) == []


@pytest.mark.process
def test_an_interpreter_that_fails_is_told(machine: Machine, root_file_system: Path) -> None:
    (machine.trees / "x").mkdir(parents=True)
    with pytest.raises(BuildFailedError, match="could not compile the packages") as raised:
        wheels.compile_bytecode(
            machine.trees,
            ["x"],
            interpreter=replace(INTERPRETER, executable=next(iter(loaders(root_file_system)))),
            lower=(root_file_system,),
        )
    assert raised.value.problems[0].fix is not None


def loaders(root: Path) -> list[str]:
    return [f"/usr/lib/{path.name}" for path in (root / "usr/lib").glob("ld-*")]


@pytest.mark.process
def test_two_processes_can_grow_the_same_tree(
    grow: Callable[..., tuple[Tree, ...]], machine: Machine, root_file_system: Path
) -> None:
    keep(machine, FULL, TRICKY)
    code = """
import sys
from pathlib import Path
from tests.installer import test_wheels as given
from envbuilder.installer import wheels
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
machine = Machine(settings=Settings(cache_dir=Path(sys.argv[1])), reporter=Reporter())
wheels.grow([given.FULL.locked(), given.TRICKY.locked()], prefix="/opt/env", interpreter=given.INTERPRETER,
            lower=lambda: (Path(sys.argv[2]),), machine=machine)
"""
    command = (sys.executable, "-c", code, str(machine.settings.cache_dir), str(root_file_system))
    children = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    names = {path.name for path in machine.trees.iterdir()}
    trees = grow(machine, FULL, TRICKY)
    assert names == {tree.key for tree in trees}
    assert (trees[1].directory / SITE / "tricky" / CACHED.format("testing")).is_file()
