from __future__ import annotations

import pytest

from envbuilder.build_system import BuildSystem, requirement_lines
from envbuilder.errors import InvalidFileError, Source

SOURCE = Source(file="https://index.example/thing.tar.gz", key="pyproject.toml")
LEGACY = BuildSystem(requires=("setuptools>=40.8.0",), backend="setuptools.build_meta:__legacy__")


@pytest.mark.parametrize("text", [None, b"", b"[project]\nname='thing'\n"], ids=["no file", "empty", "no table"])
def test_without_a_table_it_is_setuptools_of_old(text: bytes | None) -> None:
    assert BuildSystem.parse(text, source=SOURCE) == LEGACY


def test_a_table_without_a_backend_has_its_own_requirements() -> None:
    found = BuildSystem.parse(b'[build-system]\nrequires = ["setuptools", "wheel"]', source=SOURCE)
    assert found == BuildSystem(requires=("setuptools", "wheel"), backend=LEGACY.backend)


def test_a_whole_table_is_read() -> None:
    text = b"""
[build-system]
requires = ["Tool >= 1, <2; python_version < '3.9'"]
build-backend = "own_backend.api:Hooks.here"
backend-path = ["./tools//build", "."]
"""
    assert BuildSystem.parse(text, source=SOURCE) == BuildSystem(
        requires=('Tool<2,>=1; python_version < "3.9"',),
        backend="own_backend.api:Hooks.here",
        path=("tools/build", ""),
    )


@pytest.mark.parametrize(
    ("text", "said", "key"),
    [
        ("[build-system", "it is not TOML", ""),
        ("x = 1\n" + "a = " + "[" * 100_000, "it is not TOML", ""),
        ("build-system = 1", "`build-system` is not a table", ""),
        ("[build-system]", "does not say what it `requires`", ""),
        ("[build-system]\nrequires = 'x'", "`requires` is not a list of texts", ".build-system"),
        ("[build-system]\nrequires = [1]", "`requires` is not a list of texts", ".build-system"),
        ("[build-system]\nrequires = []\nbuild-backend = 1", "`build-backend` is 1", ""),
        ("[build-system]\nrequires = []\nbuild-backend = 'os; x'", "expected `module:object`", ""),
        ("[build-system]\nrequires = []\nbackend-path = ['../x']", "names `../x`, which is outside", ".build-system"),
        ("[build-system]\nrequires = []\nbackend-path = ['/x']", "names `/x`, which is outside", ".build-system"),
        ("[build-system]\nrequires = []\nbackend-path = 'x'", "`backend-path` is not a list", ".build-system"),
        (f"[build-system]\nrequires = {['a'] * 20_001}", "`requires` is longer than any in use", ".build-system"),
        ("[build-system]\nrequires = ['-r x']", "`-r x` is not a requirement", ".build-system.requires"),
        (
            "[build-system]\nrequires = ['x @ https://evil.example/x.whl']",
            "`x` is to be fetched from one place",
            ".build-system.requires",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told(text: str, said: str, key: str) -> None:
    with pytest.raises(InvalidFileError) as raised:
        BuildSystem.parse(text.encode(), source=SOURCE)
    (problem,) = raised.value.problems
    assert said in problem.what
    assert problem.where is not None
    assert problem.where.key == f"pyproject.toml{key}"


def test_options_among_requirement_lines_are_refused() -> None:
    assert requirement_lines(["A==1", "b"], source=SOURCE) == ("A==1", "b")
    with pytest.raises(InvalidFileError, match="it requires more than any build does"):
        requirement_lines(["a"] * 20_001, source=SOURCE)
    for line in ("--index-url https://evil.example", "-e .", "a\n--pre", "./a.whl"):
        with pytest.raises(InvalidFileError, match="is not a requirement"):
            requirement_lines([line], source=SOURCE)
