from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given

from envbuilder.amendment import Amendment
from envbuilder.errors import Problem, Source
from envbuilder.problems import Problems
from envbuilder.yaml_text import dump, load
from tests.strategies import AMENDMENTS, YAML_VALUES

SOURCE = Source(file="up.yaml", key="amend")


def read(text: str) -> tuple[Amendment, tuple[Problem, ...]]:
    document = load(text, source_file="up.yaml")
    assert isinstance(document, Mapping)
    problems = Problems()
    return Amendment.read(document, SOURCE, problems), problems.found


FULL = """
python: 3.11
image: python:3.11-slim
pip:
  bump: [NumPy==2, 'six==1 --hash=sha256:aa']
  add: ['scipy>=1; python_version > "3"']
  remove: [Typing_Extensions]
  swap: {MLflow: mlflow-skinny}
conda: {bump: [mkl=2], add: [conda-forge::openblas], remove: [Blas], swap: {cudatoolkit: cuda-version=12}}
channels: {add: [conda-forge], remove: [defaults], swap: {anaconda: bioconda}}
index_url: https://i.example/simple
extra_index_urls: {add: [https://e.example/simple/]}
find_links: {remove: [https://F.example/links/]}
system_packages: {add: [libgomp1], remove: [git]}
environment_variables: {add: {A: 1}, remove: [B]}
"""


def test_every_operation_is_read_with_its_place() -> None:
    found, problems = read(FULL)
    assert problems == ()
    assert found.python is not None
    assert (found.python.value.text, str(found.python.source)) == ("3.11", "up.yaml: amend.python")
    assert [one.text for one in found.requirements.bump] == ["numpy==2", "six==1"]
    assert str(found.requirements.bump[0].source) == "up.yaml: amend.pip.bump[0]"
    assert [one.value for one in found.requirements.remove] == ["typing-extensions"]
    (swap,) = found.requirements.swap
    assert (swap.old.value, swap.new.text, str(swap.new.source)) == (
        "mlflow",
        "mlflow-skinny",
        "up.yaml: amend.pip.swap.MLflow",
    )
    assert [one.value for one in found.match_specs.remove] == ["blas"]
    assert [one.value for one in found.find_links.remove] == ["https://f.example/links"]
    assert [(one.name, one.value) for one in found.add_variables] == [("A", "1")]


def test_what_is_written_says_the_same() -> None:
    found, _ = read(FULL)
    plain = found.to_plain()
    assert list(plain) == list(load(FULL, source_file="x"))  # type: ignore[arg-type]
    assert plain["pip"] == {
        "bump": ["numpy==2", "six==1 --hash=sha256:aa"],
        "add": ['scipy>=1; python_version > "3"'],
        "remove": ["typing-extensions"],
        "swap": {"mlflow": "mlflow-skinny"},
    }
    again, problems = read(dump(plain))
    assert problems == ()
    assert (again.meaning, again.to_plain()) == (found.meaning, plain)


