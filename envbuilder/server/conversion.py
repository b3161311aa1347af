"""MLflow's JSON forms as data frames and arrays of the signature's types, where the environment has no MLflow."""

import base64
import binascii
import importlib
from typing import Any, Dict, List, Optional

from .column_types import MismatchError, value
from .invalid_input import InvalidInputError
from .schema import NUMPY_TYPES, Schema, dtype_of, is_required, pandas_type, type_text


def frame(form: str, content: Any, schema: Optional[Schema]) -> Any:  # noqa: ANN401
    """Make the data frame of `dataframe_split` or `dataframe_records`."""
    pd = importlib.import_module("pandas")
    is_split = form == "dataframe_split"
    if not isinstance(content, dict) if is_split else not isinstance(content, list):
        asked = "split format must be a dictionary" if is_split else "records format must be a list of records"
        raise InvalidInputError(f"Invalid input. Dataframe {asked}. Got {_kind(content)}.")
    if is_split and ("data" not in content or set(content) - {"columns", "data", "index"}):
        raise InvalidInputError(
            "Invalid input. Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields."
        )
    try:
        if is_split:
            made = pd.DataFrame(content["data"], index=content.get("index"), columns=content.get("columns"))
        else:
            made = pd.DataFrame(content)
    except Exception as error:
        raise InvalidInputError(
            f"Invalid input. Provided {form} field is not a valid dataframe representation in"
            f" '{form[len('dataframe_') :]}' format. Error: '{type(error).__name__}'"
        ) from error
    return cast(made, schema) if schema is not None else made


def _kind(content: Any) -> str:  # noqa: ANN401
    if isinstance(content, (dict, list)):
        return "dictionary" if isinstance(content, dict) else "list"
    return f"type {type(content)}"


def cast(made: Any, schema: Schema) -> Any:  # noqa: ANN401
    """Give the columns the types that the signature has for them."""
    for name, entry in _pairs(made, schema):
        if name not in made.columns:
            continue
        try:
            made[name] = _cast(made[name], entry)
        except Exception as error:
            kind = str(pandas_type(entry["type"])) if entry["type"] in NUMPY_TYPES else type_text(entry)
            # The text of an exception of pandas quotes what it could not read; ours does not.
            why = str(error) if isinstance(error, MismatchError) else type(error).__name__
            raise InvalidInputError(
                "Invalid input. Data is not compatible with model signature."
                f" Failed to convert column {name} to type '{kind}'. Error: '{why}'"
            ) from error
    return made


def _pairs(made: Any, schema: Schema) -> Any:  # noqa: ANN401
    if schema.is_named:
        return [(entry["name"], entry) for entry in schema.entries]
    if schema.is_tensor:
        return [(name, schema.entries[0]) for name in made.columns]
    return zip(made.columns, schema.entries)


def _cast(series: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401, PLR0911
    pd = importlib.import_module("pandas")
    kind = entry["type"]
    if kind == "any":
        return series
    if kind == "binary":
        return series.map(_bytes)
    if kind == "datetime":
        parsed = pd.to_datetime(series)
        is_other = getattr(getattr(parsed, "dt", None), "unit", "ns") != "ns"
        return parsed.dt.as_unit("ns") if is_other else parsed
    if kind not in NUMPY_TYPES and kind != "tensor":
        return series.map(lambda cell: value(cell, entry, required=is_required(entry)))
    dtype = dtype_of(entry) if kind == "tensor" else pandas_type(kind)
    if dtype.kind == "S":
        return series.map(lambda cell: cell.encode("utf-8"))
    if kind == "tensor" and isinstance(series.iloc[0], list):
        return series  # shaped when it is enforced
    if dtype.kind in "OU" and isinstance(series.dtype, getattr(pd, "StringDtype", ())):
        return series
    return series.astype(dtype)


def _bytes(cell: Any) -> bytes:  # noqa: ANN401
    if not isinstance(cell, str):
        raise MismatchError(f"expected base64 text, got {type(cell).__name__}")
    try:
        return base64.decodebytes(cell.encode("utf-8"))
    except binascii.Error:
        raise MismatchError("the text is not base64") from None


def tensors(form: str, content: Any, schema: Optional[Schema]) -> Any:  # noqa: ANN401
    """Make the arrays of `inputs` or `instances`."""
    try:
        if form == "instances":
            return _instances(content, schema)
        return _inputs(content, schema)
    except InvalidInputError:
        raise
    except MismatchError as error:
        raise InvalidInputError(f"Invalid input. {error}") from error
    except Exception as error:
        raise InvalidInputError(
            f"Invalid input. Ensure that the input is a valid JSON-formatted string.\nError: {type(error).__name__}"
        ) from error


def _instances(content: Any, schema: Optional[Schema]) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")
    entries = schema.by_name if schema is not None else {}
    if isinstance(content, list) and content and isinstance(content[0], dict):
        cells: Dict[str, List[Any]] = {}
        for row in content:
            for name, cell in row.items():
                cells.setdefault(name, []).append(_convert(cell, entries.get(name)))
        data = {name: np.array(column) for name, column in cells.items()}  # type: Any
    else:
        data = _inputs(content, schema)
    if isinstance(data, dict):
        sized = {name: len(one) for name, one in data.items() if isinstance(one, (list, np.ndarray))}
        counted = {
            name: size
            for name, size in sized.items()
            if not entries or (name in entries and is_required(entries[name]) and entries[name]["type"] != "array")
        }
        if len(set(counted.values())) > 1:
            raise InvalidInputError("Invalid input. The length of values for each input/column name are not the same")
    return data


def _inputs(content: Any, schema: Optional[Schema]) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")
    entries = schema.by_name if schema is not None else {}
    rows = isinstance(content, list) and all(isinstance(one, dict) for one in content)
    if schema is not None:
        if len(entries) == 1 and isinstance(content, list) and not any(isinstance(one, dict) for one in content):
            content = {next(iter(entries)): content}
        elif not schema.is_named and not (isinstance(content, list) or np.isscalar(content)):
            raise InvalidInputError(
                "Invalid input. Failed to parse input data. This model contains an un-named  model signature which"
                " expects a single n-dimensional array or a single value as input, however, an input of type"
                f" {type(content)} was found."
            )
    if isinstance(content, dict):
        return {name: _convert(one, entries.get(name)) for name, one in content.items()}
    if isinstance(content, list) and rows:
        return [{name: _convert(one, entries.get(name)) for name, one in row.items()} for row in content]
    return _convert(content, schema.entries[0] if schema is not None else None)


def _convert(content: Any, entry: Optional[Dict[str, Any]]) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")
    if entry is None:
        return np.array(content)
    if entry["type"] == "tensor":
        return np.array(content, dtype=dtype_of(entry))
    if entry["type"] not in NUMPY_TYPES:
        made = value(content, entry, required=is_required(entry))
        return np.array(made) if entry["type"] == "array" else made
    dtype = np.dtype(NUMPY_TYPES[entry["type"]])
    return np.array(content, dtype) if isinstance(content, list) else np.array([content], dtype)[0]
