from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import EnvBuilderError, InvalidFileError, ModelError
from envbuilder.mlmodel import (
    ArrayType,
    ColumnSpec,
    MapType,
    MLmodel,
    ObjectType,
    ParamSpec,
    Property,
    ScalarType,
    Signature,
    TensorSpec,
)

FLAVOR = {"loader_module": "mlflow.sklearn", "python_version": "3.11.7"}


def parse(*, flavor: dict[str, object] | None = None, **keys: object) -> MLmodel:
    document = {"flavors": {"python_function": FLAVOR if flavor is None else flavor}, **keys}
    return MLmodel.parse(yaml.safe_dump(document), file="MLmodel")


def signature(**parts: object) -> Signature | None:
    return parse(signature={key: json.dumps(value) for key, value in parts.items()}).signature


def test_a_whole_file_is_read() -> None:
    model = MLmodel.parse(
        """
artifact_path: model
flavors:
  python_function:
    code: null
    config: {temperature: 0.5}
    data: data
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.pyfunc.model
    model_code_path: agent.py
    python_model: python_model.pkl
    python_version: 3.10
  sklearn: {sklearn_version: 1.9.1}
mlflow_version: 3.17.2
model_uuid: abc
run_id: def
metadata: {azureml.base_image: x}
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  params: 'true'
  serving_input_path: serving_input_example.json
  type: dataframe
is_signature_from_type_hint: true
signature: {inputs: null, outputs: null, params: null}
prompts: null
""",
        file="m/MLmodel",
    )
    flavor = model.python_function
    assert model.flavors == ("python_function", "sklearn")
    assert (model.mlflow_version, model.model_uuid, model.run_id) == ("3.17.2", "abc", "def")
    assert flavor.python_version is not None
    assert flavor.python_version.value == "3.10"
    assert str(flavor.python_version.source) == "m/MLmodel: flavors.python_function.python_version"
    assert flavor.conda_env is not None
    assert flavor.virtual_env is not None
    assert str(flavor.conda_env.source) == "m/MLmodel: flavors.python_function.env.conda"
    assert flavor.virtual_env.value == "python_env.yaml"
    assert (flavor.loader_module, flavor.code) == ("mlflow.pyfunc.model", None)
    assert flavor.data is not None
    assert flavor.model_code_path is not None
    assert flavor.config == {"temperature": "0.5"}
    assert flavor.other == {"python_model": "python_model.pkl"}
    assert model.metadata == {"azureml.base_image": "x"}
    assert model.other == {"artifact_path": "model", "prompts": None}
    assert model.input_example is not None
    assert model.input_example.has_params
    assert model.signature == Signature(inputs=None, outputs=None, params=(), from_type_hint=True)


@pytest.mark.parametrize(
    ("env", "conda", "virtualenv"),
    [
        (None, None, None),
        ("conda.yaml", "conda.yaml", None),
        ({"conda": "c.yaml"}, "c.yaml", None),
        ({"virtualenv": "p.yaml"}, None, "p.yaml"),
    ],
    ids=["absent", "text", "conda only", "virtualenv only"],
)
def test_env_has_four_shapes(env: object, conda: str | None, virtualenv: str | None) -> None:
    flavor = parse(flavor={**FLAVOR, "env": env}).python_function
    assert (flavor.conda_env.value if flavor.conda_env else None) == conda
    assert (flavor.virtual_env.value if flavor.virtual_env else None) == virtualenv


def test_a_config_may_be_a_path() -> None:
    assert parse(flavor={**FLAVOR, "config": "config.yaml"}).python_function.config == {}


def test_a_model_without_python_function_is_refused_with_its_flavors() -> None:
    with pytest.raises(ModelError) as caught:
        MLmodel.parse("flavors: {crate: {version: 0.1}}", file="MLmodel")
    assert str(caught.value) == (
        "no `python_function` flavor, only `crate`\n  at MLmodel: flavors\n"
        "  fix: save the model with an MLflow flavor that can be loaded with `mlflow.pyfunc`"
    )
    with pytest.raises(ModelError, match="only no flavor at all"):
        MLmodel.parse("flavors: {}", file="MLmodel")


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
    assert found is not None
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
        ('"[1"', "broken JSON: Expecting ',' delimiter", "signature.inputs"),
        (json.dumps("[" * 100_000), "broken JSON: nested too deep or too large a number", "signature.inputs"),
        (json.dumps("[" + "9" * 5000 + "]"), "broken JSON: nested too deep or too large", "signature.inputs"),
        ('"{}"', "expected a JSON list", "signature.inputs"),
        ("[a]", "expected text, got a list", "signature.inputs"),
        ('"[1]"', "expected a JSON object", "signature.inputs[0]"),
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
    written = entries if isinstance(entries, str) else json.dumps(json.dumps(entries))
    with pytest.raises(InvalidFileError) as caught:
        MLmodel.parse(
            f"flavors: {{python_function: {{loader_module: m}}}}\nsignature: {{inputs: {written}}}", file="MLmodel"
        )
    problem = caught.value.problems[0]
    assert what in problem.what
    assert problem.where is not None
    assert problem.where.key == key


def test_a_broken_param_is_refused() -> None:
    with pytest.raises(InvalidFileError, match=r"signature\.params\[0\]\.name"):
        signature(params=[{"type": "long"}])


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("import os", "MLmodel"),
        ("a: b", "MLmodel"),
        ("flavors: [x]", "MLmodel: flavors"),
        ("flavors: {python_function: x}", "MLmodel: flavors.python_function"),
        ("flavors: {python_function: {}}", "MLmodel: flavors.python_function"),
        ("flavors: {python_function: {loader_module: m, env: [x]}}", "MLmodel: flavors.python_function.env"),
        ("flavors: {python_function: {loader_module: m, config: [x]}}", "MLmodel: flavors.python_function.config"),
        ("flavors:", "MLmodel: flavors.python_function"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        MLmodel.parse(text, file="MLmodel")
    assert where in [str(problem.where) for problem in caught.value.problems]
    assert all(problem.fix for problem in caught.value.problems)


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
    with contextlib.suppress(EnvBuilderError):
        signature(inputs=value, params=value)
