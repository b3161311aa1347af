from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from envbuilder import network
from envbuilder.bases.debian_archives import Archive, Pocket
from envbuilder.bases.debian_release import MAXIMUM_AGE, Release, ReleaseSource
from envbuilder.errors import BaseImageError, UnreachableError
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.bases.debian_archive import FixtureArchive, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Warnings(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warning(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[FixtureArchive]:
    with served(tmp_path / "served") as found:
        found.machine(tmp_path / "machine")
        yield found


def find(
    archive: FixtureArchive,
    *more: Archive,
    suite: str = "bookworm",
    required: bool = True,
    offline: bool = False,
    reporter: Reporter | None = None,
    origin: str = "debian",
    check: bool = True,
) -> Release | None:
    top = archive.folder.parent.parent
    settings = Settings(cache_dir=top / "cache", offline=offline)
    pocket = Pocket(
        suite=suite,
        archives=(*more, Archive(url=archive.url, origin=origin, check_valid_until=check)),
        is_required=required,
    )
    with network.session(settings) as opened:
        return ReleaseSource(
            distribution="debian",
            settings=settings,
            opened=opened,
            reporter=reporter or Reporter(),
            root=top / "machine",
        ).find(pocket)


def date(days: float) -> str:
    return formatdate(time.time() + days * 86400).replace("-0000", "UTC")


@pytest.mark.parametrize("inline", [True, False], ids=["InRelease", "Release.gpg"])
def test_a_signed_release_gives_the_index(archive: FixtureArchive, *, inline: bool) -> None:
    archive.publish(inline=inline)
    release = find(archive)
    assert release is not None
    index = release.index_file("amd64")
    base = f"{archive.url}/dists/bookworm/main/binary-amd64"
    assert index.urls == (f"{base}/by-hash/SHA256/{index.digest.removeprefix('sha256:')}", f"{base}/Packages.xz")
    assert index.compression == ".xz"


def test_an_archive_without_by_hash_is_asked_by_name(archive: FixtureArchive) -> None:
    archive.publish(by_hash=False)
    release = find(archive)
    assert release is not None
    assert release.index_file("amd64").urls == (f"{archive.url}/dists/bookworm/main/binary-amd64/Packages.xz",)


def test_an_architecture_that_is_not_there_is_named(archive: FixtureArchive) -> None:
    archive.publish()
    release = find(archive)
    assert release is not None
    with pytest.raises(BaseImageError, match="architecture `arm64`") as caught:
        release.index_file("arm64")
    assert "amd64" in str(caught.value.problems[0].fix)


@pytest.mark.parametrize("inline", [True, False], ids=["InRelease", "Release.gpg"])
def test_a_changed_release_is_refused(archive: FixtureArchive, *, inline: bool) -> None:
    archive.publish(inline=inline)
    path = archive.folder / "dists" / "bookworm" / ("InRelease" if inline else "Release")
    path.write_bytes(path.read_bytes().replace(b"Architectures: amd64", b"Architectures: arm64"))
    with pytest.raises(BaseImageError, match="signature is not valid"):
        find(archive)


def test_an_unsigned_release_is_refused(archive: FixtureArchive) -> None:
    archive.publish(inline=False)
    (archive.folder / "dists" / "bookworm" / "Release.gpg").unlink()
    with pytest.raises(BaseImageError, match="not signed"):
        find(archive)


def test_the_release_of_another_suite_is_refused(archive: FixtureArchive) -> None:
    archive.publish(codename="bullseye")
    with pytest.raises(BaseImageError, match="suite `bullseye` when asked for `bookworm`"):
        find(archive)


def test_an_unknown_suite_is_named(archive: FixtureArchive) -> None:
    with pytest.raises(BaseImageError, match="the suite `buster`") as caught:
        find(archive, suite="buster")
    assert str(caught.value.problems[0].where) == archive.url


def test_a_pocket_that_is_not_served_is_told_and_not_asked_for_again(archive: FixtureArchive) -> None:
    heard = Warnings()
    assert find(archive, suite="bookworm-updates", required=False, reporter=heard) is None
    asked = len(archive.requests)
    assert find(archive, suite="bookworm-updates", required=False, reporter=heard) is None
    assert len(archive.requests) == asked
    assert heard.texts == ["no archive serves `bookworm-updates`: the base image is made without it"] * 2


@pytest.mark.parametrize("until", [date(-1), "at noon"], ids=["yesterday", "not a date"])
def test_an_expired_release_is_refused(archive: FixtureArchive, until: str) -> None:
    archive.publish(fields=f"Valid-Until: {until}\n")
    with pytest.raises(BaseImageError, match="expired"):
        find(archive)
    assert find(archive, check=False) is not None


def test_a_release_that_is_valid_for_a_day_is_good(archive: FixtureArchive) -> None:
    archive.publish(fields=f"Valid-Until: {date(1)}\n")
    assert find(archive) is not None


def test_an_archive_of_another_origin_is_passed_over(archive: FixtureArchive) -> None:
    archive.publish(origin="Vendor")
    with pytest.raises(BaseImageError, match="no debian archive"):
        find(archive)


def test_an_archive_the_user_names_may_say_what_it_likes(archive: FixtureArchive) -> None:
    archive.publish(origin="Vendor")
    assert find(archive, origin="") is not None


def test_the_next_archive_is_asked_when_one_does_not_answer(archive: FixtureArchive) -> None:
    archive.publish()
    assert find(archive, Archive(url="http://127.0.0.1:1/debian")) is not None


def test_the_next_archive_is_asked_when_one_is_not_trusted(archive: FixtureArchive, tmp_path: Path) -> None:
    archive.publish()
    with served(tmp_path / "vendor") as vendor:
        vendor.publish(origin="Vendor")
        assert find(archive, Archive(url=vendor.url, origin="debian")) is not None


def test_an_archive_that_does_not_answer_may_answer_later(archive: FixtureArchive) -> None:
    with pytest.raises(UnreachableError, match="no answer"):
        find(archive, Archive(url="http://127.0.0.1:1/debian"), suite="buster")


def age(archive: FixtureArchive, seconds: float) -> None:
    (path,) = (archive.folder.parent.parent / "cache" / "debian" / "releases").iterdir()
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps({**value, "fetched": value["fetched"] - seconds}))


def test_a_release_is_believed_for_a_day(archive: FixtureArchive) -> None:
    archive.publish()
    assert find(archive) is not None
    assert find(archive) is not None
    assert len(archive.requests) == 1
    age(archive, MAXIMUM_AGE + 1)
    assert find(archive) is not None
    assert len(archive.requests) == 2


def test_offline_uses_what_is_kept_whatever_its_age(archive: FixtureArchive) -> None:
    archive.publish()
    assert find(archive) is not None
    age(archive, 100 * MAXIMUM_AGE)
    assert find(archive, offline=True) is not None
    assert len(archive.requests) == 1


def test_offline_without_a_kept_release_says_what_is_missing(archive: FixtureArchive) -> None:
    archive.publish()
    with pytest.raises(UnreachableError, match="--offline"):
        find(archive, offline=True)


def test_a_kept_release_is_verified_again(archive: FixtureArchive) -> None:
    archive.publish()
    assert find(archive) is not None
    (path,) = (archive.folder.parent.parent / "cache" / "debian" / "releases").iterdir()
    path.write_text(path.read_text().replace("Architectures: amd64", "Architectures: arm64"))
    with pytest.raises(BaseImageError, match="signature is not valid"):
        find(archive, offline=True)
    assert find(archive) is not None
    assert len(archive.requests) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"inl', '{"fetched": "now"}'], ids=["empty", "a list", "no date", "cut", "no number"]
)
def test_a_damaged_note_is_fetched_again(archive: FixtureArchive, content: str) -> None:
    archive.publish()
    assert find(archive) is not None
    (path,) = (archive.folder.parent.parent / "cache" / "debian" / "releases").iterdir()
    path.write_text(content)
    assert find(archive) is not None
    assert len(archive.requests) == 2
