from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import system_packages
from envbuilder.base_system import BaseSystem
from envbuilder.errors import BaseImageError, Source
from envbuilder.fields import Stated
from envbuilder.installer import wheels
from envbuilder.machine import Machine
from envbuilder.settings import Settings
from tests.conftest import RecordingReporter
from tests.elf_file import elf
from tests.package_index import wheel
from tests.test_image_plan import BASE, LOCK, SPEC

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.system_needs import SystemNeeds

TREES = wheel(
    "trees",
    tag="cp311-cp311-manylinux_2_17_x86_64",
    files={"trees/core.so": elf("libgomp.so.1", "libc.so.6", "libheard-of-by-nobody.so.4")},
)
DEBIAN = BaseSystem(distribution="debian", version="12", suite="bookworm", libraries=("libc.so.6",))
FEDORA = BaseSystem(distribution="fedora", version="41", libraries=("libc.so.6",))
ASKED = Stated(value="libgl1", source=Source(file="lean.yaml", key="amend.system_packages.add[0]"))


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def machine(tmp_path: Path, reporter: RecordingReporter) -> Machine:
    made = Machine(settings=Settings(cache_dir=tmp_path), reporter=reporter)
    path = wheels.wheel_path(TREES.locked(), made.wheels)
    path.parent.mkdir(parents=True)
    path.write_bytes(TREES.data)
    return made


def find(machine: Machine, system: BaseSystem, spec: EnvironmentSpec = SPEC) -> SystemNeeds:
    lock = replace(LOCK, packages=(TREES.locked(),))
    return system_packages.find(lock, spec, replace(BASE, system=system), machine=machine)


def test_what_is_needed_is_found_and_what_nobody_knows_is_told(machine: Machine, reporter: RecordingReporter) -> None:
    assert find(machine, DEBIAN).names == ("libgomp1",)
    (warning,) = reporter.warnings
    assert warning.startswith("trees needs the library `libheard-of-by-nobody.so.4`, which neither the packages nor")


def test_a_base_of_another_family_gets_none_and_that_is_told(machine: Machine, reporter: RecordingReporter) -> None:
    found = find(machine, FEDORA)
    assert (found.names, [one.name for one in found.unknown]) == ((), ["libheard-of-by-nobody.so.4"])
    assert reporter.warnings[1] == (
        "trees needs libgomp.so.1, which `python:3.11-slim` lacks; only bases of Debian's family get system packages"
    )


def test_what_is_asked_for_on_a_base_of_another_family_is_refused(machine: Machine) -> None:
    with pytest.raises(BaseImageError, match="the system package `libgl1` is asked for") as caught:
        find(machine, FEDORA, replace(SPEC, system_packages=(ASKED,)))
    (problem,) = caught.value.problems
    assert problem.where == ASKED.source
    assert problem.fix is not None
