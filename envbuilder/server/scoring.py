"""The model in a worker: loads it with the environment's own MLflow and answers one request at a time."""

import importlib
import inspect
import json
import os
import sys
import traceback
from typing import Any, Dict, Optional, Tuple

from . import answer as answers
from . import payload

BAD_CODES = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
UNEXPECTED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is"
    " compatible with the model for inference."
)

Answer = Tuple[int, bytes]


class LoadedModel:
    """A loaded model and what is asked about it for every request."""

    def __init__(self, pyfunc: Any, mlflow_version: str) -> None:  # noqa: ANN401 - MLflow's, of any version
        self.predict = pyfunc.predict
        self.metadata = getattr(pyfunc, "metadata", None)
        self.takes_params = "params" in inspect.signature(pyfunc.predict).parameters
        self.mlflow_version = mlflow_version


def load(model_dir: str) -> LoadedModel:
    """Load the model as MLflow's own server does."""
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    mlflow = importlib.import_module("mlflow")
    pyfunc = importlib.import_module("mlflow.pyfunc")
    options = {}  # type: Dict[str, Any]
    if os.environ.get("SERVING_MODEL_CONFIG"):
        options["model_config"] = json.loads(os.environ["SERVING_MODEL_CONFIG"])
    return LoadedModel(pyfunc.load_model(model_dir, **options), str(getattr(mlflow, "__version__", "unknown")))


def answer(model: LoadedModel, content_type: str, body: bytes) -> Answer:
    """Return the status and the JSON body for one request."""
    try:
        request = payload.parse(content_type, body, model.metadata)
    except BaseException as error:  # noqa: BLE001 - parsing runs code of the environment
        return _refusal(error)
    try:
        if model.takes_params:
            predictions = model.predict(request.data, params=request.params)
        else:
            predictions = model.predict(request.data)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        if hasattr(error, "serialize_as_json"):
            return _refusal(error, f"Failed to predict data '{request.data}'. \nError: ")
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


def _refusal(error: BaseException, prefix: str = "") -> Answer:
    """Answer with an error of MLflow (any version), of the request, or a surprise while it was parsed."""
    if isinstance(error, payload.InvalidInputError):
        return _error(400, _body(error.code, str(error)), error)
    fields = _mlflow_fields(error)
    if fields is None:
        sys.stderr.write(traceback.format_exc())
        message = f"The request could not be parsed: {describe(error)}"
        return _error(500, _body("INTERNAL_ERROR", message), error)
    fields["message"] = prefix + str(fields["message"])
    # Old versions have no status for some of their own codes.
    status = 400 if fields["error_code"] in BAD_CODES else int(getattr(error, "get_http_status_code", lambda: 500)())
    return _error(status, fields, error)


def _body(code: str, message: str) -> Dict[str, Any]:
    """Return the fields of an error as the environment's MLflow writes them; its later versions add some."""
    exceptions = importlib.import_module("mlflow.exceptions")
    databricks_pb2 = importlib.import_module("mlflow.protos.databricks_pb2")
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
