"""The MLmodel file as a value: flavors, environment files, signature and input example. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from envbuilder.errors import ModelError, Source
from envbuilder.yaml_text import (
    EMPTY,
    Node,
    Problems,
    Stated,
    get_boolean,
    get_document,
    get_mapping,
    get_text,
    load,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

MAX_TYPE_DEPTH: Final = 32

_KNOWN_KEYS: Final = frozenset(
    {
        "flavors",
        "mlflow_version",
        "model_uuid",
        "run_id",
        "signature",
        "is_signature_from_type_hint",
        "saved_input_example_info",
        "metadata",
    }
)
_KNOWN_PYFUNC_KEYS: Final = frozenset(
    {"loader_module", "python_version", "env", "data", "code", "config", "model_code_path"}
)
_SIGNATURE_FIX: Final = "save the signature again with MLflow, or remove `signature`"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class InputExample:
    """Where the saved input example is and how it is written."""

    path: str | None
    type: str | None
    orient: str | None
    serving_path: str | None
    has_params: bool
    """Whether the file is `{"data": …, "params": …}`."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFunction:
    """The flavor that can be served."""

    loader_module: str
    python_version: Stated[str] | None
    conda_env: Stated[str] | None
    """The path of the conda.yaml that `env` names."""
    virtual_env: Stated[str] | None
    """The path of the python_env.yaml that `env` names."""
    data: Stated[str] | None
    code: Stated[str] | None
    model_code_path: Stated[str] | None
    config: Mapping[str, Node]
    other: Mapping[str, Node]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MLmodel:
    """What an MLmodel file says."""

    flavors: tuple[str, ...]
    python_function: PythonFunction
    mlflow_version: str | None
    model_uuid: str | None
    run_id: str | None
    signature: Signature | None
    input_example: InputExample | None
    metadata: Mapping[str, Node]
    other: Mapping[str, Node]
    """Every other key, as it is."""
    source: Source

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> MLmodel:
        """Read the text of an MLmodel file; raise `ModelError` where nothing in it can be served."""
        source = Source(file=file)
        document = get_document(load(text, source_file=file), source, "an MLmodel file")
        problems = Problems()
        flavors = get_mapping(document, "flavors", source, problems)
        if flavors is not None and "python_function" not in flavors:
            _refuse_flavors(tuple(flavors), source)
        if flavors is None and "flavors" not in document:
            problems.add("no `flavors`", where=source, fix="give the MLmodel file that MLflow wrote")
        flavor = get_mapping(flavors or EMPTY, "python_function", source.child("flavors"), problems)
        python_function = _python_function(flavor or EMPTY, source.child("flavors").child("python_function"), problems)
        texts = {key: get_text(document, key, source, problems) for key in ("mlflow_version", "model_uuid", "run_id")}
        signature = _signature(document, source, problems)
        input_example = _input_example(document, source, problems)
        metadata = get_mapping(document, "metadata", source, problems) or EMPTY
        problems.finish()
        return cls(
            flavors=tuple(flavors or EMPTY),
            python_function=python_function,
            mlflow_version=_value(texts["mlflow_version"]),
            model_uuid=_value(texts["model_uuid"]),
            run_id=_value(texts["run_id"]),
            signature=signature,
            input_example=input_example,
            metadata=metadata,
            other={key: value for key, value in document.items() if key not in _KNOWN_KEYS} or EMPTY,
            source=source,
        )


def _refuse_flavors(flavors: tuple[str, ...], source: Source) -> None:
    names = ", ".join(f"`{shown(flavor)}`" for flavor in flavors) or "no flavor at all"
    raise ModelError(
        f"no `python_function` flavor, only {names}",
        where=source.child("flavors"),
        fix="save the model with an MLflow flavor that can be loaded with `mlflow.pyfunc`",
    )


def _value(stated: Stated[str] | None) -> str | None:
    return stated.value if stated is not None else None


