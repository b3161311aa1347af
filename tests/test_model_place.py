from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from envbuilder.model_failure import FailedError
from envbuilder.model_place import Place, Request, list_files

REQUEST = Request(
    kind="storage", name="", selector="", path="", location="s3://b", server="", directory="", known="", max_files=20
)


@dataclass(frozen=True)
class Item:
    """As MLflow's FileInfo."""

    path: str
    file_size: int | None = 3
    is_dir: bool = False


@dataclass
class Repository:
    """Lists what a test wants: MLflow's own checks what some servers list, and not what others do."""

    folders: dict[str | None, list[Item]] = field(default_factory=dict)

    def list_artifacts(self, path: str | None) -> list[Item]:
        return self.folders.get(path, [])


def test_sizes_come_by_path_below_the_model() -> None:
    repository = Repository(
        {
            "run/model": [
                Item("run/model/MLmodel", 7),
                Item("run/model", is_dir=True),
                Item("run/model/code", is_dir=True),
            ],
            "run/model/code": [Item("run/model/code/__init__.py", None)],
        }
    )
    found = list_files(repository, Place("s3://b", path="run/model"), REQUEST)
    assert found == {"MLmodel": 7, "code/__init__.py": 0}


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "/etc/x", "a/../x", "a//x", "a/./x", "..", "a\0b", "a\nb", "\x1b[31m", "a/", "\ud800"],
)
def test_no_listed_path_leads_out_of_the_model(path: str) -> None:
    for item in (Item(path), Item(path, is_dir=True)):
        repository = Repository({None: [Item("MLmodel"), item]})
        with pytest.raises(FailedError) as caught:
            list_files(repository, Place("s3://b"), REQUEST)
        assert caught.value.failure.kind == "outside"


def test_a_sibling_of_the_model_is_not_inside_it() -> None:
    repository = Repository({"model": [Item("model/MLmodel"), Item("model2/x")]})
    with pytest.raises(FailedError):
        list_files(repository, Place("s3://b", path="model"), REQUEST)


def test_files_of_one_folder_and_of_all_folders_are_bounded() -> None:
    start = [Item("MLmodel"), Item("d", is_dir=True)]
    wide: dict[str | None, list[Item]] = {None: [*start, *(Item(f"f{number}") for number in range(20))]}
    deep: dict[str | None, list[Item]] = {None: start}
    for depth in range(1, 99):
        deep["/".join("d" * depth)] = [Item("/".join("d" * (depth + 1)), is_dir=True)]
    for folders in (wide, deep):
        with pytest.raises(FailedError) as caught:
            list_files(Repository(folders), Place("s3://b"), REQUEST)
        assert caught.value.failure.kind == "endless"


def test_models_nearby_are_named() -> None:
    repository = Repository(
        {
            None: [Item("a", is_dir=True), Item("b", is_dir=True)],
            "a": [Item("a/x")],
            "b": [Item("b/MLmodel")],
        }
    )
    with pytest.raises(FailedError) as caught:
        list_files(repository, Place("s3://b"), REQUEST)
    assert caught.value.failure.near == ("s3://b/b",)
