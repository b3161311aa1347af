from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, layer
from envbuilder.base_image import BaseImage, Interpreter
from envbuilder.base_system import BaseSystem
from envbuilder.bases import debian_addition, debian_index
from envbuilder.bases.dpkg_state import DpkgState
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.machine import Machine
from envbuilder.oci_image import Platform
from envbuilder.settings import Settings
from tests.bases.debian_archive import FixtureArchive, member, served
from tests.conftest import RecordingReporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.layer import Entry

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0-1

Package: gcc-base
Status: install ok installed
Architecture: amd64
Version: 1.0-1
Provides: gcc-virtual (= 1)
"""
BASE = BaseImage(
    reference="python:3.11-slim",
    pinned="python@sha256:0",
    digest=digest.of_bytes(b"base"),
    platform=Platform.parse("linux/amd64"),
    interpreter=Interpreter(version="3.11.2", executable="/usr/local/bin/python3.11", glibc="2.36"),
    system=BaseSystem(distribution="debian", version="12", suite="bookworm", libraries=("libc.so.6",)),
    environ=(),
)


ASKED = Source(file="lean.yaml", key="amend.system_packages.add[0]")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[FixtureArchive]:
    with served(tmp_path / "served") as found:
        found.machine(tmp_path / "base")
        found.add(
            "libgomp1",
            member("./usr/lib/x86_64-linux-gnu/libgomp.so.1", b"gomp"),
            fields="Multi-Arch: same\nDepends: gcc-base (>= 2), libc6 (>= 2.34), gcc-virtual, perl-base\n",
        )
        free = member("./usr/share/doc/gcc-base/copyright", b"free")
        found.add("gcc-base", free, version="2.0-1", fields="Provides: gcc-virtual (= 2)\n")
        found.add("lonely", fields="Depends: nowhere\n")
        found.publish()
        yield found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=RecordingReporter())


def state(archive: FixtureArchive, status: str = STATUS, *parts: str) -> DpkgState:
    """What the base's own dpkg and apt say: its sources name the archive, its keyring holds the archive's key."""
    root = archive.folder.parent.parent / "base"
    files = tuple((f"/{path.relative_to(root)}", path.read_bytes()) for path in root.rglob("*") if path.is_file())
    return DpkgState(status=status, parts=parts, files=files)


def by_path(entries: tuple[Entry, ...]) -> dict[str, bytes]:
    return {entry.path: entry.content for entry in entries if isinstance(entry.content, bytes)}


def test_packages_come_from_the_bases_own_archive_with_what_the_base_lacks(
    archive: FixtureArchive, machine: Machine
) -> None:
    addition = debian_addition.resolve({"libgomp1": None}, BASE, state(archive), machine=machine)
    assert addition.versions == ("gcc-base=2.0-1", "libgomp1=1.0-1")
    found = by_path(debian_addition.entries(addition, machine=machine))
    assert found["usr/lib/x86_64-linux-gnu/libgomp.so.1"] == b"gomp"
    assert b"/usr/lib/x86_64-linux-gnu/libgomp.so.1\n" in found["var/lib/dpkg/info/libgomp1:amd64.list"]


def test_the_status_of_dpkg_goes_on(archive: FixtureArchive, machine: Machine) -> None:
    addition = debian_addition.resolve({"libgomp1": None}, BASE, state(archive), machine=machine)
    text = by_path(debian_addition.entries(addition, machine=machine))["var/lib/dpkg/status"].decode()
    versions = {name: one.version for name, one in debian_index.installed(text).items()}
    assert versions == {"libc6": "2.36-9", "gcc-base": "2.0-1", "libgomp1": "1.0-1"}
    assert text.count("Package: gcc-base") == 1
    assert "Package: gone\nStatus: deinstall" in text


def test_an_image_with_a_file_for_each_package_gets_more_of_them(archive: FixtureArchive, machine: Machine) -> None:
    part = "Package: libc6\nArchitecture: amd64\nVersion: 2.36-9\n"
    other = "Package: gcc-base\nArchitecture: amd64\nVersion: 2.1-1\nProvides: gcc-virtual\n"
    addition = debian_addition.resolve({"libgomp1": None}, BASE, state(archive, "", part, other), machine=machine)
    found = by_path(debian_addition.entries(addition, machine=machine))
    assert "var/lib/dpkg/status" not in found
    assert b"Status: install ok installed" in found["var/lib/dpkg/status.d/libgomp1"]
    assert addition.versions == ("libgomp1=1.0-1",)


def test_what_is_installed_needs_nothing(archive: FixtureArchive, machine: Machine) -> None:
    assert debian_addition.resolve({"libc6": None}, BASE, state(archive), machine=machine).packages == ()


def test_the_layer_is_the_same_whenever_it_is_made(archive: FixtureArchive, machine: Machine, tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        here = replace(machine, settings=Settings(cache_dir=tmp_path / name))
        addition = debian_addition.resolve({"libgomp1": None}, BASE, state(archive), machine=here)
        made = layer.write_layer(here.store, debian_addition.entries(addition, machine=here), comment="system")
        found.append((addition.digest, made.diff_id, made.blob.digest))
    assert found[0] == found[1]


def test_mirrors_of_the_settings_win_over_the_bases_sources(
    archive: FixtureArchive, machine: Machine, tmp_path: Path
) -> None:
    nowhere = replace(
        machine,
        settings=Settings(cache_dir=tmp_path / "other", debian_mirrors=("http://127.0.0.1:9/debian",)),
    )
    with pytest.raises(UnreachableError, match="no answer"):
        debian_addition.resolve({"libgomp1": None}, BASE, state(archive), machine=nowhere)


def test_all_that_cannot_be_had_is_told_at_once(archive: FixtureArchive, machine: Machine) -> None:
    with pytest.raises(BaseImageError) as caught:
        debian_addition.resolve({"libnever1": ASKED, "lonely": ASKED}, BASE, state(archive), machine=machine)
    assert [problem.what for problem in caught.value.problems] == [
        "the suite `bookworm` has no package `libnever1` in `main`",
        "`lonely` 1.0-1 needs `nowhere`, which the suite does not have",
    ]
    assert all(problem.fix for problem in caught.value.problems)
    assert caught.value.problems[0].where == ASKED


def test_what_was_found_and_the_suite_does_not_have_is_told_and_left_out(
    archive: FixtureArchive, machine: Machine
) -> None:
    wanted = {"libnever1": None, "gcc-virtual": None, "libgomp1": None}
    addition = debian_addition.resolve(wanted, BASE, state(archive), machine=machine)
    assert addition.versions == ("gcc-base=2.0-1", "libgomp1=1.0-1")
    assert isinstance(machine.reporter, RecordingReporter)
    assert machine.reporter.warnings[-1] == "the suite `bookworm` has no package `libnever1` in `main`"


@pytest.mark.parametrize(
    ("system", "status", "what"),
    [
        (BaseSystem(distribution="fedora"), STATUS, "it is neither Debian nor Ubuntu"),
        (BASE.system, "", "its dpkg has no status"),
    ],
    ids=["fedora", "no dpkg"],
)
def test_a_base_without_debian_packages_gets_none(
    system: BaseSystem, status: str, what: str, archive: FixtureArchive, machine: Machine
) -> None:
    with pytest.raises(BaseImageError, match=what) as caught:
        debian_addition.resolve(
            {"libgomp1": None}, replace(BASE, system=system), state(archive, status), machine=machine
        )
    assert str(caught.value.problems[0].where) == "python:3.11-slim"
    assert caught.value.problems[0].fix is not None
