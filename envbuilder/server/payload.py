"""A request's bytes as the value that a model's `predict` takes: MLflow's JSON forms, CSV and Parquet.

Where the environment's MLflow has the parsers of the 2.0 protocol they are used, so that types and messages are that
version's own; older ones get the same protocol from here, and environments without MLflow from `conversion`.
"""

import base64
import importlib
import io
import json
import os
from typing import Any, Dict, NamedTuple, Optional

from . import arrow, conversion, losses
from .contract import Contract
from .invalid_input import InvalidInputError
from .schema import Metadata

DATAFRAME_FORMS = ("dataframe_records", "dataframe_split")
TENSOR_FORMS = ("instances", "inputs")
LLM_KEYS = ("messages", "prompt", "input")

REQUIRED = (
    "The input must be a JSON dictionary with exactly one of the input fields"
    " {'inputs', 'instances', 'dataframe_records', 'dataframe_split'}"
)
PROTOCOL_CHANGE = (
    "IMPORTANT: The MLflow Model scoring protocol has changed in MLflow version 2.0. If you are"
    " seeing this error, you are likely using an outdated scoring request format. To resolve the"
    " error, either update your request format or adjust your MLflow Model's requirements file to"
    " specify an older version of MLflow (for example, change the 'mlflow' requirement specifier"
    " to 'mlflow==1.30.0'). If you are making a request using the MLflow client"
    " (e.g. via `mlflow.pyfunc.spark_udf()`), upgrade your MLflow client to a version >= 2.0 in"
    " order to use the new request format. For more information about the updated MLflow"
    " Model scoring protocol in MLflow 2.0, see"
    " https://mlflow.org/docs/latest/models.html#deploy-mlflow-models."
)


class Request(NamedTuple):
    """What a request asks of the model."""

    data: Any
    params: Optional[Dict[str, Any]]
    is_llm: bool
    """Whether it came in an LLM's form, whose answer is not wrapped either."""


def parse(
    content_type: str,
    body: bytes,
    metadata: Any,  # noqa: ANN401 - MLflow's, of any version
    contract: Optional[Contract] = None,
) -> Request:
    """Read a request for the model that `metadata` describes; with its contract, refuse what would be lost."""
    schema = metadata.get_input_schema() if metadata is not None else None
    if content_type == "text/csv":
        return Request(_csv(body, schema), None, is_llm=False)
    if content_type == "application/vnd.apache.parquet":
        return Request(_parquet(body), None, is_llm=False)
    if content_type == arrow.MEDIA_TYPE:
        return Request(arrow.read(body), None, is_llm=False)
    fields = _fields(body)
    if any(key in fields for key in LLM_KEYS):
        return _llm(fields, metadata)
    params = fields.get("params")
    forms = {key: value for key, value in fields.items() if key in DATAFRAME_FORMS + TENSOR_FORMS}
    return Request(data(forms, metadata, contract), params, is_llm=False)


def data(forms: Dict[str, Any], metadata: Any, contract: Optional[Contract]) -> Any:  # noqa: ANN401
    """Make what the model takes of the one form that is given, e.g. of `{"dataframe_records": […]}`."""
    if takes_objects(metadata):
        if "inputs" not in forms:
            raise InvalidInputError(
                "Request payload must be a dictionary with 'inputs' key when the model contains a valid type hint."
                f" Found keys in payload: {forms.keys()}.",
                code="INVALID_PARAMETER_VALUE",
            )
        return forms["inputs"]
    if contract is not None and len(forms) == 1 and os.environ.get("ENVBUILDER_STRICT_MLFLOW") != "1":
        losses.check(*next(iter(forms.items())), contract)
    schema = metadata.get_input_schema() if metadata is not None else None
    return _data(forms, schema, is_own=isinstance(metadata, Metadata))


def takes_objects(metadata: Any) -> bool:  # noqa: ANN401
    """Whether the signature comes from a type hint: the model takes a list of values as they are in JSON."""
    return bool(getattr(metadata, "_is_signature_from_type_hint", bool)())


def _fields(body: bytes) -> Dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:  # not JSON, or not UTF-8
        where = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"
        raise InvalidInputError(
            f"Invalid input. Ensure that input is a valid JSON formatted string. Error: '{where}'",
        ) from error
    except RecursionError as error:
        raise InvalidInputError("Invalid input. The JSON is nested too deeply.") from error
    if isinstance(fields, dict):
        return fields
    if isinstance(fields, list):
        raise InvalidInputError(f"Invalid input. {REQUIRED}. Received a list.")
    raise InvalidInputError(f"Invalid input. {REQUIRED}. Received unexpected input type '{type(fields)}.")


def _llm(fields: Dict[str, Any], metadata: Any) -> Request:  # noqa: ANN401
    schema = metadata.get_params_schema() if hasattr(metadata, "get_params_schema") else None
    names = {param.name for param in schema.params} if schema else set()
    data = {key: value for key, value in fields.items() if key not in names}
    return Request(data, {key: value for key, value in fields.items() if key in names}, is_llm=True)


