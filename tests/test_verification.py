"""Every way in which somebody, or something, can change an environment is seen and named."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from envbuilder import digest, local_python, verification
from envbuilder.errors import InvalidFileError, LockMismatchError, UnreachableError
from envbuilder.installer.wheels import wheel_path
from envbuilder.lockfile import Lockfile
from tests import small_environment as environments
from tests.conftest import command_line
from tests.package_index import record_hash, wheel
from tests.small_environment import MINOR, SITE, TOP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envbuilder.comparison import Deviation
    from envbuilder.machine import Machine
    from tests.package_index import PackageIndex
    from tests.small_environment import Reproduce

reproduce = environments.reproduce
small_index = environments.small_index
small_machine = environments.small_machine
small_model = environments.small_model

pytestmark = pytest.mark.process

TAG = f"cpython-{MINOR.replace('.', '')}"


@pytest.fixture
def prefix(reproduce: Reproduce) -> Path:
    """An environment that was used: its modules have bytecode."""
    made = reproduce().prefix
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run((made / "bin/python", "-c", "import top.lazy, part"), check=True, env=environ)
    subprocess.run((made / "bin/python", "-OO", "-c", "import top.lazy"), check=True, env=environ)
    assert len(list((made / SITE / "top/__pycache__").iterdir())) == 4
    return made


def deviations(prefix: Path, machine: Machine, lock: Path | None = None) -> tuple[Deviation, ...]:
    return verification.verify(prefix, lock, machine=machine).deviations


def test_an_environment_that_was_used_is_as_locked(prefix: Path, small_machine: Machine) -> None:
    found = verification.verify(prefix, None, machine=small_machine)
    assert found.deviations == ()
    assert (found.packages, found.files > 20) == (2, True)
    assert found.to_dict()["ok"] is True


def flip(prefix: Path) -> None:
    file = prefix / SITE / "top/native.so"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)


def change_with_its_record(prefix: Path) -> None:
    """Change a module so that RECORD, and so pip and uv, find nothing wrong with it."""
    file, record = prefix / SITE / "top/lazy.py", prefix / SITE / "top-1.0.dist-info/RECORD"
    old, new = file.read_bytes(), b"x = 2\n"
    file.write_bytes(new)
    text = record.read_text()
    assert record_hash(old) in text
    record.write_text(text.replace(record_hash(old), record_hash(new)))


def install_by_hand(prefix: Path, *what: str) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(prefix), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    command = (find_uv_bin(), "pip", "install", "-q", "--offline", "--no-index", "--no-cache", "--no-deps")
    subprocess.run((*command, "--python", str(prefix / "bin/python"), *what), check=True, env=environ)


def install_another(prefix: Path) -> None:
    file = prefix.parent / "more-1.0-py3-none-any.whl"
    file.write_bytes(wheel("more").data)
    install_by_hand(prefix, str(file))


def upgrade(prefix: Path) -> None:
    file = prefix.parent / "part-2.0-py3-none-any.whl"
    file.write_bytes(wheel("part", "2.0").data)
    install_by_hand(prefix, str(file))


def remove_package(prefix: Path) -> None:
    for path in (prefix / SITE).glob("part*"):
        shutil.rmtree(path)


def forge_bytecode(prefix: Path) -> None:
    """Let Python run other code than the module's, with a file that it takes for the module's."""
    cached = prefix / SITE / f"top/__pycache__/lazy.{TAG}.pyc"
    code = compile("x = 3\n", "lazy.py", "exec")
    cached.write_bytes(cached.read_bytes()[:16] + marshal.dumps(code))


def break_bytecode(prefix: Path) -> None:
    cached = prefix / SITE / f"top/__pycache__/lazy.{TAG}.opt-2.pyc"
    cached.write_bytes(cached.read_bytes()[:20] + os.urandom(50))


def hide_unchecked_bytecode(prefix: Path) -> None:
    """Put code for a module that nobody has imported yet, valid whatever the module says."""
    code = marshal.dumps(compile("import os\n", "__init__.py", "exec"))
    cached = prefix / SITE / f"part/__pycache__/__init__.{TAG}.pyc"
    source = importlib.util.source_hash((prefix / SITE / "part/__init__.py").read_bytes())
    cached.write_bytes(importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + source + code)


def link_file(prefix: Path) -> None:
    file = prefix / SITE / "top/lazy.py"
    other = prefix.parent / "lazy.py"
    shutil.move(file, other)
    file.symlink_to(other)


def other_python(prefix: Path) -> None:
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to(sys.executable)


def system_packages(prefix: Path) -> None:
    file = prefix / "pyvenv.cfg"
    file.write_text(
        file.read_text().replace("include-system-site-packages = false", "include-system-site-packages = true")
    )


def replace_script(prefix: Path) -> None:
    file = prefix / "bin/top"
    file.write_text(file.read_text().replace("top", "os"))


def add_pth(prefix: Path) -> None:
    (prefix / SITE / "sneaky.pth").write_text("import os\n")


def make_executable(prefix: Path) -> None:
    (prefix / "share/top/data.txt").chmod(0o755)


def hide_in_meta(prefix: Path) -> None:
    (prefix / "envbuilder-meta/lib.py").write_text("")


TAMPERED = [
    (flip, ("changed", "top", f"{SITE}/top/native.so", "has sha256:")),
    (change_with_its_record, ("changed", "top", f"{SITE}/top/lazy.py", "has sha256:")),
    (lambda prefix: (prefix / SITE / "top/lazy.py").unlink(), ("missing", "top", f"{SITE}/top/lazy.py", "not there")),
    (remove_package, ("missing package", "part", "", "1.0 is locked")),
    (install_another, ("extra package", "more", "", "1.0 is not locked")),
    (upgrade, ("other version", "part", "", "locked is 1.0, here is 2.0")),
    (forge_bytecode, ("changed", "top", f"{SITE}/top/__pycache__/lazy.{TAG}.pyc", "is not the bytecode of its module")),
    (break_bytecode, ("changed", "top", f"{SITE}/top/__pycache__/lazy.{TAG}.opt-2.pyc", "is not the bytecode")),
    (hide_unchecked_bytecode, ("changed", "part", f"{SITE}/part/__pycache__/__init__.{TAG}.pyc", "is not the")),
    (link_file, ("changed", "top", f"{SITE}/top/lazy.py", "links to ")),
    (other_python, ("changed", "the environment", "bin/python", "links to ")),
    (system_packages, ("changed", "the environment", "pyvenv.cfg", "has sha256:")),
    (replace_script, ("changed", "top", "bin/top", "has sha256:")),
    (add_pth, ("extra", "", f"{SITE}/sneaky.pth", "belongs to nothing")),
    (make_executable, ("changed", "top", "share/top/data.txt", "can be run, and is not to")),
    (
        lambda prefix: (prefix / SITE / f"{TAG}.pyc").write_bytes(b""),
        ("extra", "", f"{SITE}/{TAG}.pyc", "belongs to nothing"),
    ),
    (hide_in_meta, ("extra", "", "envbuilder-meta/lib.py", "belongs to nothing")),
    (
        lambda prefix: os.mkfifo(prefix / SITE / "pipe"),
        ("extra", "", f"{SITE}/pipe", "belongs to nothing"),
    ),
]


@pytest.mark.parametrize(
    ("tamper", "expected"), TAMPERED, ids=[f"{number}-{one[1][0]}-{one[1][3]}" for number, one in enumerate(TAMPERED)]
)
def test_what_was_tampered_with_is_named(
    tamper: Callable[[Path], object],
    expected: tuple[str, str, str, str],
    prefix: Path,
    small_machine: Machine,
) -> None:
    tamper(prefix)
    found = deviations(prefix, small_machine)
    kind, package, path, detail = expected
    assert [
        one for one in found if (one.kind, one.package, one.path) == (kind, package, path) and detail in one.detail
    ], found


def test_a_changed_byte_is_the_only_thing_that_is_told(prefix: Path, small_machine: Machine) -> None:
    flip(prefix)
    (found,) = deviations(prefix, small_machine)
    assert found.path == f"{SITE}/top/native.so"
    flip(prefix)
    assert deviations(prefix, small_machine) == ()


def test_a_python_of_another_minor_version_is_told(prefix: Path, small_machine: Machine) -> None:
    minors = ("3.8", "3.9", "3.10", "3.12", "3.13")
    environ = dict(small_machine.settings.place_environ)
    for minor in minors:
        try:
            other = local_python.find(minor, subdir=local_python.this_subdir(), environ=environ)
        except Exception:  # noqa: BLE001, S112 - this machine has not all of them
            continue
        break
    else:
        pytest.skip("this machine has one Python only")
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to(other.executable)
    found = deviations(prefix, small_machine)
    assert ("other python", f"is Python {other.version}, locked is {MINOR}") in [
        (one.kind, one.detail) for one in found
    ]


def test_a_python_that_is_gone_is_told(prefix: Path, small_machine: Machine) -> None:
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to("/nowhere/python3.11")
    found = deviations(prefix, small_machine)
    assert ("other python", "is not there, or does not run") in [(one.kind, one.detail) for one in found]


def test_the_lock_that_is_named_wins_over_the_one_that_is_kept(
    prefix: Path, small_machine: Machine, tmp_path: Path
) -> None:
    """Who changes the environment can change its own lock too; not the one that is kept elsewhere."""
    kept = prefix / "envbuilder-meta/conda-lock.yml"
    outside = tmp_path / "conda-lock.yml"
    shutil.copy(kept, outside)
    upgrade(prefix)
    (lock,) = Lockfile.parse(kept.read_text(), file="kept").locks
    part = replace(lock.packages[0], version="2.0", url=lock.packages[0].url.replace("1.0", "2.0"))
    part = replace(part, sha256=digest.of_bytes(wheel("part", "2.0").data))
    assert part.name == "part"
    kept.write_text(Lockfile.of([replace(lock, packages=(part, lock.packages[1]))]).to_text())
    named = {(one.kind, one.package) for one in deviations(prefix, small_machine, outside)}
    assert ("other version", "part") in named


def test_a_lock_that_was_edited_is_refused(prefix: Path, small_machine: Machine) -> None:
    kept = prefix / "envbuilder-meta/conda-lock.yml"
    kept.write_text(kept.read_text().replace("version: '1.0'", "version: '2.0'"))
    with pytest.raises(LockMismatchError, match="the file was edited or damaged"):
        deviations(prefix, small_machine)


def test_an_archive_that_was_damaged_in_the_cache_is_fetched_again(
    prefix: Path, small_machine: Machine, small_index: PackageIndex
) -> None:
    file = wheel_path(TOP.locked(), small_machine.wheels)
    file.write_bytes(b"damaged")
    small_index.asked.clear()
    assert deviations(prefix, small_machine) == ()
    assert small_index.asked == [f"/files/{TOP.name}"]
    offline = replace(small_machine, settings=replace(small_machine.settings, offline=True))
    assert deviations(prefix, offline) == ()
    file.unlink()
    with pytest.raises(UnreachableError, match="is not in the caches"):
        deviations(prefix, offline)


def test_what_is_no_environment_of_ours_is_refused(tmp_path: Path, small_machine: Machine) -> None:
    with pytest.raises(InvalidFileError) as raised:
        deviations(tmp_path, small_machine)
    (problem,) = raised.value.problems
    assert problem.what == "there is no environment that envbuilder made"
    assert problem.fix is not None
    (tmp_path / "envbuilder-meta").mkdir()
    (tmp_path / "envbuilder-meta/prefix.json").write_text("{}")
    with pytest.raises(InvalidFileError, match="this is no record"):
        deviations(tmp_path, small_machine)


def test_the_command_exits_with_1_and_a_table(prefix: Path, small_machine: Machine) -> None:
    cache = small_machine.settings.cache_dir
    good = command_line(cache, "verify", str(prefix), "--offline")
    assert (good.returncode, "as locked: 2 packages" in good.stderr, good.stdout) == (0, True, "")
    flip(prefix)
    bad = command_line(cache, "verify", str(prefix), "--offline")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert f"changed  top      {SITE}/top/native.so" in bad.stderr
    as_json = json.loads(command_line(cache, "verify", str(prefix), "--offline", "--json").stdout)
    assert as_json["ok"] is False
    assert as_json["deviations"][0]["package"] == "top"
