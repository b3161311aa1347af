"""The model's signature, enforced on what a request was read as: MLflow's rules, without MLflow."""

import importlib
import logging
from typing import Any, Dict

from .column_types import MismatchError, column, value
from .invalid_input import ENFORCEMENT, InvalidInputError
from .schema import NUMPY_TYPES, Schema, dtype_of, is_required

TENSOR_TEXT = "This model contains a tensor-based model signature with {}, but an input of type {} was found."

log = logging.getLogger("envbuilder.worker")


def enforce(data: Any, schema: Schema) -> Any:  # noqa: ANN401
    """Return the data as the signature asks for it, without what it does not know."""
    try:
        return _enforce(data, schema)
    except Exception as error:
        why = str(error) if isinstance(error, MismatchError) else f"{type(error).__name__}"
        raise InvalidInputError(
            f"Failed to enforce schema of data with schema '{schema}'. Error: {why}",
            code="INVALID_PARAMETER_VALUE",
            error_class=ENFORCEMENT,
        ) from error


def _enforce(data: Any, schema: Schema) -> Any:  # noqa: ANN401
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(data, pd.Series):
        data = pd.DataFrame(data)
    if not schema.is_tensor:
        data = _frame(data, schema)
    if schema.is_named:
        needed = [entry["name"] for entry in schema.entries if is_required(entry)]
        if len(needed) == 1 and isinstance(data, np.ndarray):
            data = {needed[0]: data}
        _check_names(list(data) if isinstance(data, (dict, pd.DataFrame)) else [], needed, schema)
    elif not schema.is_tensor and len(data.columns) < len(schema.entries):
        raise MismatchError(
            f"Model inference is missing inputs. The model signature declares {len(schema.entries)} inputs  but the"
            f" provided value only has {len(data.columns)} inputs. Note: the inputs were not named in the signature"
            " so we can only verify their count."
        )
    if schema.is_tensor:
        return _tensors(data, schema)
    names = schema.input_names() or list(data.columns[: len(schema.entries)])
    columns = {}  # type: Dict[Any, Any]
    for name, entry in zip(names, schema.entries):
        if name in data:
            columns[name] = _column(name, data[name], entry)
    return pd.DataFrame(columns)


def _check_names(actual: Any, needed: Any, schema: Schema) -> None:  # noqa: ANN401
    missing = [name for name in needed if name not in actual]
    extra = [name for name in actual if name not in schema.by_name]
    if missing:
        more = f" Note that there were extra inputs: {extra}." if extra else ""
        raise MismatchError(f"Model is missing inputs {missing}.{more}")
    if extra:
        log.warning("%d inputs that the signature does not define are ignored", len(extra))