def _python_function(flavor: Mapping[str, Node], source: Source, problems: Problems) -> PythonFunction:
    loader_module = get_text(flavor, "loader_module", source, problems)
    if loader_module is None:
        problems.add("no `loader_module`", where=source, fix="give the MLmodel file that MLflow wrote")
    conda_env, virtual_env = _env(flavor, source, problems)
    return PythonFunction(
        loader_module=_value(loader_module) or "",
        python_version=get_text(flavor, "python_version", source, problems),
        conda_env=conda_env,
        virtual_env=virtual_env,
        data=get_text(flavor, "data", source, problems),
        code=get_text(flavor, "code", source, problems),
        model_code_path=get_text(flavor, "model_code_path", source, problems),
        config=_config(flavor, source, problems),
        other={key: value for key, value in flavor.items() if key not in _KNOWN_PYFUNC_KEYS} or EMPTY,
        source=source,
    )


def _config(flavor: Mapping[str, Node], source: Source, problems: Problems) -> Mapping[str, Node]:
    # A path is as good as a mapping here; only a mapping says something to us.
    if isinstance(flavor.get("config"), str):
        return EMPTY
    return get_mapping(flavor, "config", source, problems) or EMPTY


def _env(
    flavor: Mapping[str, Node], source: Source, problems: Problems
) -> tuple[Stated[str] | None, Stated[str] | None]:
    """Return the paths of conda.yaml and python_env.yaml; `env` is absent, text, or a mapping of either key."""
    env = flavor.get("env")
    if isinstance(env, str):
        return Stated(value=env, source=source.child("env")), None
    if env is not None and not isinstance(env, Mapping):
        problems.add(
            "expected a path or a mapping with `conda` or `virtualenv`",
            where=source.child("env"),
            fix="write `env: conda.yaml`",
        )
    members = env if isinstance(env, Mapping) else EMPTY
    return (
        get_text(members, "conda", source.child("env"), problems),
        get_text(members, "virtualenv", source.child("env"), problems),
    )


def _input_example(document: Mapping[str, Node], source: Source, problems: Problems) -> InputExample | None:
    info = get_mapping(document, "saved_input_example_info", source, problems)
    if info is None:
        return None
    where = source.child("saved_input_example_info")
    return InputExample(
        path=_value(get_text(info, "artifact_path", where, problems)),
        type=_value(get_text(info, "type", where, problems)),
        orient=_value(get_text(info, "pandas_orient", where, problems)),
        serving_path=_value(get_text(info, "serving_input_path", where, problems)),
        has_params=info.get("params") in {True, "true", "True"},
        source=where,
    )


def _signature(document: Mapping[str, Node], source: Source, problems: Problems) -> Signature | None:
    signature = get_mapping(document, "signature", source, problems)
    from_type_hint = get_boolean(document, "is_signature_from_type_hint", source, problems)
    if signature is None:
        return None
    where = source.child("signature")
    inputs = _entries(signature, "inputs", where, problems)
    outputs = _entries(signature, "outputs", where, problems)
    params = _entries(signature, "params", where, problems)
    return Signature(
        inputs=_schema(inputs, where.child("inputs"), problems),
        outputs=_schema(outputs, where.child("outputs"), problems),
        params=tuple(
            param
            for index, entry in enumerate(params or [])
            if (param := _attempt(_param, entry, where.child("params").child(index), problems)) is not None
        ),
        from_type_hint=bool(from_type_hint),
    )


def _entries(signature: Mapping[str, Node], key: str, source: Source, problems: Problems) -> list[Json] | None:
    """Decode the JSON string at `key`: a list of entries."""
    text = get_text(signature, key, source, problems)
    if text is None:
        return None
    try:
        decoded: Json = json.loads(text.value)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep or too large a number"
        problems.add(f"broken JSON: {reason}", where=text.source, fix=_SIGNATURE_FIX)
        return None
    if isinstance(decoded, list):
        return decoded
    problems.add("expected a JSON list", where=text.source, fix=_SIGNATURE_FIX)
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
        problems.add("columns and tensors together", where=source, fix=_SIGNATURE_FIX)
    named = {name is not None for name in (*(one.name for one in columns), *(one.name for one in tensors))}
    if len(named) > 1:
        problems.add("some entries have names and some have none", where=source, fix=_SIGNATURE_FIX)
    return tensors or columns


def _attempt(read: Callable[[dict[str, Json], Source], T], entry: Json, source: Source, problems: Problems) -> T | None:
    try:
        return read(_object(entry, source), source)
    except _SignatureError as error:
        problems.add(str(error), where=error.source, fix=_SIGNATURE_FIX)
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
