from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import variable
from envbuilder.errors import Problem, Source
from envbuilder.problems import Problems
from envbuilder.variable import Variable
from tests.strategies import HOSTILE, YAML_VALUES

if TYPE_CHECKING:
    from envbuilder.yaml_text import Node

SOURCE = Source(file="conda.yaml")


def read(value: Node) -> tuple[tuple[Variable, ...], tuple[Problem, ...]]:
    problems = Problems()
    return variable.read({"variables": value}, "variables", SOURCE, problems), problems.found


def test_every_variable_is_read_with_its_place() -> None:
    found, problems = read({"OMP_NUM_THREADS": "4", "_x": "a b=c", "EMPTY": "", "NOTHING": None})
    assert [(one.name, one.value, str(one.source)) for one in found] == [
        ("OMP_NUM_THREADS", "4", "conda.yaml: variables.OMP_NUM_THREADS"),
        ("_x", "a b=c", "conda.yaml: variables._x"),
        ("EMPTY", "", "conda.yaml: variables.EMPTY"),
    ]
    assert problems == ()
    assert read(None) == ((), ())


@pytest.mark.parametrize(
    ("value", "what", "key"),
    [
        ({"1A": "x"}, "`1A` is not the name of a variable", "variables.1A"),
        ({"a b": ["x"]}, "`a b` is not the name of a variable", "variables.a b"),
        ({"a\n\x1b": "x"}, "`a��` is not the name of a variable", "variables.a��"),
        ({"A": ("x",)}, "expected text, got a list", "variables.A"),
        ({"A": "x\ny"}, "`A` holds control characters", "variables.A"),
        ({"A": "https://u:s3cret@h"}, "`A` holds credentials, which would stand in the image", "variables.A"),
        (("A",), "expected a mapping, got a list", "variables"),
    ],
    ids=["digit", "space", "hostile", "list", "two lines", "credentials", "no mapping"],
)
def test_anything_else_is_a_problem_with_its_place(value: Node, what: str, key: str) -> None:
    found, (problem,) = read(value)
    assert found == ()
    assert problem.what.startswith(what)
    assert problem.where == Source(file="conda.yaml", key=key)
    assert problem.fix
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("PATH", True),
        ("HOME", True),
        ("PYTHONPATH", True),
        ("PYTHONHOME", True),
        ("LD_PRELOAD", True),
        ("ENVBUILDER_X", True),
        ("PYTHONHASHSEED", False),
        ("MY_PATH", False),
        ("LANG", False),
    ],
)
def test_some_variables_belong_to_the_image(name: str, reserved: bool) -> None:  # noqa: FBT001 - a table's column
    assert Variable(name=name, value="x", source=SOURCE).is_reserved is reserved


@given(st.dictionaries(st.text(max_size=5) | HOSTILE, YAML_VALUES.filter(lambda value: not isinstance(value, list))))
def test_whatever_is_written_is_read_or_reported(value: dict[str, Node]) -> None:
    found, problems = read(value)
    assert all(one.name.isidentifier() and one.value.isprintable() for one in found)
    assert len(found) + len(problems) >= sum(one is not None for one in value.values())
