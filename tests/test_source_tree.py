from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import digest
from envbuilder.errors import InvalidFileError, Source
from envbuilder.source_tree import SourceTree, subdirectory_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "subdirectory"),
    [
        ("https://h.example/a.zip", ""),
        ("https://h.example/a.zip#egg=x&subdirectory=p%20q/r", "p q/r"),
        ("https://h.example/a.zip#subdirectory=/p/", "p"),
        ("https://h.example/a.zip?subdirectory=p", ""),
    ],
)
def test_a_subdirectory_is_read_from_a_url(url: str, subdirectory: str) -> None:
    assert subdirectory_of(url) == subdirectory


@pytest.mark.parametrize("name", ["absent", "file", "out", "..", "a/../a", "./a", "a//b"])
def test_only_a_directory_inside_is_a_project(name: str, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "file").touch()
    (top / "out").symlink_to(tmp_path)
    tree = SourceTree(directory=top, digest=digest.of_bytes(b""), subdirectory=name, where=Source(file="x"))
    with pytest.raises(InvalidFileError, match="the source has no directory"):
        tree.checked()


def test_the_top_and_a_directory_below_are_projects(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("", "a/b"):
        tree = SourceTree(directory=tmp_path, digest=digest.of_bytes(b""), subdirectory=name, where=Source(file="x"))
        assert tree.checked().project == tmp_path / name
