"""A request to try a model with: made from its saved input example, or else from its signature. Pure."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

from envbuilder.problems import shown
from envbuilder.signature import ArrayType, ColumnSpec, DataType, Json, MapType, ObjectType, Signature, TensorSpec
from envbuilder.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.mlmodel import InputExample

_MAX_ELEMENTS: Final = 1_000_000
_SERVING_FILES: Final = ("serving_input_example.json", "serving_input_payload.json")
_CHAT_KEYS: Final = frozenset({"messages", "prompt", "input"})
_PLAIN_VALUES: Final[dict[str, Json]] = {
    "boolean": False,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "a",
    "binary": "YQ==",
    "datetime": "2020-01-01T00:00:00",
    "any": "a",
    "sparkml_vector": [0.0],
}


def candidates(example: InputExample | None) -> tuple[str, ...]:
    """Name the files of a model that may hold a request, or an example to make one from."""
    converted = (example.path,) if example is not None and example.path is not None else ()
    return (*_serving_files(example), *converted)


def make(
    example: InputExample | None, signature: Signature | None, texts: Mapping[str, bytes]
) -> tuple[bytes | None, str]:
    """Return a body for `POST /invocations` and where it comes from, or None and why there is none.

    `texts` holds those of the `candidates` that exist.
    """
    reasons = []
    for path in _serving_files(example):
        if (text := texts.get(path)) is not None:
            try:
                return _canonical(_json(text, path)), f"`{path}`"
            except _NoExampleError as error:
                reasons.append(str(error))
    if example is not None and example.path is not None:
        try:
            return _canonical(_converted(example, example.path, texts)), f"`{example.path}`, converted"
        except _NoExampleError as error:
            reasons.append(str(error))
    try:
        return _canonical(_made_up(signature)), "; ".join((*reasons, "made from the signature"))
    except _NoExampleError as error:
        return None, "; ".join((*reasons, str(error)))


def _serving_files(example: InputExample | None) -> tuple[str, ...]:
    """Name the files that hold a request as it is sent, the one to take first."""
    named = (example.serving_path,) if example is not None and example.serving_path is not None else ()
    return (*named, *_SERVING_FILES)


class _NoExampleError(Exception):
    """Says why a request cannot be made this way."""


def _json(text: bytes, path: str) -> Json:
    if len(text) > MAX_BYTES:
        raise _NoExampleError(f"`{path}` is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        # NaN and infinity are no JSON; null is how a missing number is sent.
        decoded: Json = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise _NoExampleError(f"`{path}` is not JSON") from error
    return decoded


def _canonical(body: Json) -> bytes:
    try:
        # Keys keep their order: the columns of records and of named inputs may depend on it.
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _NoExampleError("the example holds values that JSON cannot carry") from error


def _converted(example: InputExample, path: str, texts: Mapping[str, bytes]) -> Json:
    """Turn a saved input example into a request, as MLflow does."""
    text = texts.get(path)
    if text is None:
        raise _NoExampleError(f"`{shown(path)}` does not exist")
    data, params = _json(text, path), None
    if example.has_params and isinstance(data, dict) and "data" in data:
        params, data = data.get("params"), data["data"]
    body: dict[str, Json]
    match example.type, data:
        case "dataframe", dict():
            body = {"dataframe_split": data}
        case "dataframe", list():
            records = example.orient == "records" or (bool(data) and all(isinstance(row, dict) for row in data))
            body = {"dataframe_records": data} if records else {"dataframe_split": {"data": data}}
        case "ndarray", dict() if data.keys() & {"inputs", "instances"}:
            body = data
        case "json_object", dict() if data.keys() & _CHAT_KEYS:
            return {**data, **params} if isinstance(params, dict) else data
        case (("ndarray" | "json_object"), _):
            body = {"inputs": data}
        case _:
            raise _NoExampleError(
                f"`{shown(path)}` is of type `{shown(str(example.type))}`, which no request can carry"
            )
    return {**body, "params": params} if params else body


def _made_up(signature: Signature | None) -> Json:
    """Make a request of plain values that fits the signature."""
    if signature is None or signature.inputs is None:
        raise _NoExampleError("there is no input example, and no signature to make one from")
    tensors = [one for one in signature.inputs if isinstance(one, TensorSpec)]
    if tensors:
        values: dict[str | int | None, Json] = {one.name: _zeros(one) for one in tensors}
        if None in values:
            return {"inputs": values[None]}
        return {"inputs": {str(name): value for name, value in values.items()}}
    columns = [one for one in signature.inputs if isinstance(one, ColumnSpec) and one.required]
    row: list[Json] = [_plain_value(one.type) for one in columns]
    if signature.from_type_hint:
        return {"inputs": row}
    names: list[Json] = [one.name for one in columns if one.name is not None]
    return {"dataframe_split": {"columns": names, "data": [row]} if names else {"data": [row]}}


def _plain_value(data_type: DataType) -> Json:
    match data_type:
        case ArrayType():
            return [_plain_value(data_type.items)]
        case MapType():
            return {"a": _plain_value(data_type.values)}
        case ObjectType():
            return {one.name: _plain_value(one.type) for one in data_type.properties if one.required}
        case _:
            if data_type.name not in _PLAIN_VALUES:
                raise _NoExampleError(f"no example value is known for the type `{shown(data_type.name)}`")
            return _PLAIN_VALUES[data_type.name]


def _zeros(tensor: TensorSpec) -> Json:
    shape = [1 if length < 0 else length for length in tensor.shape]
    # An axis of length 0 makes the others no smaller.
    if math.prod(max(length, 1) for length in shape) > _MAX_ELEMENTS or len(shape) > 32:  # noqa: PLR2004 as NumPy
        raise _NoExampleError("a tensor of the signature is too large to make up")
    if tensor.dtype.startswith(("int", "uint")):
        value: Json = 0
    elif tensor.dtype.startswith("float"):
        value = 0.0
    elif tensor.dtype.startswith("bool"):
        value = False
    elif tensor.dtype.startswith("datetime"):
        value = "2020-01-01T00:00:00"
    else:
        value = "a"
    for length in reversed(shape):
        value = [value] * length
    return value
