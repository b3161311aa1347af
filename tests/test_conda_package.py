from __future__ import annotations

from typing import Any

import pytest

from envbuilder import digest
from envbuilder.conda_package import SUBDIRS, CondaPackage, CondaTarget
from envbuilder.errors import InvalidFileError

RECORD: dict[str, Any] = {
    "name": "numpy",
    "version": "1.26.4",
    "build": "py311_0",
    "build_number": 0,
    "subdir": "linux-64",
    "url": "https://conda.example/c/linux-64/numpy-1.26.4-py311_0.conda",
    "sha256": "a" * 64,
    "md5": "b" * 32,
    "depends": ["python >=3.11"],
    "size": 10,
    "purls": ["pkg:pypi/b", "pkg:pypi/a"],
}


def test_a_record_becomes_a_package() -> None:
    assert CondaPackage.from_record(RECORD) == CondaPackage(
        name="numpy",
        version="1.26.4",
        build="py311_0",
        subdir="linux-64",
        url=RECORD["url"],
        sha256=digest.of_hex("a" * 64),
        md5="b" * 32,
        depends=("python >=3.11",),
        size=10,
        purls=("pkg:pypi/a", "pkg:pypi/b"),
    )


@pytest.mark.parametrize(
    ("noarch", "read"), [("python", "python"), ("generic", "generic"), (True, "generic"), (None, None), (False, None)]
)
def test_every_spelling_of_noarch_is_known(noarch: object, read: str | None) -> None:
    assert CondaPackage.from_record({**RECORD, "noarch": noarch}).noarch == read


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../numpy"},
        {"version": "1/2"},
        {"build": "a b"},
        {"subdir": ".."},
        {"sha256": None},
        {"sha256": "abc"},
        {"md5": "A"},
        {"url": "https://conda.example/c/linux-64/numpy.exe"},
        {"url": "https://conda.example/c/linux-64/..%2Fnumpy.conda"},
        {"build_number": "x"},
    ],
)
def test_a_record_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is not|not a|invalid"):
        CondaPackage.from_record({**RECORD, **change})


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (CondaTarget(subdir="linux-64"), ["__archspec", "__glibc", "__linux", "__unix"]),
        (CondaTarget(subdir="linux-aarch64", cuda="12"), ["__archspec", "__cuda", "__glibc", "__linux", "__unix"]),
        (CondaTarget(subdir="osx-arm64", cuda="12"), ["__archspec", "__osx", "__unix"]),
        (CondaTarget(subdir="osx-64"), ["__archspec", "__osx", "__unix"]),
        (CondaTarget(subdir="win-64", cuda="12.4"), ["__archspec", "__cuda", "__win"]),
    ],
    ids=lambda value: value.subdir if isinstance(value, CondaTarget) else "",
)
def test_a_target_has_its_own_virtual_packages(target: CondaTarget, names: list[str]) -> None:
    assert [name for name, _, _ in target.virtual_packages()] == names


def test_versions_of_the_target_are_those_that_are_given() -> None:
    target = CondaTarget(subdir="linux-64", glibc="2.36", cuda="12.4", kernel="6.1")
    assert set(target.virtual_packages()) == {
        ("__archspec", "1", "x86_64"),
        ("__cuda", "12.4", "0"),
        ("__glibc", "2.36", "0"),
        ("__linux", "6.1", "0"),
        ("__unix", "0", "0"),
    }
    assert {CondaTarget(subdir=subdir).virtual_packages()[0][2] for subdir in SUBDIRS} == {"x86_64", "aarch64", "arm64"}


@pytest.mark.parametrize("fields", [{"subdir": "linux-32"}, {"subdir": "linux-64", "cuda": "twelve"}])
def test_a_target_that_is_none_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidFileError, match=r"is not"):
        CondaTarget(**fields)
