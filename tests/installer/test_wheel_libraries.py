from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder.errors import LockMismatchError, UnreachableError
from envbuilder.installer import wheel_libraries, wheels
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from envbuilder.system_needs import Carried, WheelLibrary
from tests.elf_file import elf
from tests.package_index import WheelFile, wheel

if TYPE_CHECKING:
    from pathlib import Path

TAG = "cp311-cp311-manylinux_2_17_x86_64"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=Reporter())


def keep(machine: Machine, file: WheelFile) -> None:
    path = wheels.wheel_path(file.locked(), machine.wheels)
    path.parent.mkdir(parents=True)
    path.write_bytes(file.data)


def read(machine: Machine, *files: WheelFile, architecture: str = "amd64") -> tuple[Carried, ...]:
    return wheel_libraries.read([file.locked() for file in files], machine, architecture=architecture)


def test_the_libraries_of_a_wheel_are_read_where_they_will_lie(machine: Machine) -> None:
    file = wheel(
        "trees",
        tag=TAG,
        files={
            "trees/_core.cpython-311.so": elf("libgomp.so.1", rpath="$ORIGIN/../trees.libs"),
            "trees.libs/libz-12ab.so.1.2": elf(soname="libz.so.1"),
            "trees-1.0.data/platlib/more/_x.so": elf("libm.so.6"),
            "trees-1.0.data/data/lib/libdata.so": elf("libq.so"),
            "trees/arm.so": elf("libarm.so", machine=183),
            "trees/script.so": b"INPUT(libz.so)",
            "trees/data.bin": elf("libhidden.so"),
        },
    )
    keep(machine, file)
    (carried,) = read(machine, file)
    assert carried.name == "trees"
    assert carried.libraries == (
        WheelLibrary(path="trees-1.0.data/data/lib/libdata.so", needed=("libq.so",)),
        WheelLibrary(path="more/_x.so", needed=("libm.so.6",)),
        WheelLibrary(path="trees.libs/libz-12ab.so.1.2"),
        WheelLibrary(path="trees/_core.cpython-311.so", needed=("libgomp.so.1",), search=("$ORIGIN/../trees.libs",)),
    )


def test_each_architecture_has_its_own_answer(machine: Machine) -> None:
    file = wheel("both", tag=TAG, files={"both/a.so": elf("liba.so"), "both/b.so": elf("libb.so", machine=183)})
    keep(machine, file)
    found = {name: read(machine, file, architecture=name)[0].libraries[0].needed for name in ("amd64", "arm64")}
    assert found == {"amd64": ("liba.so",), "arm64": ("libb.so",)}


def test_a_wheel_is_read_once(machine: Machine) -> None:
    file = wheel("trees", tag=TAG, files={"trees/a.so": elf("libgomp.so.1")})
    keep(machine, file)
    first = read(machine, file)
    wheels.wheel_path(file.locked(), machine.wheels).unlink()
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    assert read(offline, file) == first


def test_a_wheel_for_any_machine_is_not_even_fetched(machine: Machine) -> None:
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    assert read(offline, wheel("plain")) == (Carried(name="plain"),)
    with pytest.raises(UnreachableError, match="not in the caches"):
        read(offline, wheel("trees", tag=TAG))


@pytest.mark.parametrize("damage", [b"no zip", b"PK\5\6" + b"\xff" * 18], ids=["text", "directory"])
def test_what_is_no_wheel_is_told(damage: bytes, machine: Machine) -> None:
    file = replace(wheel("trees", tag=TAG), data=damage)
    keep(machine, file)
    with pytest.raises(LockMismatchError, match="is not a wheel that can be read") as caught:
        read(machine, file)
    assert caught.value.problems[0].fix is not None