@pytest.mark.parametrize(
    ("text", "what", "key"),
    [
        ("pipp: {}", "`pipp` is not known here", "pipp"),
        ("pip: {bumb: [a]}", "`bumb` is not known here", "pip.bumb"),
        ("channels: {bump: [a]}", "`bump` is not known here", "channels.bump"),
        ("pip: [a]", "expected a mapping, got a list", "pip"),
        ("pip: {add: a}", "expected a list, got text", "pip.add"),
        ("pip: {add: [a b]}", None, "pip.add[0]"),
        ("pip: {add: [./a-1-py3-none-any.whl]}", "`a @ ./a-1-py3-none-any.whl` is a path, which means", "pip.add[0]"),
        ("pip: {remove: [a==1]}", "`a==1` is not the name of something that can be asked for", "pip.remove[0]"),
        ("pip: {swap: {a: }}", "expected text, got nothing", "pip.swap.a"),
        ("pip: {swap: {a: [b]}}", "expected text, got a list", "pip.swap.a"),
        ("pip: {swap: {a: b c}}", None, "pip.swap.a"),
        ("pip: {swap: [a]}", "expected a mapping, got a list", "pip.swap"),
        ("conda: {add: ['a=$']}", None, "conda.add[0]"),
        ("conda: {add: [python=3.9]}", "Python has a key of its own", "conda.add[0]"),
        ("conda: {remove: ['a=1']}", "`a=1` is not the name", "conda.remove[0]"),
        ("channels: {add: [a b]}", "`a b` is not a channel", "channels.add[0]"),
        ("python: three", "`three` is not a Python version", "python"),
        ("python: [3]", "expected text, got a list", "python"),
        ("image: a b", "`a b` is not the name of an image", "image"),
        ("index_url: h", "`h` is not the URL of a package index", "index_url"),
        ("extra_index_urls: {add: [h]}", "`h` is not the URL of a package index", "extra_index_urls.add[0]"),
        ("find_links: {add: [./w]}", "`./w` is a folder of this machine", "find_links.add[0]"),
        ("system_packages: {add: [a;b]}", "`a;b` is not the name of a Debian package", "system_packages.add[0]"),
        ("environment_variables: {A: 1}", "`A` is not known here", "environment_variables.A"),
        (
            "environment_variables: {add: {PATH: x}}",
            "`PATH` is set by the image itself",
            "environment_variables.add.PATH",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_its_place(text: str, what: str | None, key: str) -> None:
    _, (problem,) = read(text)
    assert problem.what.startswith(what or "")
    assert problem.where == Source(file="up.yaml", key=f"amend.{key}")
    assert problem.fix


@pytest.mark.parametrize(
    ("operations", "named"),
    [
        ("{bump: [a==1, A==2]}", "`a` is named twice, by `bump` and `bump`"),
        ("{bump: [a], add: [a]}", "`a` is named twice, by `bump` and `add`"),
        ("{bump: [b], swap: {a: b}}", "`b` is named twice, by `bump` and `swap for`"),
        ("{swap: {a: b, b: c}}", "`b` is named twice, by `swap for` and `swap`"),
        ("{remove: [a, a]}", "`a` is named twice, by `remove` and `remove`"),
        ("{remove: [a], add: [a==1]}", None),
        ("{swap: {a: c, b: c}}", None),
        ("{swap: {a: a==2}}", None),
    ],
)
def test_a_name_stands_in_one_operation(operations: str, named: str | None) -> None:
    _, problems = read(f"pip: {operations}")
    assert [problem.what for problem in problems] == ([named] if named else [])
    assert all(problem.where == SOURCE.child("pip") for problem in problems)


def test_credentials_are_shown_nowhere() -> None:
    text = "{add: ['https://u:s3cret@h/c'], remove: ['https://u:s3cret@h/d'], swap: {'https://u:s3cret@h/e': [x]}}"
    found, problems = read(f"channels: {text}\nextra_index_urls: {text}")
    assert len(problems) == 2
    assert "s3cret" not in repr(found) + repr(problems) + str(found.to_plain()) + str(found.meaning)
    assert [source.key for source in found.secrets] == ["amend.channels.add[0]", "amend.extra_index_urls.add[0]"]


@given(AMENDMENTS)
def test_any_amendment_is_read_back(document: Mapping[str, object]) -> None:
    found, problems = read(dump(document))
    assert problems == ()
    again, _ = read(dump(found.to_plain()))
    assert (again.to_plain(), again.meaning) == (found.to_plain(), found.meaning)


def test_an_empty_amendment_says_nothing() -> None:
    found, problems = read("{}")
    assert (found, problems, found.to_plain(), found.secrets) == (Amendment(), (), {}, ())


@given(YAML_VALUES)
def test_whatever_stands_below_a_key_is_read_or_reported(value: object) -> None:
    for key in ("pip", "conda", "channels", "environment_variables", "python"):
        found, problems = read(dump({key: value}))
        assert problems or found.to_plain().keys() <= {key}
