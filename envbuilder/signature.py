"""A model's signature: the columns, tensors and parameters that go in and come out. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from envbuilder.fields import get_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envbuilder.errors import Source
    from envbuilder.problems import Problems
    from envbuilder.yaml_text import Node

T = TypeVar("T")

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

MAX_TYPE_DEPTH: Final = 32

_FIX: Final = "save the signature again with MLflow, or remove `signature`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarType:
    """`boolean`, `integer`, `long`, `float`, `double`, `string`, `binary`, `datetime`, `any`, or a newer one."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayType:
    """A list of one type."""

    items: DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class MapType:
    """Any keys, values of one type."""

    values: DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A member of an object."""

    name: str
    type: DataType
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectType:
    """Named members."""

    properties: tuple[Property, ...]


DataType: TypeAlias = ScalarType | ArrayType | MapType | ObjectType


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """A column of a table; unnamed columns go by position."""

    name: str | int | None
    type: DataType
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An array; `-1` in the shape is any length."""

    name: str | int | None
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamSpec:
    """A parameter of the prediction and its default."""

    name: str
    type: DataType
    default: Json
    shape: tuple[int, ...] | None


Schema: TypeAlias = tuple[ColumnSpec, ...] | tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What goes in and what comes out; None where the model does not say."""

    inputs: Schema | None
    outputs: Schema | None
    params: tuple[ParamSpec, ...]
    from_type_hint: bool = False

    @classmethod
    def parse(
        cls, members: Mapping[str, Node], source: Source, problems: Problems, *, from_type_hint: bool = False
    ) -> Signature:
        """Read the three JSON texts of a signature; what is wrong with them is added to `problems`."""
        inputs = _entries(members, "inputs", source, problems)
        outputs = _entries(members, "outputs", source, problems)
        params = _entries(members, "params", source, problems)
        return cls(
            inputs=_schema(inputs, source.child("inputs"), problems),
            outputs=_schema(outputs, source.child("outputs"), problems),
            params=tuple(
                param
                for index, entry in enumerate(params or [])
                if (param := _attempt(_param, entry, source.child("params").child(index), problems)) is not None
            ),
            from_type_hint=from_type_hint,
        )


def _entries(members: Mapping[str, Node], key: str, source: Source, problems: Problems) -> list[Json] | None:
    """Decode the JSON string at `key`: a list of entries."""
    text = get_text(members, key, source, problems)
    if text is None:
        return None
    try:
        decoded: Json = json.loads(text.value)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep or too large a number"
        problems.add(f"broken JSON: {reason}", where=text.source, fix=_FIX)
        return None
    if isinstance(decoded, list):
        return decoded
    problems.add("expected a JSON list", where=text.source, fix=_FIX)
    return None


class _SignatureError(Exception):
    """Says what is wrong with one entry of a signature, and at which key."""

    def __init__(self, what: str, source: Source) -> None:
        super().__init__(what)
        self.source = source


def _schema(entries: list[Json] | None, source: Source, problems: Problems) -> Schema | None:
    if entries is None:
        return None
    found = [_attempt(_column_or_tensor, entry, source.child(index), problems) for index, entry in enumerate(entries)]
    columns = tuple(one for one in found if isinstance(one, ColumnSpec))
    tensors = tuple(one for one in found if isinstance(one, TensorSpec))
    if columns and tensors:
        problems.add("columns and tensors together", where=source, fix=_FIX)
    named = {name is not None for name in (*(one.name for one in columns), *(one.name for one in tensors))}
    if len(named) > 1:
        problems.add("some entries have names and some have none", where=source, fix=_FIX)
    return tensors or columns


def _attempt(read: Callable[[dict[str, Json], Source], T], entry: Json, source: Source, problems: Problems) -> T | None:
    try:
        return read(_object(entry, source), source)
    except _SignatureError as error:
        problems.add(str(error), where=error.source, fix=_FIX)
        return None


def _object(entry: Json, source: Source) -> dict[str, Json]:
    if isinstance(entry, dict):
        return entry
    raise _SignatureError("expected a JSON object", source)


def _text(entry: dict[str, Json], key: str, source: Source) -> str:
    value = entry.get(key)
    if isinstance(value, str):
        return value
    raise _SignatureError(f"expected text for `{key}`", source.child(key))


def _name(entry: dict[str, Json], source: Source) -> str | int | None:
    name = entry.get("name")
    # A table without a header has numbers for names.
    if name is None or (isinstance(name, (str, int)) and not isinstance(name, bool)):
        return name
    raise _SignatureError("expected text or a whole number", source.child("name"))


def _shape(value: Json, source: Source) -> tuple[int, ...]:
    if isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        return tuple(one for one in value if isinstance(one, int))
    raise _SignatureError("expected a list of whole numbers", source)


def _column_or_tensor(entry: dict[str, Json], source: Source) -> ColumnSpec | TensorSpec:
    if entry.get("type") != "tensor":
        return ColumnSpec(name=_name(entry, source), type=_type(entry, source), required=_required(entry, source))
    where = source.child("tensor-spec")
    inner = _object(entry.get("tensor-spec"), where)
    return TensorSpec(
        name=_name(entry, source),
        dtype=_text(inner, "dtype", where),
        shape=_shape(inner.get("shape"), where.child("shape")),
    )


def _required(entry: dict[str, Json], source: Source) -> bool:
    """MLflow wrote nothing, then `optional`, then `required`."""
    for key, meaning in (("required", True), ("optional", False)):
        value = entry.get(key)
        if isinstance(value, bool):
            return value is meaning
        if value is not None:
            raise _SignatureError("expected true or false", source.child(key))
    return True


def _type(entry: dict[str, Json], source: Source, *, depth: int = 0) -> DataType:
    if depth > MAX_TYPE_DEPTH:
        raise _SignatureError(f"types nested deeper than {MAX_TYPE_DEPTH} levels", source)
    match name := _text(entry, "type", source):
        case "array":
            where = source.child("items")
            return ArrayType(items=_type(_object(entry.get("items"), where), where, depth=depth + 1))
        case "map":
            where = source.child("values")
            return MapType(values=_type(_object(entry.get("values"), where), where, depth=depth + 1))
        case "object":
            where = source.child("properties")
            members = _object(entry.get("properties"), where)
            return ObjectType(
                properties=tuple(
                    _property(key, _object(member, where.child(key)), where.child(key), depth=depth + 1)
                    for key, member in members.items()
                )
            )
        case _:
            return ScalarType(name=name)


def _property(name: str, entry: dict[str, Json], source: Source, *, depth: int) -> Property:
    return Property(name=name, type=_type(entry, source, depth=depth), required=_required(entry, source))


def _param(entry: dict[str, Json], source: Source) -> ParamSpec:
    shape = entry.get("shape")
    # MLflow first wrote `dtype`.
    typed = entry if "type" in entry else {**entry, "type": entry.get("dtype")}
    return ParamSpec(
        name=_text(entry, "name", source),
        type=_type(typed, source),
        default=entry.get("default"),
        shape=_shape(shape, source.child("shape")) if shape is not None else None,
    )