def _column(name: Any, series: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    pd = importlib.import_module("pandas")
    if entry["type"] in NUMPY_TYPES:
        return column(name, series, entry["type"])
    cells = [value(cell, entry, required=is_required(entry)) for cell in series]
    return pd.Series(cells, index=series.index, name=name, dtype=None if cells else object)


def _frame(data: Any, schema: Schema) -> Any:  # noqa: ANN401
    """Make a data frame of what a column signature was given."""
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(data, pd.DataFrame):
        return data
    if np.isscalar(data):
        return pd.DataFrame([data])
    if isinstance(data, (list, np.ndarray)):
        return pd.DataFrame(data)
    if not isinstance(data, dict):
        raise MismatchError(f"Expected input to be DataFrame. Found: {type(data).__name__}")
    is_nested = any(entry["type"] in ("array", "object") for entry in schema.entries)
    if is_nested or all(_is_single(one) for one in data.values()):
        return pd.DataFrame([data])
    arrays = {name: one.tolist() if isinstance(one, np.ndarray) and one.ndim > 1 else one for name, one in data.items()}
    try:
        return pd.DataFrame(arrays)
    except Exception as error:
        raise MismatchError(
            "This model contains a column-based signature, which suggests a DataFrame input. There was an error"
            f" casting the input data to a DataFrame: {error}"
        ) from error


def _is_single(one: Any) -> bool:  # noqa: ANN401
    """Whether a value of a dict is one cell: a scalar, texts, or an array of no dimension that holds a text."""
    np = importlib.import_module("numpy")
    if isinstance(one, np.ndarray):
        return bool(one.shape == () and one.dtype.kind == "U")
    return one is None or np.isscalar(one) or (isinstance(one, list) and all(isinstance(item, str) for item in one))


def _tensors(data: Any, schema: Schema) -> Any:  # noqa: ANN401
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if not schema.is_named:
        entry = schema.entries[0]
        if isinstance(data, pd.DataFrame):
            return _table_as_tensor(data, entry)
        if isinstance(data, np.ndarray):
            return _tensor(data, entry)
        asked = "no input names, which suggests a numpy array input or a pandas dataframe input with proper values"
        raise MismatchError(TENSOR_TEXT.format(asked, type(data)))
    found = {}
    for name, entry in schema.by_name.items():
        if isinstance(data, pd.DataFrame):
            found[name] = _series_as_tensor(name, data[name], entry)
        elif isinstance(data, dict) and isinstance(data[name], np.ndarray):
            found[name] = _tensor(data[name], entry)
        else:
            asked = "input names, which suggests a dictionary input mapping input name to a numpy array"
            raise MismatchError(TENSOR_TEXT.format(asked, type(data)))
    return found


def _tensor(array: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    shape, dtype = tuple(entry["tensor-spec"]["shape"]), dtype_of(entry)
    if shape == (-1,) and dtype.kind == "O":
        return array
    if len(shape) > 1 and -1 in shape[1:] and array.ndim == 1 and array.dtype.kind == "O":
        return array  # rows of different lengths
    same = len(shape) == array.ndim and all(-1 in (want, got) or want == got for want, got in zip(shape, array.shape))
    if not same:
        raise MismatchError(f"Shape of input {array.shape} does not match expected shape {shape}.")
    # The length of the longest text is no part of a type.
    if array.dtype != dtype and not (array.dtype.kind == dtype.kind and dtype.kind in "SU"):
        raise MismatchError(f"dtype of input {array.dtype} does not match expected dtype {dtype}")
    return array


def _table_as_tensor(data: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    shape = tuple(entry["tensor-spec"]["shape"])
    if data.empty:
        raise MismatchError("Input DataFrame is empty.")
    if len(data.columns) == 1:
        return _series_as_tensor(None, data[data.columns[0]], entry)
    if shape != (-1, len(data.columns)):
        raise MismatchError(
            "This model contains a model signature with an unnamed input. Since the input data is a pandas DataFrame"
            " containing multiple columns, the input shape must be of the structure (-1, number_of_dataframe_columns)."
            f" Instead, the input DataFrame passed had {len(data.columns)} columns and an input shape of {shape}."
        )
    return _tensor(data.to_numpy(), entry)


def _series_as_tensor(name: Any, series: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")
    shape, dtype = tuple(entry["tensor-spec"]["shape"]), dtype_of(entry)
    if shape[0] != -1 or -1 in shape[1:]:
        which = f"input {name}" if name is not None else "the unnamed input"
        raise MismatchError(
            "For pandas dataframe input, the first dimension of shape must be a variable dimension and other"
            f" dimensions must be fixed, but in model signature the shape of {which} is {shape}."
        )
    first = series.iloc[0]
    if np.isscalar(first):
        if shape not in ((-1,), (-1, 1)):
            raise MismatchError(
                f"The input pandas dataframe column '{name}' contains scalar values, which requires the shape to be"
                f" (-1,) or (-1, 1), but got tensor spec shape of {shape}."
            )
        return _tensor(np.array(series, dtype=dtype).reshape(shape), entry)
    if not (isinstance(first, list) and first and np.isscalar(first[0])):
        raise MismatchError(
            "Because the model signature requires tensor spec input, the input pandas dataframe values should be"
            " either scalar value, python list containing scalar values or numpy array containing scalar values,"
            " other types are not supported."
        )
    try:
        made = np.vstack(series.tolist()).reshape(shape).astype(dtype)
    except ValueError:
        made = ()
    if len(made) != len(series):
        raise MismatchError(
            f"The value in the Input DataFrame column '{name}' could not be converted to the expected shape of:"
            f" '{shape}'. Ensure that each of the input list elements are of uniform length and that the data can be"
            f" coerced to the tensor type '{dtype}'"
        )
    return _tensor(made, entry)
