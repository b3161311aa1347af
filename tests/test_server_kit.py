from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import server, server_kit
from envbuilder.base_image import Interpreter
from envbuilder.errors import BaseImageError, LockMismatchError, UnreachableError
from envbuilder.machine import Machine
from envbuilder.oci_image import Platform
from envbuilder.reporter import Reporter
from envbuilder.server_kit import ServerKit
from envbuilder.settings import Settings
from tests import package_index as package_indexes
from tests.package_index import PackageIndex, wheel

package_index = package_indexes.package_index
INTERPRETER = Interpreter(version="3.11.2", executable="/usr/bin/python3.11", glibc="2.36")
AMD64 = Platform.parse("linux/amd64")


def test_minors_are_in_the_order_of_versions() -> None:
    found = server_kit.minors()
    assert found[0] == "3.8"
    assert list(found) == [f"3.{number}" for number in range(8, 8 + len(found))]


@pytest.mark.parametrize("minor", server_kit.minors())
def test_every_kit_pins_each_package_by_hash(minor: str) -> None:
    lines = server_kit._lines(server_kit.load(minor, base_reference="base").requirements)
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_the_code_is_the_server_and_nothing_else() -> None:
    files = dict(server_kit.load("3.11", base_reference="base").files)
    folder = Path(server.__path__[0])
    assert set(files) == {f"envbuilder/server/{path.name}" for path in (*folder.glob("*.py"), folder / "docs.html")}
    assert files["envbuilder/server/__main__.py"] == (folder / "__main__.py").read_bytes()
    assert list(files) == sorted(files)


@pytest.mark.parametrize("minor", ["3.7", "3.99", "2.7", "../server"])
def test_a_python_the_server_does_not_run_on_is_refused(minor: str) -> None:
    with pytest.raises(BaseImageError) as raised:
        server_kit.load(minor, base_reference="python:old")
    known = server_kit.minors()
    assert str(raised.value) == (
        f"the server does not run on Python {minor}, which `python:old` provides\n  at python:old\n"
        f"  fix: choose a base image with Python {known[0]} to {known[-1]}"
    )


def test_the_digest_counts_requirements_paths_and_content() -> None:
    kit = ServerKit(requirements="a==1", files=(("a.py", b"1"),))
    assert ServerKit(requirements="a==1", files=(("a.py", b"1"),)).digest == kit.digest
    others = (
        replace(kit, requirements="a==2"),
        replace(kit, files=(("b.py", b"1"),)),
        replace(kit, files=(("a.py", b"2"),)),
        replace(kit, files=()),
    )
    assert len({kit.digest, *(other.digest for other in others)}) == 5


@pytest.fixture
def machine(tmp_path: Path, package_index: PackageIndex) -> Machine:
    settings = Settings(
        cache_dir=tmp_path / "cache",
        index_url=package_index.url,
        environ=(("PATH", str(Path(sys.executable).parent)), ("HOME", str(tmp_path))),
    )
    return Machine(settings=settings, reporter=Reporter())


KIT_WHEEL = wheel("web", requires=("not-asked-for",))
KIT = ServerKit(requirements=f"# locked\nweb==1.0 \\\n    --hash={KIT_WHEEL.digest}\n", files=())


@pytest.mark.process
def test_the_index_is_asked_only_once(machine: Machine, package_index: PackageIndex) -> None:
    package_index.add(KIT_WHEEL)
    first = server_kit.packages(KIT, interpreter=INTERPRETER, platform=AMD64, machine=machine)
    assert [(package.name, package.version, package.sha256) for package in first] == [("web", "1.0", KIT_WHEEL.digest)]
    package_index.asked.clear()
    assert server_kit.packages(KIT, interpreter=INTERPRETER, platform=AMD64, machine=machine) == first
    assert package_index.asked == []


@pytest.mark.process
def test_an_index_with_other_files_is_refused(machine: Machine, package_index: PackageIndex) -> None:
    package_index.add(wheel("web"))
    with pytest.raises(LockMismatchError) as raised:
        server_kit.packages(KIT, interpreter=INTERPRETER, platform=AMD64, machine=machine)
    (problem,) = raised.value.problems
    assert problem.what == "the index offers another `web-1.0-py3-none-any.whl` than the server was locked with"
    assert str(problem.where) == package_index.file_url("web-1.0-py3-none-any.whl")
    assert problem.fix == "use an index that mirrors files unchanged"
    assert not machine.locks.exists() or not list(machine.locks.iterdir())


@pytest.mark.process
def test_offline_without_knowing_the_servers_packages_is_told(package_index: PackageIndex, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, index_url=package_index.url, offline=True)
    machine = Machine(settings=settings, reporter=Reporter())
    kit = server_kit.load("3.11", base_reference="base")
    with pytest.raises(UnreachableError) as raised:
        server_kit.packages(kit, interpreter=INTERPRETER, platform=AMD64, machine=machine)
    assert str(raised.value) == (
        "where the server's packages for Python 3.11 are is not in the caches, and `--offline` forbids to ask the "
        "index\n  fix: build once without `--offline`, or bring the cache of a machine that has built for this Python"
    )
    assert package_index.asked == []
