"""A signature's types as JSON Schema, with an example value of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Dict, List

    Schema = Dict[str, Any]
    Entry = Dict[str, Any]

_SCALARS: dict[str, tuple[str, str | None, Any]] = {
    "boolean": ("boolean", None, False),
    "bool": ("boolean", None, False),
    "integer": ("integer", "int32", 0),
    "long": ("integer", "int64", 0),
    "float": ("number", "float", 0.0),
    "double": ("number", "double", 0.0),
    "string": ("string", None, "text"),
    "binary": ("string", "byte", "dGV4dA=="),
    "datetime": ("string", "date-time", "2024-01-01T00:00:00"),
}
"""The type of a signature → JSON Schema's type and format, and an example."""


def of_entry(entry: Entry) -> Schema:
    """Return the schema of a column or a parameter; of anything where the type is not known."""
    kind = entry.get("type")
    if kind == "array":
        return {"type": "array", "items": of_entry(entry.get("items") or {})}
    if kind == "map":
        return {"type": "object", "additionalProperties": of_entry(entry.get("values") or {})}
    if kind == "object":
        properties = entry.get("properties") or {}
        required = [name for name, value in properties.items() if value.get("required", True)]
        found: Schema = {"type": "object", "properties": {name: of_entry(one) for name, one in properties.items()}}
        return {**found, "required": required} if required else found
    if kind == "tensor":
        return of_tensor(entry)
    named = _SCALARS.get(str(kind))
    if named is None:
        return {}
    return {"type": named[0], **({"format": named[1]} if named[1] else {})}


def of_tensor(entry: Entry) -> Schema:
    """Return the schema of a tensor: arrays in arrays."""
    spec = entry["tensor-spec"]
    schema = _of_dtype(str(spec["dtype"]))
    for size in reversed(spec["shape"]):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema.update(minItems=size, maxItems=size)
    return schema


def of_param(entry: Entry) -> Schema:
    """Return the schema of a parameter of prediction, with its default."""
    schema = of_entry({"type": entry.get("type") or entry.get("dtype")})
    if entry.get("shape"):
        schema = {"type": "array", "items": schema}
    return {**schema, "default": entry.get("default")}


def example_of(entry: Entry) -> Any:  # noqa: ANN401 - a JSON value
    """Return a value that the schema allows, one row high where the number of rows is free."""
    kind = entry.get("type")
    if kind == "tensor":
        value: Any = _SCALARS[_scalar(str(entry["tensor-spec"]["dtype"]))][2]
        for size in reversed(entry["tensor-spec"]["shape"]):
            value = [value] * (1 if size < 0 else min(size, 1000))
        return value
    if kind == "array":
        return [example_of(entry.get("items") or {})]
    if kind == "map":
        return {"key": example_of(entry.get("values") or {})}
    if kind == "object":
        return {name: example_of(one) for name, one in (entry.get("properties") or {}).items()}
    return _SCALARS[str(kind)][2] if kind in _SCALARS else None


def is_tensor(entries: List[Entry]) -> bool:
    """Tell whether a part of a signature is of tensors, not of columns."""
    return bool(entries) and entries[0].get("type") == "tensor"


def is_required(entry: Entry) -> bool:
    """Tell whether a column has to be there; old signatures say `optional`, older ones nothing."""
    return bool(entry.get("required", not entry.get("optional", False)))


def _of_dtype(dtype: str) -> Schema:
    kind, form, _ = _SCALARS[_scalar(dtype)]
    return {"type": kind, **({"format": form} if form else {})}


def _scalar(dtype: str) -> str:
    if dtype.startswith("bool"):
        return "boolean"
    if dtype.startswith(("int", "uint")):
        return "long" if dtype.endswith("64") else "integer"
    if dtype.startswith("float"):
        return "double" if dtype.endswith("64") else "float"
    return "datetime" if dtype.startswith("datetime") else "string"
