from __future__ import annotations

import json

import pytest

from envbuilder import example_request
from envbuilder.mlmodel import MLmodel


def example(*, info: dict[str, object] | None = None, extra: str = "", **files: str) -> tuple[object, str]:
    """Make a request for a model with these files: `a_json` is the file `a.json`."""
    flavors = "flavors: {python_function: {loader_module: m}}\n"
    written = f"saved_input_example_info: {json.dumps(info)}\n" if info else ""
    model = MLmodel.parse(flavors + written + extra, file="MLmodel")
    texts = {f"{name.removesuffix('_json')}.json": text.encode() for name, text in files.items()}
    body, reason = example_request.make(model.input_example, model.signature, texts)
    return (json.loads(body) if body else None), reason


def test_the_files_that_may_hold_an_example_are_named() -> None:
    served = ("serving_input_example.json", "serving_input_payload.json")
    assert example_request.candidates(None) == served
    info = "{artifact_path: a.json, serving_input_path: b.json}"
    model = MLmodel.parse(
        f"flavors: {{python_function: {{loader_module: m}}}}\nsaved_input_example_info: {info}", file="MLmodel"
    )
    assert example_request.candidates(model.input_example) == ("b.json", *served, "a.json")


INFO = {"artifact_path": "input_example.json"}


@pytest.mark.parametrize(
    ("info", "content", "expected"),
    [
        ({"type": "dataframe", "pandas_orient": "split"}, {"columns": ["a"], "data": [[1]]},
         {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "values"}, [[1]], {"dataframe_split": {"data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "values"}, {"data": [[1]]}, {"dataframe_split": {"data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "records"}, [{"a": 1}], {"dataframe_records": [{"a": 1}]}),
        ({"type": "dataframe"}, [{"a": 1}], {"dataframe_records": [{"a": 1}]}),
        ({"type": "dataframe", "pandas_orient": "split", "params": "true"},
         {"data": {"data": [[1]]}, "params": {"t": 1}}, {"dataframe_split": {"data": [[1]]}, "params": {"t": 1}}),
        ({"type": "ndarray", "format": "tf-serving"}, {"inputs": [[1]]}, {"inputs": [[1]]}),
        ({"type": "ndarray"}, [[1]], {"inputs": [[1]]}),
        ({"type": "ndarray"}, {"a": [1]}, {"inputs": {"a": [1]}}),
        ({"type": "json_object"}, "hello", {"inputs": "hello"}),
        ({"type": "json_object"}, {"messages": []}, {"messages": []}),
        ({"type": "json_object", "params": True}, {"data": {"prompt": "x"}, "params": {"n": 1}},
         {"prompt": "x", "n": 1}),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_saved_input_example_becomes_a_request(info: dict[str, object], content: object, expected: object) -> None:
    found, reason = example(info={**INFO, **info}, input_example_json=json.dumps(content))
    assert (found, reason) == (expected, "`input_example.json`, converted")


def test_a_serving_example_is_taken_first() -> None:
    info: dict[str, object] = {**INFO, "type": "dataframe", "serving_input_path": "mine.json"}
    found, reason = example(info=info, mine_json='{"inputs": [NaN, 1]}')
    assert (found, reason) == ({"inputs": [None, 1]}, "`mine.json`")
    found, reason = example(serving_input_payload_json='{"inputs": [2]}')
    assert (found, reason) == ({"inputs": [2]}, "`serving_input_payload.json`")


SIGNATURES = [
    (
        [
            {"type": "double", "name": "a"},
            {"type": "string", "name": "b"},
            {"type": "long", "name": "c", "required": False},
        ],
        {"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, "a"]]}},
    ),
    ([{"type": "boolean"}, {"type": "datetime"}], {"dataframe_split": {"data": [[False, "2020-01-01T00:00:00"]]}}),
    (
        [
            {"type": "array", "name": "l", "items": {"type": "integer"}},
            {"type": "map", "name": "m", "values": {"type": "any"}},
            {
                "type": "object",
                "name": "o",
                "properties": {"x": {"type": "float", "required": True}, "y": {"type": "float", "required": False}},
            },
        ],
        {"dataframe_split": {"columns": ["l", "m", "o"], "data": [[[0], {"a": "a"}, {"x": 0.0}]]}},
    ),
    ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}], {"inputs": [[0.0, 0.0]]}),
    (
        [
            {"type": "tensor", "name": name, "tensor-spec": {"dtype": name, "shape": [-1]}}
            for name in ("int64", "uint8", "bool", "datetime64[ns]", "str")
        ],
        {
            "inputs": {
                "int64": [0],
                "uint8": [0],
                "bool": [False],
                "datetime64[ns]": ["2020-01-01T00:00:00"],
                "str": ["a"],
            }
        },
    ),
]


@pytest.mark.parametrize(("entries", "expected"), SIGNATURES, ids=["named", "unnamed", "nested", "tensor", "tensors"])
def test_without_an_example_the_signature_makes_one(entries: object, expected: object) -> None:
    extra = f"signature: {json.dumps({'inputs': json.dumps(entries)})}\n"
    assert example(extra=extra) == (expected, "made from the signature")


def test_a_signature_from_a_type_hint_takes_inputs() -> None:
    extra = 'is_signature_from_type_hint: true\nsignature: {inputs: \'[{"type": "string"}]\'}\n'
    assert example(extra=extra)[0] == {"inputs": ["a"]}


@pytest.mark.parametrize(
    ("info", "content", "reason"),
    [
        ({"type": "sparse_matrix_csr"}, "{}", "`input_example.json` is of type `sparse_matrix_csr`"),
        ({"type": "dataframe"}, "{", "`input_example.json` is not JSON"),
        ({"type": "dataframe"}, "[" * 100_000, "`input_example.json` is not JSON"),
        ({"type": "dataframe"}, '{"data": [[1e999]]}', "the example holds values that JSON cannot carry"),
        ({"type": "dataframe"}, "[" + " " * 10 * 1024 * 1024 + "]", "`input_example.json` is larger than 10 MiB"),
        ({"type": "dataframe"}, None, "`input_example.json` does not exist"),
    ],
    ids=["sparse", "broken", "deep", "infinite", "large", "missing"],
)
def test_an_unusable_example_is_named_in_the_reason(info: dict[str, object], content: str | None, reason: str) -> None:
    files = {"input_example_json": content} if content is not None else {}
    found, why = example(info={**INFO, **info}, **files)
    assert found is None
    assert reason in why
    assert why.endswith("there is no input example, and no signature to make one from")


def test_a_broken_serving_example_falls_back() -> None:
    found, reason = example(serving_input_example_json="{", extra='signature: {inputs: \'[{"type": "long"}]\'}\n')
    assert found == {"dataframe_split": {"data": [[0]]}}
    assert reason == "`serving_input_example.json` is not JSON; made from the signature"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "quaternion"}, "no example value is known for the type `quaternion`"),
        ({"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [9999, 9999]}}, "too large to make up"),
        ({"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [1] * 40}}, "too large to make up"),
    ],
    ids=["unknown type", "many elements", "many dimensions"],
)
def test_a_signature_that_gives_no_example_says_why(entry: object, reason: str) -> None:
    found, why = example(extra=f"signature: {json.dumps({'inputs': json.dumps([entry])})}\n")
    assert found is None
    assert reason in why
