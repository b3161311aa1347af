from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.tags import Tag

from envbuilder.base_image import Interpreter
from envbuilder.errors import InvalidFileError
from envbuilder.oci_image import Platform
from envbuilder.target import SUBDIRS, Target

TARGET = Target(subdir="linux-64", glibc="2.36")
ARM = Target(subdir="linux-aarch64", glibc="2.36")


@pytest.mark.parametrize(
    ("glibc", "platform"),
    [("2.36", "x86_64-manylinux_2_36"), ("2.5", "x86_64-manylinux_2_17"), ("2.99.1", "x86_64-manylinux_2_40")],
    ids=["usual", "older than uv knows", "newer than uv knows"],
)
def test_a_target_has_uvs_name(glibc: str, platform: str) -> None:
    assert replace(TARGET, glibc=glibc).uv_platform == platform
    assert replace(ARM, glibc=glibc).uv_platform == platform.replace("x86_64", "aarch64")


def test_tags_are_ranked_from_the_best_fit() -> None:
    ranks = Target(subdir="linux-64").tags("3.11.2")
    wanted = [
        Tag("cp311", "cp311", "manylinux_2_28_x86_64"),
        Tag("cp311", "cp311", "manylinux_2_17_x86_64"),
        Tag("cp311", "cp311", "manylinux2014_x86_64"),
        Tag("cp311", "cp311", "manylinux1_x86_64"),
        Tag("cp311", "abi3", "manylinux2014_x86_64"),
        Tag("cp38", "abi3", "manylinux2014_x86_64"),
        Tag("py3", "none", "manylinux2014_x86_64"),
        Tag("py3", "none", "any"),
    ]
    assert sorted(wanted, key=ranks.__getitem__) == wanted
    for foreign in ("cp312-cp312-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_29_x86_64", "py3-none-musllinux_1_1"):
        assert Tag(*foreign.split("-")) not in ranks


@pytest.mark.parametrize(
    ("target", "tag", "name"),
    [
        (Target(subdir="osx-arm64"), "cp311-cp311-macosx_13_0_arm64", "aarch64-apple-darwin"),
        (Target(subdir="osx-64", macos="12"), "cp311-cp311-macosx_12_0_x86_64", "x86_64-apple-darwin"),
        (Target(subdir="win-64"), "cp311-cp311-win_amd64", "x86_64-pc-windows-msvc"),
    ],
)
def test_other_systems_have_their_own_tags(target: Target, tag: str, name: str) -> None:
    assert Tag(*tag.split("-")) in target.tags("3.11")
    assert target.uv_platform == name


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Target(subdir="linux-64"), ["__archspec", "__glibc", "__linux", "__unix"]),
        (Target(subdir="linux-aarch64", cuda="12"), ["__archspec", "__cuda", "__glibc", "__linux", "__unix"]),
        (Target(subdir="osx-arm64", cuda="12"), ["__archspec", "__osx", "__unix"]),
        (Target(subdir="osx-64"), ["__archspec", "__osx", "__unix"]),
        (Target(subdir="win-64", cuda="12.4"), ["__archspec", "__cuda", "__win"]),
    ],
    ids=lambda value: value.subdir if isinstance(value, Target) else "",
)
def test_a_target_has_its_own_virtual_packages(target: Target, names: list[str]) -> None:
    assert [name for name, _, _ in target.virtual_packages()] == names


def test_versions_of_the_target_are_those_that_are_given() -> None:
    target = Target(subdir="linux-64", glibc="2.36", cuda="12.4")
    assert set(target.virtual_packages()) == {
        ("__archspec", "1", "x86_64"),
        ("__cuda", "12.4", "0"),
        ("__glibc", "2.36", "0"),
        ("__linux", "5.10", "0"),
        ("__unix", "0", "0"),
    }
    assert {Target(subdir=subdir).virtual_packages()[0][2] for subdir in SUBDIRS} == {"x86_64", "aarch64", "arm64"}


@pytest.mark.parametrize("fields", [{"subdir": "linux-32"}, {"subdir": "linux-64", "cuda": "twelve"}])
def test_a_target_that_is_none_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidFileError, match=r"is not"):
        Target(**fields)


@pytest.mark.parametrize(
    ("locked", "here", "runs"),
    [
        (Target(subdir="linux-64"), Target(subdir="linux-64", glibc="2.36"), True),
        (Target(subdir="linux-64", glibc="2.9"), Target(subdir="linux-64", glibc="2.17"), True),
        (Target(subdir="linux-64", glibc="2.36"), Target(subdir="linux-64", glibc="2.28"), False),
        (Target(subdir="linux-64"), Target(subdir="linux-aarch64"), False),
        (Target(subdir="win-64", glibc="2.36"), Target(subdir="win-64"), True),
    ],
)
def test_what_is_locked_runs_on_what_is_not_older(locked: Target, here: Target, *, runs: bool) -> None:
    assert locked.runs_on(here) is runs


def test_an_image_has_the_c_library_of_its_python() -> None:
    interpreter = Interpreter(version="3.11.2", executable="/usr/bin/python3.11", glibc="2.36")
    found = Target.of_image(interpreter, Platform.parse("linux/arm64"), cuda="12.4")
    assert found == Target(subdir="linux-aarch64", glibc="2.36", cuda="12.4")
