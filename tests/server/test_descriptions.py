from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from envbuilder.server import azure_swagger, json_schema, openapi
from envbuilder.server.contract import Contract

SHARED = Path(os.environ.get("ENVBUILDER_SHARED", Path(__file__).parents[3] / "shared"))
RECORDED = SHARED / "facts" / "azure-swagger"


def tensor(dtype: str, shape: list[int], **more: str) -> dict[str, Any]:
    return {**more, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}


def contract(**signature: list[dict[str, Any]]) -> Contract:
    return Contract({"signature": signature})


EVERYTHING: list[dict[str, Any]] = [
    {"name": "b", "type": "boolean"},
    {"name": "l", "type": "long", "required": True},
    {"name": "o", "type": "double", "required": False},
    {"name": "old", "type": "float", "optional": True},
    {"name": "t", "type": "datetime"},
    {"name": "a", "type": "array", "items": {"type": "string"}},
    {"name": "m", "type": "map", "values": {"type": "integer"}},
    {
        "name": "d",
        "type": "object",
        "properties": {"x": {"type": "binary", "required": True}, "y": {"type": "any", "required": False}},
    },
    {"name": "z", "type": "any"},
]
CONTRACTS = {
    "none": None,
    "columns": contract(inputs=EVERYTHING, outputs=[{"name": "p", "type": "double"}]),
    "unnamed columns": contract(inputs=[{"type": "string"}]),
    "tensor": contract(inputs=[tensor("uint8", [-1, 2, 3])], outputs=[tensor("float32", [-1, 2])]),
    "named tensors": contract(
        inputs=[tensor("float32", [-1, 2], name="x"), tensor("bool", [-1], name="m")],
        outputs=[tensor("float64", [-1], name="u"), tensor("float64", [-1], name="v")],
    ),
    "params": contract(
        inputs=[{"name": "a", "type": "double"}],
        params=[
            {"name": "temperature", "type": "double", "default": 0.5, "shape": None},
            {"name": "stop", "type": "string", "default": ["x"], "shape": [-1]},
        ],
    ),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_description_is_openapi(name: str) -> None:
    for has_token in (False, True):
        validate(openapi.describe(CONTRACTS[name], title="churn", has_token=has_token))
    for version in (3.0, 3.1):
        validate(azure_swagger.describe(CONTRACTS[name], name="churn", version=version))


def test_columns_have_their_types_and_say_which_must_be_there() -> None:
    document = openapi.request(CONTRACTS["columns"])
    (records,) = (form for form in document["oneOf"] if form["title"] == "dataframe_records")
    row = records["properties"]["dataframe_records"]["items"]
    assert row["required"] == ["b", "l", "t", "a", "m", "d", "z"]
    assert row["properties"]["l"] == {"type": "integer", "format": "int64"}
    assert row["properties"]["a"] == {"type": "array", "items": {"type": "string"}}
    assert row["properties"]["m"]["additionalProperties"] == {"type": "integer", "format": "int32"}
    assert row["properties"]["d"]["required"] == ["x"]
    assert row["properties"]["z"] == {}


def test_tensors_are_arrays_in_arrays_of_the_sizes_that_are_fixed() -> None:
    schema = json_schema.of_tensor(tensor("uint8", [-1, 2, 3]))
    assert schema["items"]["minItems"] == 2
    assert schema["items"]["items"]["items"] == {"type": "integer", "format": "int32"}
    assert "minItems" not in schema
    assert openapi.example_request(CONTRACTS["tensor"]) == {"inputs": [[[0, 0, 0], [0, 0, 0]]]}
    assert openapi.example_request(CONTRACTS["named tensors"]) == {"inputs": {"x": [[0.0, 0.0]], "m": [False]}}


def test_the_example_that_was_tried_is_the_example() -> None:
    document = openapi.describe(CONTRACTS["columns"], title="x", example={"instances": [1]})
    content = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == {"instances": [1]}


RECORDS = {
    "sk_col": contract(
        inputs=[{"name": "a", "type": "double"}, {"name": "b", "type": "double"}],
        outputs=[tensor("float64", [-1])],
    ),
    "echo_named_tensor": contract(
        inputs=[tensor("float32", [-1, 2], name="x"), tensor("int64", [-1], name="m")],
    ),
    "echo_params": contract(
        inputs=[{"name": "a", "type": "double"}, {"name": "s", "type": "string"}, {"name": "d", "type": "datetime"}],
        outputs=[{"name": "a", "type": "double"}],
        params=[
            {"name": "temperature", "type": "double", "default": 0.5, "shape": None},
            {"name": "stop", "type": "string", "default": ["x"], "shape": [-1]},
        ],
    ),
}


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
@pytest.mark.parametrize("name", RECORDS)
def test_azures_own_answers_are_all_in_ours(name: str, version: str) -> None:
    path = RECORDED / f"swagger_{name}_v{version}.json"
    if not path.exists():
        pytest.skip("the recorded answers of Azure's server are not here (ENVBUILDER_SHARED)")
    recorded = json.loads(path.read_text())
    ours = azure_swagger.describe(RECORDS[name], name="ML service", version=azure_swagger.VERSIONS[version])
    assert list(missing(recorded, ours, "")) == []


def missing(recorded: Any, ours: Any, where: str) -> Any:  # noqa: ANN401 - JSON
    """Give the places of what is recorded and is not in ours; descriptions are in words of our own."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for key, value in recorded.items():
            if key == "description":
                continue
            if key not in ours:
                yield f"{where}.{key}"
            else:
                yield from missing(value, ours[key], f"{where}.{key}")
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        for number, (one, other) in enumerate(zip(recorded, ours, strict=True)):
            yield from missing(one, other, f"{where}[{number}]")
    elif recorded != ours:
        yield f"{where}: {recorded!r} is {ours!r}"
