from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, model_files
from envbuilder.errors import ModelError
from envbuilder.model_files import ModelFiles
from tests.conftest import as_nobody

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, **files: str) -> Path:
    """Write files: `a__b` is the file `a/b`."""
    for name, content in {"MLmodel": "flavors", **files}.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


def refused(directory: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ModelFiles.read(directory)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    return caught.value


def test_every_file_is_found_with_its_size_and_digest(tmp_path: Path) -> None:
    found = ModelFiles.read(write(tmp_path, code__a="x = 1", b=""))
    assert [(file.path, file.size) for file in found.files] == [("MLmodel", 7), ("b", 0), ("code/a", 5)]
    assert found.files[2].digest == digest.of_bytes(b"x = 1")
    assert found.directory == tmp_path


def test_the_digest_is_of_names_and_contents_and_not_of_the_place(tmp_path: Path) -> None:
    one, other = ModelFiles.read(write(tmp_path / "a", x="1")), ModelFiles.read(write(tmp_path / "b", x="1"))
    assert one.digest == other.digest
    changed = [write(tmp_path / "c", x="2"), write(tmp_path / "d", y="1"), write(tmp_path / "e", x="1", z="")]
    assert len({one.digest, *(ModelFiles.read(directory).digest for directory in changed)}) == 4


def test_links_are_followed_inside_the_directory_only(tmp_path: Path) -> None:
    write(tmp_path / "m", data__x="x")
    (tmp_path / "m" / "link").symlink_to("data/x")
    (tmp_path / "m" / "more").symlink_to("data")
    found = ModelFiles.read(tmp_path / "m")
    assert [file.path for file in found.files] == ["MLmodel", "data/x", "link", "more/x"]
    (tmp_path / "seen_through").symlink_to("m")
    assert ModelFiles.read(tmp_path / "seen_through").digest == found.digest


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("/etc/passwd", "a link that leaves the model directory"),
        ("../outside", "a link that leaves the model directory"),
        ("nothing", "a link to nothing"),
        ("link", "a link to nothing"),
        (".", "a link that leads back into itself"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, what: str) -> None:
    (tmp_path / "outside").mkdir()
    write(tmp_path / "m")
    (tmp_path / "m" / "link").symlink_to(target)
    error = refused(tmp_path / "m")
    assert what in str(error)
    assert str(error.problems[0].where) == str(tmp_path / "m" / "link")


def test_special_files_and_unprintable_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a" / "s"))
        assert "neither a file nor a directory" in str(refused(tmp_path / "a"))
    write(tmp_path / "b")
    (tmp_path / "b" / "x\ny").touch()
    assert "a file name that is not plain UTF-8 text" in str(refused(tmp_path / "b"))


def test_links_that_multiply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MAX_FILES", 50)
    write(tmp_path)
    for level in range(8):
        (tmp_path / f"d{level}").mkdir()
        for name in "ab":
            (tmp_path / f"d{level}" / name).symlink_to(f"../d{level + 1}" if level < 7 else "../MLmodel")
    assert "more than 50 files, links followed" in str(refused(tmp_path))


def test_what_is_no_directory_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in str(refused(tmp_path / "gone"))
    assert "cannot be read: Not a directory" in str(refused(write(tmp_path) / "MLmodel"))


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    paths = model_files.walk(write(tmp_path))
    (tmp_path / "MLmodel").unlink()
    with pytest.raises(ModelError, match="cannot be read: No such file or directory") as caught:
        model_files.read_file(paths, "MLmodel", root=tmp_path)
    assert str(caught.value.problems[0].where) == str(tmp_path / "MLmodel")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "MLmodel").chmod(0)
    with as_nobody(tmp_path):
        assert "cannot be read: Permission denied" in str(refused(tmp_path))
