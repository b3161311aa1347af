from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import InvalidFileError, Source
from envbuilder.problems import Problems
from envbuilder.signature import (
    ArrayType,
    ColumnSpec,
    MapType,
    ObjectType,
    ParamSpec,
    Property,
    ScalarType,
    Signature,
    TensorSpec,
)

if TYPE_CHECKING:
    from envbuilder.yaml_text import Node


def parse(**members: Node) -> Signature:
    """Read the members as they stand in a file, JSON in text."""
    problems = Problems()
    found = Signature.parse(members, Source(file="MLmodel", key="signature"), problems)
    problems.finish()
    return found


def signature(**parts: object) -> Signature:
    return parse(**{key: json.dumps(value) for key, value in parts.items()})


@pytest.mark.parametrize(
    ("entry", "required"),
    [
        ({}, True),
        ({"optional": True}, False),
        ({"optional": False}, True),
        ({"required": True}, True),
        ({"required": False}, False),
    ],
    ids=str,
)
def test_each_way_to_write_an_optional_column_is_read(entry: dict[str, bool], required: bool) -> None:  # noqa: FBT001
    found = signature(inputs=[{"type": "double", "name": "a", **entry}])
    assert found.inputs == (ColumnSpec(name="a", type=ScalarType(name="double"), required=required),)


def test_nested_types_tensors_and_params_are_read() -> None:
    found = signature(
        inputs=[
            {
                "type": "object",
                "name": "o",
                "properties": {
                    "l": {"type": "array", "items": {"type": "map", "values": {"type": "any"}}, "required": False}
                },
            },
            {"type": "long", "name": 0},
        ],
        outputs=[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}],
        params=[
            {"name": "t", "dtype": "double", "default": 0.5, "shape": None},
            {"name": "s", "type": "string", "default": ["a"], "shape": [-1]},
        ],
    )
    nested = ArrayType(items=MapType(values=ScalarType(name="any")))
    assert found == Signature(
        inputs=(
            ColumnSpec(
                name="o", type=ObjectType(properties=(Property(name="l", type=nested, required=False),)), required=True
            ),
            ColumnSpec(name=0, type=ScalarType(name="long"), required=True),
        ),
        outputs=(TensorSpec(name=None, dtype="float32", shape=(-1, 2)),),
        params=(
            ParamSpec(name="t", type=ScalarType(name="double"), default=0.5, shape=None),
            ParamSpec(name="s", type=ScalarType(name="string"), default=["a"], shape=(-1,)),
        ),
    )


def nested_arrays(depth: int) -> dict[str, object]:
    entry: dict[str, object] = {"type": "long"}
    for _ in range(depth):
        entry = {"type": "array", "items": entry}
    return entry


@pytest.mark.parametrize(
    ("entries", "what", "key"),
    [
        ("[1", "broken JSON: Expecting ',' delimiter", "signature.inputs"),
        ("[" * 100_000, "broken JSON: nested too deep or too large a number", "signature.inputs"),
        ("[" + "9" * 5000 + "]", "broken JSON: nested too deep or too large", "signature.inputs"),
        ("{}", "expected a JSON list", "signature.inputs"),
        (("a",), "expected text, got a list", "signature.inputs"),
        ("[1]", "expected a JSON object", "signature.inputs[0]"),
        ([{}], "expected text for `type`", "signature.inputs[0].type"),
        ([{"type": "long", "name": True}], "expected text or a whole number", "signature.inputs[0].name"),
        ([{"type": "long", "required": 1}], "expected true or false", "signature.inputs[0].required"),
        ([{"type": "tensor"}], "expected a JSON object", "signature.inputs[0].tensor-spec"),
        (
            [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [True]}}],
            "expected a list of whole numbers",
            "signature.inputs[0].tensor-spec.shape",
        ),
        ([{"type": "array"}], "expected a JSON object", "signature.inputs[0].items"),
        ([{"type": "map"}], "expected a JSON object", "signature.inputs[0].values"),
        ([{"type": "object"}], "expected a JSON object", "signature.inputs[0].properties"),
        ([nested_arrays(40)], "types nested deeper than 32 levels", "signature.inputs[0]" + ".items" * 33),
        ([{"type": "long"}, {"type": "long", "name": "a"}], "some entries have names", "signature.inputs"),
        (
            [{"type": "long"}, {"type": "tensor", "tensor-spec": {"dtype": "x", "shape": []}}],
            "columns and tensors together",
            "signature.inputs",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_broken_signature_is_refused_at_its_key(entries: object, what: str, key: str) -> None:
    written = entries if isinstance(entries, (str, tuple)) else json.dumps(entries)
    with pytest.raises(InvalidFileError) as caught:
        parse(inputs=written)
    problem = caught.value.problems[0]
    assert what in problem.what
    assert problem.where is not None
    assert problem.where.key == key


def test_a_broken_param_is_refused() -> None:
    with pytest.raises(InvalidFileError, match=r"signature\.params\[0\]\.name"):
        signature(params=[{"type": "long"}])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["tensor", "array", "object", "map", "double", "a"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "name", "items", "values", "properties", "tensor-spec", "dtype", "shape", "required"]
            ),
            children,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_signature_is_read_or_refused(value: object) -> None:
    with contextlib.suppress(InvalidFileError):
        signature(inputs=value, params=value)
