from __future__ import annotations

import json

import pytest
import yaml

from envbuilder.errors import InvalidFileError, ModelError
from envbuilder.mlmodel import MLmodel
from envbuilder.signature import ColumnSpec, ScalarType, Signature

FLAVOR = {"loader_module": "mlflow.sklearn", "python_version": "3.11.7"}


def parse(*, flavor: dict[str, object] | None = None, **keys: object) -> MLmodel:
    document = {"flavors": {"python_function": FLAVOR if flavor is None else flavor}, **keys}
    return MLmodel.parse(yaml.safe_dump(document), file="MLmodel")


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


@pytest.mark.parametrize(
    ("metadata", "image", "key"),
    [
        ({"azureml.base_image": "a:1"}, "a:1", "metadata.azureml.base_image"),
        ({"azureml": {"base_image": "b:1"}}, "b:1", "metadata.azureml.base_image"),
        ({"azureml": {"other": "x"}, "azureml.base_image": "c:1"}, "c:1", "metadata.azureml.base_image"),
        ({"azureml": "x"}, None, None),
        ({}, None, None),
    ],
    ids=["flat", "nested", "beside", "text", "nothing"],
)
def test_the_base_image_has_two_spellings(metadata: object, image: str | None, key: str | None) -> None:
    base = parse(metadata=metadata).base
    assert (base.image if base else None, base.source.key if base else None) == (image, key)
    assert "s3cret" not in repr(parse(metadata={"note": "https://u:s3cret@h"}))


def test_versions_are_found_beside_flavors_and_at_the_top() -> None:
    document = {"flavors": {"python_function": FLAVOR, "sklearn": {"sklearn_version": "1.2"}, "crate": None}}
    found = MLmodel.parse(yaml.safe_dump({**document, "mlflow_version": "2.9"}), file="MLmodel").flavor_versions
    assert [(one.package, one.version, one.source.key) for one in found] == [
        ("mlflow", "2.9", "mlflow_version"),
        ("scikit-learn", "1.2", "flavors.sklearn.sklearn_version"),
    ]


def test_a_signature_is_read_from_its_json() -> None:
    found = parse(signature={"inputs": json.dumps([{"type": "long"}])}).signature
    column = ColumnSpec(name=None, type=ScalarType(name="long"), required=True)
    assert found == Signature(inputs=(column,), outputs=None, params=())
    assert parse().signature is None


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
        ("flavors: {python_function: {loader_module: m}}\nsignature: [x]", "MLmodel: signature"),
        ("flavors: {python_function: {loader_module: m}}\nsignature: {inputs: '{}'}", "MLmodel: signature.inputs"),
        (
            "flavors: {python_function: {loader_module: m}}\nis_signature_from_type_hint: x",
            "MLmodel: is_signature_from_type_hint",
        ),
    ],
)
def test_a_file_of_another_shape_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        MLmodel.parse(text, file="MLmodel")
    assert where in [str(problem.where) for problem in caught.value.problems]
    assert all(problem.fix for problem in caught.value.problems)
