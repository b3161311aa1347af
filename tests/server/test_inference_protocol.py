from __future__ import annotations

import json

import pytest

from envbuilder.server import inference_protocol, tensors
from envbuilder.server.contract import Contract
from envbuilder.server.prediction import RefusedError

COLUMNS = Contract(
    {
        "signature": {
            "inputs": [{"name": "a", "type": "double"}, {"name": "b", "type": "string"}],
            "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}],
        }
    }
)
TENSOR = Contract(
    {"signature": {"inputs": [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]}}
)
NAMED = Contract(
    {
        "signature": {
            "inputs": [
                {"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}},
                {"name": "m", "type": "tensor", "tensor-spec": {"dtype": "bool", "shape": [-1]}},
            ]
        }
    }
)


def tensor(name: str, shape: list[int], data: list[object], **more: object) -> dict[str, object]:
    return {"name": name, "shape": shape, "datatype": "FP64", "data": data, **more}


def asked(contract: Contract | None, *inputs: dict[str, object], **more: object) -> object:
    return json.loads(inference_protocol.translated({"inputs": list(inputs), **more}, contract))


def test_columns_become_a_frame_whether_their_shape_is_flat_or_not() -> None:
    a, b = tensor("a", [2, 1], [1.5, 2.5]), tensor("b", [2], ["x", "y"])
    assert asked(COLUMNS, a, b) == {"inputs": {"a": [1.5, 2.5], "b": ["x", "y"]}}
    nested = tensor("a", [2, 1], [[1.5], [2.5]])
    assert asked(COLUMNS, nested, b) == asked(COLUMNS, a, b)


def test_one_tensor_is_its_values_and_named_ones_keep_their_names() -> None:
    assert asked(TENSOR, tensor("input-0", [2, 2], [1, 2, 3, 4])) == {"inputs": [[1, 2], [3, 4]]}
    x, m = tensor("x", [1, 2], [1, 2]), tensor("m", [1], [True])
    assert asked(NAMED, x, m) == {"inputs": {"x": [[1, 2]], "m": [True]}}
    assert asked(NAMED, x) == {"inputs": {"x": [[1, 2]]}}


def test_without_a_signature_the_request_says_what_it_is() -> None:
    assert asked(None, tensor("t", [2], [1, 2])) == {"inputs": [1, 2]}
    assert asked(None, tensor("t", [2], [1, 2]), parameters={"content_type": "pd"}) == {"inputs": {"t": [1, 2]}}


def test_parameters_that_are_not_the_protocols_are_the_models() -> None:
    found = asked(TENSOR, tensor("i", [1, 1], [1]), parameters={"content_type": "np", "temperature": 0.5})
    assert found == {"inputs": [[1]], "params": {"temperature": 0.5}}


def test_bytes_may_come_in_base64() -> None:
    given = tensor("b", [1], ["w6Q="], parameters={"content_type": "base64"})
    assert asked(COLUMNS, given) == {"inputs": {"b": ["ä"]}}


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ([], "The request has no `inputs`."),
        (["x"], "an object with a `name`"),
        ([{"name": "a", "shape": "2", "data": []}], "`shape` of `a`"),
        ([{"name": "a", "shape": [1], "data": 1}], "`data` of `a`"),
        ([{"name": "a", "shape": [3], "data": [1]}], "`a` has 1 values, and its shape is for 3"),
        ([tensor("a", [1], ["%"], parameters={"content_type": "base64"})], "not text in base64"),
    ],
)
def test_what_is_not_of_the_protocol_is_told(inputs: list[object], what: str) -> None:
    with pytest.raises(RefusedError, match=what) as raised:
        inference_protocol.translated({"inputs": inputs}, COLUMNS)
    assert raised.value.status == 400


def test_the_metadata_is_the_signature() -> None:
    assert inference_protocol.described("m", COLUMNS) == {
        "name": "m",
        "platform": "mlflow",
        "inputs": [
            {"name": "a", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "b", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "output-0", "datatype": "INT64", "shape": [-1]}],
    }
    assert inference_protocol.described("m", TENSOR)["inputs"] == [
        {"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}
    ]
    assert inference_protocol.described("m", None)["inputs"] == []


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([1, 2], [("output-0", [2], "INT64", [1, 2])]),
        ([[0.5, 1], [2, 3]], [("output-0", [2, 2], "FP64", [0.5, 1, 2, 3])]),
        (["a", None], [("output-0", [2], "BYTES", ["a", "null"])]),
        ([True], [("output-0", [1], "BOOL", [True])]),
        ([{"x": 1, "y": "a"}, {"x": 2.5}], [("x", [2], "FP64", [1, 2.5]), ("y", [2], "BYTES", ["a", "null"])]),
        ({"p": [[1], [2]]}, [("p", [2, 1], "INT64", [1, 2])]),
        ([[1], [2, 3]], [("output-0", [2], "BYTES", ["[1]", "[2, 3]"])]),
        ([{"x": {"y": 1}}], [("x", [1], "BYTES", ['{"y": 1}'])]),
        (3.5, [("output-0", [1], "FP64", [3.5])]),
    ],
)
def test_predictions_are_tensors(predictions: object, expected: list[tuple[object, ...]]) -> None:
    found = inference_protocol.written(predictions, None)
    assert [(one["name"], one["shape"], one["datatype"], one["data"]) for one in found] == expected


def test_the_signature_knows_the_datatype_of_an_output() -> None:
    contract = Contract({"signature": {"outputs": [{"name": "p", "type": "float"}]}})
    assert inference_protocol.written([{"p": 1}], contract)[0]["datatype"] == "FP32"
    assert tensors.datatype("datetime") == "BYTES"
