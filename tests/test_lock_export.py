from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from envbuilder import digest
from envbuilder.lock_export import FORMATS, to_explicit, to_pylock, to_requirements
from tests.test_lockfile import LOCK, WITH_CONDA, locks

if TYPE_CHECKING:
    from envbuilder.lockfile import Lock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_an_explicit_list_holds_conda_packages_and_tells_pip_the_rest() -> None:
    assert to_explicit(WITH_CONDA).splitlines()[1:] == [
        "# platform: linux-64",
        "@EXPLICIT",
        f"https://channel.example/main/linux-64/numpy-1.26.4-py311h0d1ab_0.conda#{'0' * 32}",
        (
            "# pip pandas @ https://index.example/files/pandas-2.2.3-cp311-cp311-manylinux_2_17_x86_64.whl "
            f"--hash={digest.of_bytes(b'pandas')}"
        ),
    ]


def test_a_requirements_file_has_a_hash_for_every_wheel() -> None:
    assert to_requirements(WITH_CONDA).splitlines()[1:] == [
        "# platform: linux-64, Python 3.11.7",
        "# conda numpy=1.26.4=py311h0d1ab_0",
        f"pandas==2.2.3 --hash={digest.of_bytes(b'pandas')}",
    ]


@given(locks())
@settings(deadline=None, max_examples=50)
def test_a_pylock_is_toml_that_holds_every_wheel(lock: Lock) -> None:
    found = tomllib.loads(to_pylock(lock))
    assert found["lock-version"] == "1.0"
    assert [(one["name"], one["version"], one["wheels"][0]["url"]) for one in found.get("packages", [])] == [
        (one.name, one.version, one.url) for one in lock.packages
    ]


def test_a_pylock_holds_to_the_specification() -> None:
    pylock = pytest.importorskip("packaging.pylock", reason="packaging reads pylock.toml from version 26 on")
    found = pylock.Pylock.from_dict(tomllib.loads(to_pylock(LOCK)))
    assert [(one.name, str(one.version)) for one in found.packages] == [("numpy", "2.2.0"), ("pandas", "2.2.3")]
    assert str(found.requires_python) == "==3.11.*"


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_locked_is_still_a_file(name: str) -> None:
    assert FORMATS[name](replace(LOCK, packages=())).startswith("# Exported by envbuilder")
