"""The model in a worker: loads it, with the environment's own MLflow where it has one, and answers requests."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from typing import Any, Dict, Optional, Tuple

from . import answer as answers
from . import contract as contracts
from . import enforcement, native, parameters, payload
from .invalid_input import InvalidInputError
from .schema import Metadata

BAD_CODES = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
UNEXPECTED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is"
    " compatible with the model for inference."
)

Answer = Tuple[int, bytes]

# What the messages of MLflow quote of the request.
QUOTED = (
    (
        re.compile(r"(?s)Failed to enforce schema of data '.*' with schema '(?=\[)"),
        "Failed to enforce schema of data with schema '",
    ),
    (re.compile(r"(?s)(Error: '\w+)\(.*\)'"), r"\1'"),
    (re.compile(r"(?s) for value `.*?`(?=\W)"), ""),
    (
        re.compile(r"(?s)(Failed to (?:convert data|convert value|enforce schema of(?: data)?)) [`'].*?[`'](?= )"),
        r"\1",
    ),
)


class LoadedModel:
    """A loaded model and what is asked about it for every request."""

    def __init__(
        self,
        predict: Any,  # noqa: ANN401 - of data and, where it takes them, `params`
        metadata: Any,  # noqa: ANN401 - MLflow's, of any version, or the contract's
        mlflow_version: str,
        contract: Optional[contracts.Contract] = None,
    ) -> None:
        self.predict = predict
        self.metadata = metadata
        self.takes_params = "params" in inspect.signature(predict).parameters
        self.mlflow_version = mlflow_version
        self.contract = contract


def load(model_dir: str) -> LoadedModel:
    """Load the model as MLflow's own server does."""
    contract = contracts.find(os.environ)
    config = os.environ.get("SERVING_MODEL_CONFIG")
    overridden = json.loads(config) if config else {}  # type: Dict[str, Any]
    if importlib.util.find_spec("mlflow") is None:
        return _load_without_mlflow(model_dir, contract, overridden)
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    mlflow = importlib.import_module("mlflow")
    pyfunc = importlib.import_module("mlflow.pyfunc")
    options = {"model_config": overridden} if config else {}
    model = pyfunc.load_model(model_dir, **options)
    version = str(getattr(mlflow, "__version__", "unknown"))
    return LoadedModel(model.predict, getattr(model, "metadata", None), version, contract)


def _load_without_mlflow(
    model_dir: str, contract: Optional[contracts.Contract], overridden: Dict[str, Any]
) -> LoadedModel:
    if contract is None:
        raise native.UnloadableError(
            "MLflow is not in the model's environment, and without a `contract.json` the model cannot be loaded by"
            " other means; build the image again, or add `mlflow` to the environment"
        )
    config = contract.python_function.get("config")
    code = contract.python_function.get("code")
    if code:
        sys.path.insert(0, os.path.join(model_dir, code))  # noqa: PTH118 - pathlib is one import more
    loaded = native.load(contract, model_dir, {**(config if isinstance(config, dict) else {}), **overridden})
    metadata = Metadata(contract)
    schema = metadata.get_input_schema()

    def predict(data: Any, params: Any = None) -> Any:  # noqa: ANN401
        data = enforcement.enforce(data, schema) if schema is not None else data
        return loaded(data, parameters.enforce(params, contract.params))

    return LoadedModel(predict, metadata, "none", contract)


def answer(model: LoadedModel, content_type: str, body: bytes) -> Answer:
    """Return the status and the JSON body for one request."""
    try:
        request = payload.parse(content_type, body, model.metadata, model.contract)
    except BaseException as error:  # noqa: BLE001 - parsing runs code of the environment
        return _refusal(error)
    try:
        if model.takes_params:
            predictions = model.predict(request.data, params=request.params)
        else:
            predictions = model.predict(request.data)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        if hasattr(error, "serialize_as_json") or isinstance(error, InvalidInputError):
            return _refusal(error)
        sys.stderr.write(traceback.format_exc())
        return _error(400, _body("BAD_REQUEST", UNEXPECTED), error)
    try:
        return 200, answers.dumps(predictions, is_llm=request.is_llm)
    except Exception as error:  # noqa: BLE001 - objects of the model convert themselves
        sys.stderr.write(traceback.format_exc())
        message = f"The model's answer cannot be written as JSON: {describe(error)}"
        return _error(500, _body("INTERNAL_ERROR", message), error)


def describe(error: BaseException) -> str:
    """Return an exception's type and message."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _refusal(error: BaseException) -> Answer:
    """Answer with an error of MLflow (any version), of the request, or a surprise while it was parsed."""
    if isinstance(error, InvalidInputError):
        fields = _body(error.code, str(error))
        if error.error_class and "error_class" in fields:
            fields.update(sqlstate="KAM01", error_class=error.error_class)
        return _error(400, fields, error)
    found = _mlflow_fields(error)
    if found is None:
        sys.stderr.write(traceback.format_exc())
        message = f"The request could not be parsed: {describe(error)}"
        return _error(500, _body("INTERNAL_ERROR", message), error)
    for pattern, instead in QUOTED:
        found["message"] = pattern.sub(instead, str(found["message"]))
    # Old versions have no status for some of their own codes.
    status = 400 if found["error_code"] in BAD_CODES else int(getattr(error, "get_http_status_code", lambda: 500)())
    return _error(status, found, error)


def _body(code: str, message: str) -> Dict[str, Any]:
    """Return the fields of an error as the environment's MLflow writes them; its later versions add some."""
    try:
        exceptions = importlib.import_module("mlflow.exceptions")
        databricks_pb2 = importlib.import_module("mlflow.protos.databricks_pb2")
    except ImportError:
        more = {"sqlstate": "KAM00", "error_class": "INVALID_PARAMETER_VALUE"} if code in BAD_CODES else {}
        return {"error_code": code, "message": message, **more}
    fields = _mlflow_fields(exceptions.MlflowException(message, error_code=getattr(databricks_pb2, code)))
    return fields if fields is not None else {"error_code": code, "message": message}


def _mlflow_fields(error: BaseException) -> Optional[Dict[str, Any]]:
    try:
        fields = json.loads(error.serialize_as_json())  # type: ignore[attr-defined]  # MlflowException's
        return dict(fields) if "message" in fields and "error_code" in fields else None
    except (AttributeError, TypeError, ValueError):
        return None


def _error(status: int, fields: Dict[str, Any], error: BaseException) -> Answer:
    """Write an error body; stack traces name paths and code, so clients get them only where that was asked for."""
    fields.pop("stack_trace", None)
    if os.environ.get("ENVBUILDER_STACK_TRACES") == "1":
        trace = traceback.format_exception(type(error), error, error.__traceback__)
        fields["exception"] = describe(error)
        fields["stack_trace"] = "".join(trace)
    return status, json.dumps(fields).encode("utf-8")
