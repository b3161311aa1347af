from __future__ import annotations

from typing import Any

import pytest

from envbuilder import digest
from envbuilder.conda_package import CondaPackage

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