def _data(forms: Dict[str, Any], schema: Any, *, is_own: bool) -> Any:  # noqa: ANN401
    if len(forms) != 1:
        raise InvalidInputError(
            f"{REQUIRED}. Received dictionary with input fields: {list(forms)}. {PROTOCOL_CHANGE}",
        )
    ((form, value),) = forms.items()
    if is_own:
        return (conversion.tensors if form in TENSOR_FORMS else conversion.frame)(form, value, schema)
    try:
        parsers = importlib.import_module("mlflow.utils.proto_json_utils")
        from_json = parsers.dataframe_from_parsed_json
    except (ImportError, AttributeError):  # MLflow 1.x
        return _own_tensor(form, value, schema) if form in TENSOR_FORMS else _own_dataframe(form, value, schema)
    if form in TENSOR_FORMS:
        return parsers.parse_tf_serving_input(forms, schema=schema)
    return from_json(value, pandas_orient=form[len("dataframe_") :], schema=schema)


def _own_dataframe(form: str, value: Any, schema: Any) -> Any:  # noqa: ANN401
    pd = importlib.import_module("pandas")

    try:
        if form == "dataframe_records":
            if not isinstance(value, list):
                raise InvalidInputError("Invalid input. Dataframe records format must be a list of records.")
            frame = pd.DataFrame(value)
        elif not isinstance(value, dict) or "data" not in value or set(value) - {"columns", "data", "index"}:
            raise InvalidInputError(
                "Invalid input. Dataframe split format must be a dictionary with a 'data' field and optionally"
                " 'columns' and 'index' fields.",
            )
        else:
            frame = pd.DataFrame(value["data"], index=value.get("index"), columns=value.get("columns"))
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidInputError(f"Invalid input. Not a valid dataframe representation. Error: '{error}'") from error
    return _with_types(frame, schema)


def _with_types(frame: Any, schema: Any) -> Any:  # noqa: ANN401
    for name, (kind, dtype) in _column_types(schema).items():
        if name not in frame.columns:
            continue
        try:
            if kind == "binary":
                frame[name] = [base64.b64decode(cell) for cell in frame[name]]
            else:
                frame[name] = frame[name].astype(dtype)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(
                f"Invalid input. Data is not compatible with model signature. Failed to convert column {name} to type"
                f" '{dtype}'. Error: '{error!r}'",
            ) from error
    return frame


def _own_tensor(form: str, value: Any, schema: Any) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")

    types = _column_types(schema)
    is_tensor = schema is None or getattr(schema, "is_tensor_spec", bool)()
    if form == "instances" and isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        value = {key: [row[key] for row in value if key in row] for key in value[0]}
        if len({len(column) for column in value.values()}) > 1:
            raise InvalidInputError("Invalid input. The length of values for each input/column name are not the same")
    elif isinstance(value, list) and len(types) == 1:
        value = {next(iter(types)): value}
    try:
        if isinstance(value, dict) and not is_tensor:  # MLflow 1.x checks columns of a data frame only
            return _with_types(importlib.import_module("pandas").DataFrame(value), schema)
        if isinstance(value, dict):
            return {key: np.array(item, dtype=types.get(key, ("", None))[1]) for key, item in value.items()}
        return np.array(value)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"Invalid input. {error}") from error


def _column_types(schema: Any) -> Dict[Any, Any]:  # noqa: ANN401
    """Map the names of the inputs to (MLflow's type, a dtype), for the schemas of MLflow 1.x."""
    kinds = getattr(schema, "input_types", getattr(schema, "column_types", list))()  # type: Any
    is_tensor = getattr(schema, "is_tensor_spec", bool)()
    dtypes = (schema.numpy_types() if is_tensor else schema.pandas_types()) if schema is not None else []
    columns = zip(_names(schema), kinds, dtypes)
    return {name: (getattr(kind, "name", ""), dtype) for name, kind, dtype in columns if name}


def _names(schema: Any) -> Any:  # noqa: ANN401
    return getattr(schema, "input_names", getattr(schema, "column_names", list))()


def _csv(body: bytes, schema: Any) -> Any:  # noqa: ANN401
    pd = importlib.import_module("pandas")

    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"Invalid input. Ensure that input is a valid UTF-8 encoded string. Error: '{error.reason}'",
        ) from error
    try:
        dtypes = dict(zip(_names(schema), schema.pandas_types())) if schema is not None else None
        return pd.read_csv(io.StringIO(text), dtype=dtypes)
    except Exception as error:
        raise InvalidInputError(_not_a_frame("CSV-formatted", "to_csv", error)) from error


def _parquet(body: bytes) -> Any:  # noqa: ANN401
    pd = importlib.import_module("pandas")

    try:
        return pd.read_parquet(io.BytesIO(body))
    except Exception as error:
        raise InvalidInputError(_not_a_frame("Parquet", "to_parquet", error)) from error


def _not_a_frame(form: str, method: str, error: Exception) -> str:
    return (
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid {} Pandas DataFrame produced"
        " using the `pandas.DataFrame.{}()` method. Error: '{}'".format(form, method, error)
    )
