from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from envbuilder import digest
from envbuilder.errors import InvalidFileError
from envbuilder.lock_export import FORMATS, export, to_explicit, to_pylock, to_requirements
from envbuilder.locked import WheelSource
from envbuilder.lockfile import Lockfile
from envbuilder.target import Target
from tests.test_lockfile import LOCK, WITH_CONDA, locks

if TYPE_CHECKING:
    from envbuilder.locked import Lock

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
@settings(max_examples=50)
def test_a_pylock_is_toml_that_holds_every_wheel(lock: Lock) -> None:
    found = tomllib.loads(to_pylock(lock))
    assert found["lock-version"] == "1.0"
    for one, package in zip(found.get("packages", []), lock.packages, strict=True):
        assert (one["name"], one["version"]) == (package.name, package.version)
        (artifact,) = (one[key] for key in ("wheels", "archive", "vcs") if key in one)
        if package.source is None:
            (artifact,) = artifact
            assert artifact.get("path", artifact.get("url")) == package.url
            assert artifact["hashes"] == {"sha256": digest.hex_of(package.sha256)}
        elif "commit-id" in artifact:
            assert f"git+{artifact['url']}@{artifact['commit-id']}" == package.source.url
        else:
            assert artifact["url"] == package.source.url
            assert artifact["hashes"] == {"sha256": digest.hex_of(package.source.digest)}
        if package.source is not None:
            assert artifact.get("subdirectory") == package.source.subdirectory


GIT = WheelSource(url=f"git+https://host.example/a.git@{'1' * 40}", digest=digest.of_bytes(b"tree"), subdirectory="py")
ARCHIVE = WheelSource(url="https://host.example/a.zip", digest=digest.of_bytes(b"zip"))


def test_what_was_built_or_comes_with_the_model_is_a_reference() -> None:
    built = replace(LOCK.packages[0], url="numpy-2.2.0-py3-none-any.whl")
    packages = (
        replace(built, source=GIT),
        replace(built, source=ARCHIVE),
        replace(built, url="./wheels/numpy-2.2.0-py3-none-any.whl"),
    )
    assert to_requirements(replace(LOCK, packages=packages)).splitlines()[2:] == [
        f"numpy @ git+https://host.example/a.git@{'1' * 40}#subdirectory=py",
        f"numpy @ https://host.example/a.zip --hash={digest.of_bytes(b'zip')}",
        f"./wheels/numpy-2.2.0-py3-none-any.whl --hash={digest.of_bytes(b'numpy')}",
    ]


def test_an_export_is_of_one_platform() -> None:
    mac = replace(LOCK, target=Target(subdir="osx-arm64"))
    assert export(Lockfile.of([mac]), "explicit") == to_explicit(mac)
    with pytest.raises(InvalidFileError, match="the format `pylock` is for one platform") as raised:
        export(Lockfile.of([LOCK, mac]), "pylock")
    assert raised.value.problems[0].fix == "choose one: `--platform` `linux-64` or `osx-arm64`"


def test_a_pylock_holds_to_the_specification() -> None:
    pylock = pytest.importorskip("packaging.pylock", reason="packaging reads pylock.toml from version 26 on")
    found = pylock.Pylock.from_dict(tomllib.loads(to_pylock(LOCK)))
    assert [(one.name, str(one.version)) for one in found.packages] == [("numpy", "2.2.0"), ("pandas", "2.2.3")]
    assert str(found.requires_python) == "==3.11.*"


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_locked_is_still_a_file(name: str) -> None:
    assert FORMATS[name](replace(LOCK, packages=())).startswith("# Exported by envbuilder")
