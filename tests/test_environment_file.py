from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import environment_file
from envbuilder.environment_yaml import Environment, Replacement
from envbuilder.errors import EnvBuilderError, InvalidFileError, Source
from tests.conftest import as_nobody

if TYPE_CHECKING:
    from pathlib import Path

CHOICE = Source(file="--environment")


def write(folder: Path, **files: str) -> Path:
    """Write files: `a__b_yaml` is `a/b.yaml`; the environment's file is returned."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "slim.yaml"


def refused(file: Path) -> str:
    with pytest.raises(InvalidFileError) as caught:
        environment_file.read(file, source=CHOICE)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    return str(caught.value)


def test_the_conda_file_is_read_relative_to_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, slim_yaml="{image: a, conda_file: sub/c.yaml}", sub__c_yaml="dependencies: [numpy=1]")
    found = environment_file.read(file)
    assert isinstance(found.content, Replacement)
    assert found.content.conda is not None
    assert found.content.conda_file is None
    assert str(found.content.conda.match_specs[0].source) == f"{tmp_path}/sub/c.yaml: dependencies[0]"
    inline = Environment.parse("{image: a, conda_file: {dependencies: [numpy 1.*]}}", file="x")
    assert found.digest == inline.digest


def test_an_amendment_and_an_image_need_no_other_file(tmp_path: Path) -> None:
    assert environment_file.read(write(tmp_path, slim_yaml="amend: {}")).kind == "amendment"
    found = environment_file.read(write(tmp_path, slim_yaml="build: {path: https://h/r.git}"))
    assert found.content.base is not None
    assert found.content.base.digest is None


def test_a_build_context_counts_by_its_content(tmp_path: Path) -> None:
    text = "build: {path: ctx}"
    one = environment_file.read(write(tmp_path / "a", slim_yaml=text, ctx__Dockerfile="FROM a", ctx__x="1"))
    other = environment_file.read(write(tmp_path / "b", slim_yaml="build: {path: c}", c__Dockerfile="FROM a", c__x="1"))
    assert one.digest == other.digest
    changed = environment_file.read(write(tmp_path / "a", slim_yaml=text, ctx__x="2"))
    assert changed.digest != one.digest


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{conda_file: gone.yaml}", "`gone.yaml` does not exist"),
        (f"{{conda_file: {'a' * 300}}}", "does not exist"),
        ("{conda_file: .}", "`.` does not exist"),
        ("{conda_file: bad.yaml}", "expected a list, got text"),
        ("{build: {path: gone}}", "`gone` has no `Dockerfile`"),
        ("{build: {path: ., dockerfile_path: D}}", "`.` has no `D`"),
        ("{build: {path: linked}}", "a link that leaves the model directory"),
        ("{image: a, build: {path: .}}", "`image` and `build` are given together"),
        ("{conda_file: huge.yaml}", "larger than 10 MiB"),
    ],
    ids=lambda value: value[:30],
)
def test_what_it_names_must_be_there(tmp_path: Path, text: str, what: str) -> None:
    write(tmp_path, bad_yaml="dependencies: x", linked__Dockerfile="FROM a", huge_yaml="#" * (10 * 1024 * 1024 + 1))
    (tmp_path / "linked" / "x").symlink_to("/etc/passwd")
    assert what in refused(write(tmp_path, slim_yaml=text))


@pytest.mark.parametrize("name", ["gone.yaml", "a" * 300, "."])
def test_a_file_that_is_not_there_is_told_to_who_named_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        environment_file.read(tmp_path / name, source=CHOICE)
    (problem,) = caught.value.problems
    assert problem.what.endswith("does not exist")
    assert (problem.where, problem.fix) == (
        CHOICE,
        "give the path of an environment file, or `NAME:VERSION` of a registered one",
    )


def test_a_conda_file_is_told_from_an_environment(tmp_path: Path) -> None:
    assert "this is a conda file, not an environment" in refused(write(tmp_path, slim_yaml="dependencies: []"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, slim_yaml="amend: {}")
    file.chmod(0)
    with as_nobody(tmp_path):
        assert f"cannot be read: Permission denied\n  at {file}" in refused(file)


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(EnvBuilderError, match="cannot be read: Is a directory"):
        environment_file.read_text(tmp_path)


def test_the_folder_of_an_inline_environment_is_given(tmp_path: Path) -> None:
    write(tmp_path, c_yaml="dependencies: [numpy]")
    inline = Environment.parse("{image: a, conda_file: c.yaml}", file="envbuilder.yaml")
    found = environment_file.complete(inline, tmp_path)
    assert isinstance(found.content, Replacement)
    assert found.content.conda is not None
    assert [one.name for one in found.content.conda.match_specs] == ["numpy"]
