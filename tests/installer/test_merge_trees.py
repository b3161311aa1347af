from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.installer import merge_trees
from envbuilder.installer.merge_trees import ClashError

if TYPE_CHECKING:
    from pathlib import Path


def tree(folder: Path, **files: str) -> tuple[str, Path]:
    """Write a tree; a value that begins with `->` is a link."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
    return folder.name, folder


def test_the_last_tree_wins_and_what_is_the_same_is_not_contested(tmp_path: Path) -> None:
    trees = [
        tree(tmp_path / "a", share__both="a", share__same="s", link="->x", one="1"),
        tree(tmp_path / "b", share__both="b", share__same="s", link="->y", two="2"),
        tree(tmp_path / "c", share__same="s", link="->y"),
    ]
    assert merge_trees.contested(trees) == {"link": ("a", "b", "c"), "share/both": ("a", "b")}
    target = tmp_path / "target"
    target.mkdir()
    merge_trees.merge(trees, target)
    assert (target / "share/both").read_text() == "b"
    assert str((target / "link").readlink()) == "y"
    assert {path.name for path in target.iterdir()} == {"link", "one", "share", "two"}
    # The trees are as they were.
    assert (tmp_path / "a/share/both").read_text() == "a"


def test_a_file_that_differs_in_being_executable_is_contested(tmp_path: Path) -> None:
    trees = [tree(tmp_path / "a", run="x"), tree(tmp_path / "b", run="x")]
    (tmp_path / "b/run").chmod(0o755)
    assert merge_trees.contested(trees) == {"run": ("a", "b")}


def test_moving_leaves_nothing_behind_but_folders(tmp_path: Path) -> None:
    trees = [tree(tmp_path / "a", share__x="a", link="->/nowhere"), tree(tmp_path / "b", share__x="b")]
    target = tmp_path / "target"
    target.mkdir()
    merge_trees.merge(trees, target, move=True)
    assert (target / "share/x").read_text() == "b"
    assert set(merge_trees.paths_of(tmp_path / "a").values()) == {True}


@pytest.mark.parametrize("other", ["->/tmp", "a file"], ids=["link", "file"])
def test_a_directory_here_and_something_else_there_is_a_clash(other: str, tmp_path: Path) -> None:
    for order in (("a", "b"), ("b", "a")):
        trees = {
            "a": tree(tmp_path / "-".join(order) / "a", share__x=other),
            "b": tree(tmp_path / "-".join(order) / "b", share__x__evil="e"),
        }
        with pytest.raises(ClashError) as raised:
            merge_trees.contested([trees[name] for name in order])
        assert raised.value.path == "share/x"
        assert raised.value.owners == order


def test_a_file_here_and_a_link_there_is_contested(tmp_path: Path) -> None:
    trees = [tree(tmp_path / "a", run="x"), tree(tmp_path / "b", run="->x")]
    assert merge_trees.contested(trees) == {"run": ("a", "b")}
    assert merge_trees.contested(trees[::-1]) == {"run": ("b", "a")}
