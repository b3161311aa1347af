"""The rules by which values become those of a signature's types; what is lost on the way is refused, as MLflow does.

Messages name types and places, never the values: they go to whoever sent the request, and into logs.
"""

import importlib
from typing import Any, Dict

from .schema import NUMPY_TYPES, is_required, type_text

HINT = (
    " Hint: the type mismatch is likely caused by missing values. Integer columns in python can not represent missing"
    " values and are therefore encoded as floats. Declare columns that may have missing values as doubles."
)
LARGEST_EXACT = 6  # bytes of an integer that a double holds


class MismatchError(Exception):
    """A value is not of its type."""


def column(name: Any, values: Any, kind: str) -> Any:  # noqa: ANN401 - a table of rules
    """Return a Series as one of the type `kind`; only conversions that keep every value are made."""
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if values.dtype == object and kind not in ("binary", "string"):
        values = values.infer_objects()
    is_object = values.dtype == object
    is_text = isinstance(values.dtype, getattr(pd, "StringDtype", ()))
    if kind in ("string", "binary") and (is_object or is_text):
        return values
    wanted = np.dtype(NUMPY_TYPES[kind])
    if values.dtype == wanted or (kind == "binary" and values.dtype.kind == "S") or (kind == "boolean" and is_object):
        return values
    if kind == "datetime" and (values.dtype.kind == "M" or is_object):
        try:
            return values.astype(wanted)
        except (TypeError, ValueError) as error:
            raise MismatchError(f"Failed to convert column {name} from type {values.dtype} to datetime.") from error
    if _is_safe(values, wanted):
        return values.astype(wanted)
    lacks = values.dtype == np.float64 and wanted.kind == "i" and values.hasnans and (values.dropna() % 1 == 0).all()
    raise MismatchError(
        f"Incompatible input types for column {name}. Can not safely convert {values.dtype} to {wanted}."
        + (HINT if lacks else "")
    )


def _is_safe(values: Any, wanted: Any) -> bool:  # noqa: ANN401
    kind, size = values.dtype.kind, getattr(values.dtype, "itemsize", 0)
    if kind == wanted.kind:
        return bool(size <= wanted.itemsize)
    if kind == "u" and wanted.kind == "i":
        return bool(size < wanted.itemsize)
    if kind in "iu" and wanted == "float64" and size <= LARGEST_EXACT:
        return True
    return bool(values.dtype == "int64" and wanted.kind == "f" and values.isin([0, 1]).all())


def value(data: Any, entry: Dict[str, Any], *, required: bool = True) -> Any:  # noqa: ANN401
    """Return one cell as a value of a type that may be nested."""
    kind = entry["type"]
    if kind == "any":
        return data
    if kind == "array":
        return _array(data, entry["items"], required=required)
    if kind == "object":
        return _object(data, entry, required=required)
    if kind == "map":
        return _map(data, entry["values"], required=required)
    return _scalar(data, kind, required=required)


def _scalar(data: Any, kind: str, *, required: bool) -> Any:  # noqa: ANN401
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    # `data != data` is how a NaN of any kind is told.
    if not required and (data is None or (isinstance(data, float) and data != data)):  # noqa: PLR0124
        return None
    if not np.isscalar(data):
        raise MismatchError(f"Expected data to be scalar, got {type(data).__name__}")
    try:
        return column("", pd.Series(data), kind)[0]
    except MismatchError as error:
        raise MismatchError(f"Failed to enforce schema of data with dtype `{kind}`") from error


def _array(data: Any, items: Dict[str, Any], *, required: bool) -> Any:  # noqa: ANN401
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    is_list = isinstance(data, (list, np.ndarray))
    if (not required or items["type"] == "any") and (data is None or (is_list and len(data) == 0)):
        return data
    if not is_list:
        raise MismatchError(f"Expected data to be list or numpy array, got {type(data).__name__}")
    if items["type"] not in NUMPY_TYPES:
        nested = [value(one, items, required=required) for one in data]
        return np.array(nested) if isinstance(data, np.ndarray) else nested
    if len(data) == 0:
        return data
    try:
        series = pd.Series(data)
    except ValueError as error:
        raise MismatchError(str(error)) from error
    found = column("", series, items["type"]).to_numpy(dtype=np.dtype(NUMPY_TYPES[items["type"]]))
    return found.tolist() if isinstance(data, list) else found


def _object(data: Any, entry: Dict[str, Any], *, required: bool) -> Any:  # noqa: ANN401
    if not required and (data is None or data == {}):
        return data
    if not isinstance(data, dict):
        raise MismatchError(f"Failed to enforce schema. Expected data to be dictionary, got {type(data).__name__}")
    members = entry["properties"]
    missing = [name for name, member in members.items() if is_required(member) and name not in data]
    if missing:
        raise MismatchError(f"Missing required properties: {missing}")
    if any(name not in members for name in data):
        raise MismatchError("Invalid properties not defined in the schema found")
    for name, one in data.items():
        try:
            data[name] = value(one, members[name], required=is_required(members[name]))
        except MismatchError as error:
            raise MismatchError(
                f"Failed to enforce schema for key `{name}`. Expected type {type_text(members[name])},"
                f" received type {type(one).__name__}"
            ) from error
    return data


def _map(data: Any, values: Dict[str, Any], *, required: bool) -> Any:  # noqa: ANN401
    if (not required or values["type"] == "any") and (data is None or data == {}):
        return data
    if not isinstance(data, dict):
        raise MismatchError(f"Expected data to be a dict, got {type(data).__name__}")
    return {name: value(one, values, required=required) for name, one in data.items()}
