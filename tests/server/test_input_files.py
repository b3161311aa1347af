from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.server import input_files
from envbuilder.server.input_files import InvalidInputsError

if TYPE_CHECKING:
    from pathlib import Path


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def problems(*inputs: Path, output: Path) -> list[str]:
    with pytest.raises(InvalidInputsError) as raised:
        input_files.find(list(inputs), output=output)
    return str(raised.value).splitlines()


def test_files_are_found_below_each_input_in_one_order(tmp_path: Path) -> None:
    make(tmp_path / "in", "b.csv", "a/z.PQT", "a/y.parquet", "c.jsonl", ".hidden.txt", "_SUCCESS", "_meta/x.txt")
    make(tmp_path, "one.ndjson")
    found = input_files.find([tmp_path / "one.ndjson", tmp_path / "in"], output=tmp_path / "out.csv")
    assert [(one.name, one.kind) for one in found] == [
        ("one.ndjson", "jsonl"),
        ("a/y.parquet", "parquet"),
        ("a/z.PQT", "parquet"),
        ("b.csv", "csv"),
        ("c.jsonl", "jsonl"),
    ]
    assert [one.size for one in found] == [1] * 5
    key = found[0].key
    (tmp_path / "one.ndjson").write_text("more")
    assert input_files.find([tmp_path / "one.ndjson"], output=tmp_path / "out.csv")[0].key != key


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.avro", "same.csv")
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    (folder / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "other", "same.csv", "x.png")
    found = problems(folder, tmp_path / "empty", tmp_path / "none", tmp_path / "other", output=tmp_path / "o.csv")
    assert found == [
        f"`{folder}/a.avro` is of no kind that is read: {', '.join(input_files.KINDS)}",
        f"`{folder}/gone.csv` cannot be read: No such file or directory",
        f"`{folder}/link` is a link to a folder, which may lead in circles: name that folder too",
        f"`{tmp_path}/empty` holds no file",
        f"`{tmp_path}/none` does not exist",
        "the inputs mix images and tables: predict for them one after the other",
        "two inputs have the same name, so nobody could tell their predictions apart: `same.csv`",
    ]


def test_the_output_is_not_among_the_inputs(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.csv")
    (found,) = problems(tmp_path / "in", output=tmp_path / "in/deep/out.csv")
    assert found.startswith(f"the output `{tmp_path}/in/deep/out.csv` would be inside the input")


def test_the_first_of_many_problems_are_told(tmp_path: Path) -> None:
    make(tmp_path / "in", *(f"{number:02}.txt" for number in range(30)))
    found = problems(tmp_path / "in", output=tmp_path / "out.csv")
    assert (len(found), found[-1]) == (11, "and 20 more")
