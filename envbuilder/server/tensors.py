"""Tensors of the Open Inference Protocol as nested lists, and back."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from .prediction import RefusedError

if TYPE_CHECKING:
    from typing import Any, Sequence

DATATYPES = {
    "bool": "BOOL",
    "boolean": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "integer": "INT32",
    "int64": "INT64",
    "long": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float": "FP32",
    "float64": "FP64",
    "double": "FP64",
}
"""By the names that signatures have for types; everything else travels as BYTES."""


def datatype(name: str) -> str:
    """Return the protocol's name of a signature's type."""
    return DATATYPES.get(name, "BYTES")


def nested(tensor: Any) -> Any:  # noqa: ANN401 - decoded JSON
    """Return the values of a request's tensor as lists in lists; raises RefusedError where they have another shape."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise _wrong("each of `inputs` is to be an object with a `name`")
    name, shape, data = tensor["name"], tensor.get("shape"), tensor.get("data")
    if not isinstance(shape, list) or not all(isinstance(one, int) and one >= 0 for one in shape):
        raise _wrong(f"`shape` of `{name[:100]}` is to be a list of sizes")
    if not isinstance(data, list):
        raise _wrong(f"`data` of `{name[:100]}` is to be a list")
    flat = _flat(data)
    count = 1
    for one in shape:
        count *= one
    if len(flat) != count:
        raise _wrong(f"`{name[:100]}` has {len(flat)} values, and its shape is for {count}")
    if (tensor.get("parameters") or {}).get("content_type") == "base64":
        try:
            flat = [base64.b64decode(one, validate=True).decode() if isinstance(one, str) else one for one in flat]
        except ValueError:
            raise _wrong(f"`{name[:100]}` is not text in base64") from None
    return _shaped(flat, shape)


def columns(value: Any) -> list[Any]:  # noqa: ANN401 - nested lists
    """Return the values of a column, whose shape may be `[n]` or `[n, 1]`."""
    return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in value]


def written(name: str, value: Any, known: str | None = None) -> dict[str, Any]:  # noqa: ANN401 - decoded JSON
    """Return a tensor of an answer; `known` is its datatype where the signature says it."""
    shape, flat = _measured(value)
    if shape is None:
        rows = value if isinstance(value, list) else [value]
        texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        return {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": texts}
    found = known if known is not None and known != "BYTES" else _datatype_of(flat)
    if found == "BYTES":
        flat = [one if isinstance(one, str) else json.dumps(one) for one in flat]
    return {"name": name, "shape": shape, "datatype": found, "data": flat}


def _wrong(what: str) -> RefusedError:
    return RefusedError(400, "BAD_REQUEST", f"The request is not one of the Open Inference Protocol: {what}.")


def _flat(data: list[Any]) -> list[Any]:
    while any(isinstance(one, list) for one in data):
        data = [inner for one in data for inner in (one if isinstance(one, list) else (one,))]
    return data


def _shaped(flat: list[Any], shape: Sequence[int]) -> Any:  # noqa: ANN401 - nested lists
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)] if size else []
    return flat if shape else flat[0]


def _measured(value: Any) -> tuple[list[int] | None, list[Any]]:  # noqa: ANN401 - decoded JSON
    """Return shape and values of nested lists; no shape where they are ragged or hold objects."""
    shape: list[int] = []
    level = value if isinstance(value, list) else [value]
    size = len(level)
    shape.append(size)
    while level and all(isinstance(one, list) for one in level):
        sizes = {len(one) for one in level}
        if len(sizes) != 1:
            return None, []
        shape.append(sizes.pop())
        level = [inner for one in level for inner in one]
    if any(isinstance(one, (list, dict)) for one in level):
        return None, []
    return shape, level


def _datatype_of(values: list[Any]) -> str:
    kinds = {type(one) for one in values if one is not None}
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int} and None not in values:
        return "INT64"
    if kinds and kinds <= {int, float}:
        return "FP64"
    return "BYTES"
