from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, source_archive
from envbuilder.errors import InvalidFileError, LockMismatchError, UnreachableError
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.secret import Secret
from envbuilder.settings import Settings
from tests import package_index as package_indexes
from tests.package_index import LOGIN, PackageIndex
from tests.test_source_unpack import GOOD, link, member, tar_of

if TYPE_CHECKING:
    from pathlib import Path

package_index = package_indexes.package_index
NAME = "thing-1.0.tar.gz"
DATA = tar_of(*GOOD)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=Reporter())


@pytest.fixture
def url(package_index: PackageIndex) -> str:
    package_index.files[NAME] = DATA
    return package_index.file_url(NAME)


def names(machine: Machine) -> list[str]:
    return [path.name for path in machine.sources.iterdir()]


def test_an_archive_is_fetched_once_by_its_digest(url: str, package_index: PackageIndex, machine: Machine) -> None:
    found = source_archive.fetch(url, expected=digest.of_bytes(DATA), machine=machine)
    assert found.path.read_bytes() == DATA
    assert source_archive.fetch(url, expected=digest.of_bytes(DATA), machine=machine) == found
    assert package_index.asked == [f"/files/{NAME}"]
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    assert source_archive.fetch(url, expected=digest.of_bytes(DATA), machine=offline) == found


def test_another_archive_than_the_expected_one_is_refused(url: str, machine: Machine) -> None:
    with pytest.raises(LockMismatchError):
        source_archive.fetch(url, expected=digest.of_bytes(b"other"), machine=machine)
    assert names(machine) == []


def test_without_an_expected_digest_it_is_what_came(url: str, machine: Machine) -> None:
    found = source_archive.fetch(url, expected=None, machine=machine)
    assert found.digest == digest.of_bytes(DATA)
    assert names(machine) == [hashlib.sha256(DATA).hexdigest()]


def test_a_login_is_used_and_not_kept(url: str, package_index: PackageIndex, machine: Machine) -> None:
    package_index.login = LOGIN
    raw = url.replace("://", f"://{':'.join(LOGIN)}@")
    secret = Secret(shown=url, value=raw)
    assert source_archive.fetch(url, expected=None, machine=machine, secret=secret).url == url
    with pytest.raises(UnreachableError) as raised:
        source_archive.fetch(raw.replace(LOGIN[1], "wrong"), expected=None, machine=machine)
    assert "wrong" not in str(raised.value)


def test_what_is_no_url_is_told(machine: Machine) -> None:
    with pytest.raises(InvalidFileError, match="is not a URL"):
        source_archive.fetch("https://[::x]/thing-1.0.tar.gz", expected=None, machine=machine)


def test_an_archive_that_is_cut_off_or_too_large_leaves_nothing(
    url: str, package_index: PackageIndex, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_index.cut_off.add(NAME)
    with pytest.raises(UnreachableError, match="the download broke off"):
        source_archive.fetch(url, expected=None, machine=machine)
    package_index.cut_off.clear()
    monkeypatch.setattr(source_archive, "MAX_BYTES", 1000)
    with pytest.raises(InvalidFileError, match="has more than 1000 bytes"):
        source_archive.fetch(url, expected=None, machine=machine)
    assert names(machine) == []


def test_the_one_folder_is_given_while_the_block_lasts(url: str, machine: Machine) -> None:
    archive = source_archive.fetch(url, expected=None, machine=machine)
    with source_archive.open_tree(archive, subdirectory="new", machine=machine) as tree:
        assert tree.directory.name == "thing-1.0"
        assert tree.digest == archive.digest
        assert (tree.project / "deep").read_bytes() == b"deep"
    assert names(machine) == [digest.hex_of(archive.digest)]


@pytest.mark.parametrize(
    ("data", "subdirectory", "said"),
    [
        (tar_of(member("a/x"), member("b")), "", "holds `a`, `b` at its top, expected one folder"),
        (tar_of(member("setup.py")), "", "holds `setup.py` at its top"),
        (tar_of(), "", "holds nothing at its top"),
        (tar_of(member("a/x")), "absent", "has no directory `absent`"),
        (tar_of(member("a/x")), "x", "has no directory `x`"),
        (tar_of(member("a/x"), member("b/x"), link("a/out", "../b")), "", "holds `a`, `b`"),
        (tar_of(member("a/x")), "../..", r"has no directory `\.\./\.\.`"),
        (tar_of(member("a/x")), "/", "has no directory `/`"),
    ],
    ids=["two", "a file", "empty", "no subdirectory", "a file below", "link beside", "outside", "absolute"],
)
def test_another_layout_is_refused(
    data: bytes, subdirectory: str, said: str, package_index: PackageIndex, machine: Machine
) -> None:
    package_index.files[NAME] = data
    archive = source_archive.fetch(package_index.file_url(NAME), expected=None, machine=machine)
    with (
        pytest.raises(InvalidFileError, match=said),
        source_archive.open_tree(archive, subdirectory=subdirectory, machine=machine),
    ):
        pass
    assert names(machine) == [digest.hex_of(archive.digest)]
