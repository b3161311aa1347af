from __future__ import annotations

import pytest

from envbuilder.base_system import BaseSystem, os_release

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
NOBLE = "# Ubuntu\nID=ubuntu\nID_LIKE=debian\nVERSION_ID='24.04'\nVERSION_CODENAME=noble\n"


def system(text: str, *libraries: str) -> BaseSystem:
    return BaseSystem.parse({"os_release": text, "libraries": list(libraries), "has_apt": True})


def test_a_base_says_what_it_is() -> None:
    assert system(NOBLE, "libz.so.1", "libc.so.6", "libz.so.1") == BaseSystem(
        distribution="ubuntu",
        family=("debian",),
        version="24.04",
        suite="noble",
        libraries=("libc.so.6", "libz.so.1"),
        has_apt=True,
    )


def test_a_comment_in_os_release_says_nothing() -> None:
    assert os_release("# ID=x\nID=y\n\n") == {"ID": "y", "": ""}


@pytest.mark.parametrize(
    ("text", "of_debian", "time64"),
    [
        (BOOKWORM, True, False),
        (BOOKWORM.replace("12", "13"), True, True),
        (BOOKWORM.replace('VERSION_ID="12"\n', ""), True, True),
        (NOBLE, True, True),
        (NOBLE.replace("24.04", "23.10"), True, False),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_ID=22\n", True, False),
        ("ID=fedora\nVERSION_ID=41\n", False, True),
        ("", False, True),
    ],
    ids=["bookworm", "trixie", "sid", "noble", "mantic", "mint", "fedora", "nothing"],
)
def test_the_family_and_its_names_of_libraries(text: str, of_debian: bool, time64: bool) -> None:  # noqa: FBT001
    found = system(text)
    assert (found.is_of_debian, found.has_time64_names) == (of_debian, time64)


@pytest.mark.parametrize("codename", ["", "Bookworm", "book worm", "$(x)", "a" * 50, "-x"])
def test_a_codename_that_no_archive_has_is_none(codename: str) -> None:
    assert system(f"ID=debian\nVERSION_CODENAME={codename}\n").suite == ""
