from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.bases.debian_archives import Pocket, pockets
from envbuilder.errors import BaseImageError

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = """\
deb https://packages.vendor.example/tools bookworm main
deb https://mirror.example/debian bookworm main
deb https://mirror.example/debian-security bookworm-security main
deb https://vendor.example/linux/debian bookworm stable
"""


def machine(root: Path, sources: str, release: str = "ID=other\n") -> Path:
    (root / "etc" / "apt").mkdir(parents=True)
    (root / "etc" / "apt" / "sources.list").write_text(sources)
    (root / "etc" / "os-release").write_text(release)
    return root


def urls(found: tuple[Pocket, ...]) -> dict[str, list[str]]:
    return {pocket.suite: [archive.url for archive in pocket.archives] for pocket in found}


def test_another_suite_is_asked_of_the_machines_archives(tmp_path: Path) -> None:
    found = pockets("trixie", "debian", (), machine(tmp_path, SOURCES))
    assert urls(found) == {
        "trixie": ["https://mirror.example/debian"],
        "trixie-updates": ["https://mirror.example/debian"],
        "trixie-security": ["https://mirror.example/debian-security"],
    }
    assert [pocket.is_required for pocket in found] == [True, False, False]
    assert {archive.origin for pocket in found for archive in pocket.archives} == {"debian"}


def test_a_mirror_with_another_name_is_known_by_the_machines_own_suite(tmp_path: Path) -> None:
    root = machine(
        tmp_path, "deb https://mirror.example/os bookworm main\n", 'ID="debian"\nVERSION_CODENAME=bookworm\n'
    )
    assert urls(pockets("trixie", "debian", (), root))["trixie"] == ["https://mirror.example/os"]


def test_the_settings_mirrors_replace_the_sources(tmp_path: Path) -> None:
    found = pockets("bookworm", "debian", ("https://a.example/d/", "https://a.example/d-security"), tmp_path)
    assert urls(found) == {
        "bookworm": ["https://a.example/d"],
        "bookworm-updates": ["https://a.example/d"],
        "bookworm-security": ["https://a.example/d-security"],
    }
    assert found[0].archives[0].origin == ""


def test_ubuntu_has_its_security_pocket_in_the_archive(tmp_path: Path) -> None:
    found = urls(pockets("noble", "ubuntu", ("https://a.example/ubuntu",), tmp_path))
    assert found["noble-security"] == ["https://a.example/ubuntu"]


def test_a_rolling_suite_has_no_pockets(tmp_path: Path) -> None:
    assert list(urls(pockets("sid", "debian", ("https://a.example/d",), tmp_path))) == ["sid"]


def test_a_machine_without_the_distribution_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="no archive of ubuntu") as caught:
        pockets("noble", "ubuntu", (), machine(tmp_path, SOURCES))
    assert "ENVBUILDER_DEBIAN_MIRRORS" in str(caught.value.problems[0].fix)


def test_a_security_mirror_alone_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="besides the security one"):
        pockets("bookworm", "debian", ("https://a.example/d-security",), tmp_path)


@pytest.mark.parametrize("name", ["", "../bookworm", "book worm", "-x", "a/b", "bookworm\n"])
def test_a_suite_is_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BaseImageError, match="not the name of a suite"):
        pockets(name, "debian", ("https://a.example/d",), tmp_path)
