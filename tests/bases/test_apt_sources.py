from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.bases import apt_sources
from envbuilder.errors import InvalidFileError

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, name: str, text: str) -> Path:
    path = root / "etc" / "apt" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


def test_a_deb822_stanza_gives_a_source_per_url(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        "sources.list.d/debian.sources",
        "Types: deb deb-src\n# a remark\nURIs: https://mirror.example/debian/ https://other.example/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /keys/a.gpg\n",
    )
    first, second = apt_sources.read(root)
    assert (first.url, second.url) == ("https://mirror.example/debian", "https://other.example/debian")
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert first.signed_by == "/keys/a.gpg"
    assert first.check_valid_until


def test_a_one_line_source_keeps_its_options(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        "sources.list",
        "# deb http://no.example/debian sid main\n"
        "deb [arch=amd64 signed-by=/keys/a.gpg,/keys/b.gpg check-valid-until=no] "
        "http://mirror.example/debian/ trixie main # x\n"
        "deb-src http://mirror.example/debian trixie main\n",
    )
    (source,) = apt_sources.read(root)
    assert source.url == "http://mirror.example/debian"
    assert source.suites == ("trixie",)
    assert source.components == ("main",)
    assert source.signed_by == "/keys/a.gpg /keys/b.gpg"
    assert not source.check_valid_until
    assert source.source.key == "line 2"


def test_disabled_source_and_foreign_entries_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/a.sources", "Types: deb\nEnabled: no\nURIs: http://a.example\nSuites: x\n")
    write(tmp_path, "sources.list.d/b.sources", "Types: deb-src\nURIs: http://b.example\nSuites: x\n")
    write(tmp_path, "sources.list.d/c.list", "deb cdrom:[Disc]/ bookworm main\ndeb file:/srv/debian bookworm main\n")
    write(tmp_path, "sources.list.d/d.list.disabled", "deb http://d.example bookworm main\n")
    assert apt_sources.read(tmp_path) == ()


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert apt_sources.read(tmp_path) == ()


@pytest.mark.parametrize(
    ("setting", "own", "checked"),
    [
        ('Acquire::Check-Valid-Until "false";\n', "", False),
        ('Acquire::Check-Valid-Until "true";\n', "", True),
        ('Acquire::Check-Valid-Until "0";\n', "Check-Valid-Until: yes\n", True),
        ("", "Check-Valid-Until: no\n", False),
    ],
    ids=["off for all", "on for all", "on for the source", "off for the source"],
)
def test_checking_dates_is_set_for_all_sources_or_one(tmp_path: Path, setting: str, own: str, *, checked: bool) -> None:
    write(tmp_path, "apt.conf.d/99own", setting)
    write(tmp_path, "sources.list.d/a.sources", f"Types: deb\nURIs: http://a.example\nSuites: x\n{own}")
    (source,) = apt_sources.read(tmp_path)
    assert source.check_valid_until is checked


def test_a_stanza_without_suites_names_the_file(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/a.sources", "Types: deb\nURIs: http://a.example\n")
    with pytest.raises(InvalidFileError, match="without `URIs` or `Suites`") as caught:
        apt_sources.read(tmp_path)
    assert str(caught.value.problems[0].where).endswith("a.sources: [0]")


def test_sources_that_are_not_text_name_the_file(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", "")
    (tmp_path / "etc" / "apt" / "sources.list").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidFileError, match="not UTF-8"):
        apt_sources.read(tmp_path)
