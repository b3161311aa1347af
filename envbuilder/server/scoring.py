"""The model in a worker: answers requests, alone or several at once."""

import contextlib
import importlib
import json
import os
import re
import sys
import traceback
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import answer as answers
from . import arrow, batch, direct, loading, payload
from .invalid_input import InvalidInputError
from .loading import LoadedModel

DIRECT = "direct"
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
    (re.compile(r"(?s)((?:could not convert|invalid literal|unable to parse|Error parsing)[^:]*): .*"), r"\1"),
    (re.compile(r"(?s) for value `.*?`(?=\W)"), ""),
    (
        re.compile(r"(?s)(Failed to (?:convert data|convert value|enforce schema of(?: data)?)) [`'].*?[`'](?= )"),
        r"\1",
    ),
)


def load(model_dir: str) -> LoadedModel:
    """Load the model, and find out whether numbers have a short way to it."""
    model = loading.load(model_dir)
    if model.contract is not None:
        model.direct = direct.find(
            model.contract,
            model.raw,
            lambda body: answer(model, "application/json", body),
            lambda predictions: answers.dumps(predictions, is_llm=False),
            lambda text: sys.stderr.write(text + "\n"),
        )
    return model


def answer(model: LoadedModel, content_type: str, body: bytes, accept: str = "") -> Answer:
    """Return the status and the body for one request: JSON or, of status 200 and where it is accepted, Arrow."""
    rows = _direct_rows(model, content_type, body)
    if rows is not None and model.direct is not None:
        with contextlib.suppress(Exception):  # what went wrong is told by the long way
            return 200, _dumps(model.direct.call(rows), accept, is_llm=False)
    try:
        request = payload.parse(content_type, body, model.metadata, model.contract)
    except BaseException as error:  # noqa: BLE001 - parsing runs code of the environment
        return _refusal(error)
    try:
        predictions = model.predict(request.data, request.params)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        if hasattr(error, "serialize_as_json") or isinstance(error, InvalidInputError):
            return _refusal(error, of_data=True)
        sys.stderr.write(traceback.format_exc())
        return _error(400, _body("BAD_REQUEST", UNEXPECTED), error)
    return _written(predictions, accept, is_llm=request.is_llm)


def answer_all(model: LoadedModel, requests: Sequence[Tuple[str, bytes]]) -> List[Answer]:
    """Answer requests (content type and body), those that are alike with one prediction where the model allows it."""
    found: Dict[int, Answer] = {}
    if model.is_row_wise and len(requests) > 1:
        parts = list(filter(None, (_part(model, place, *request) for place, request in enumerate(requests))))
        for group in batch.groups(parts, model.most_rows):
            is_direct = group[0].key == DIRECT
            call = model.direct.call if is_direct and model.direct is not None else model.predict
            # One that fails, or an answer that cannot be split, is found by asking for each alone.
            with contextlib.suppress(Exception, SystemExit):
                for one, predictions in zip(group, batch.predict(group, call, is_direct=is_direct)):
                    found[one.place] = _written(predictions, "", is_llm=False)
    return [found[place] if place in found else answer(model, *request) for place, request in enumerate(requests)]


def _part(model: LoadedModel, place: int, content_type: str, body: bytes) -> Optional[batch.Part]:
    rows = _direct_rows(model, content_type, body)
    if rows is not None:
        return batch.Part(place, rows, None, len(rows), DIRECT)
    try:
        request = payload.parse(content_type, body, model.metadata, model.contract)
    except Exception:  # noqa: BLE001 - it is answered alone
        return None
    return None if request.is_llm else batch.part(place, request.data, request.params)


def _direct_rows(model: LoadedModel, content_type: str, body: bytes) -> Any:  # noqa: ANN401
    return model.direct.array(body) if model.direct is not None and content_type == "application/json" else None


def _dumps(predictions: Any, accept: str, *, is_llm: bool) -> bytes:  # noqa: ANN401
    return arrow.write(predictions) if accept == arrow.MEDIA_TYPE else answers.dumps(predictions, is_llm=is_llm)


def _written(predictions: Any, accept: str, *, is_llm: bool) -> Answer:  # noqa: ANN401
    try:
        return 200, _dumps(predictions, accept, is_llm=is_llm)
    except arrow.NoArrowError as error:
        return _error(406, _body("BAD_REQUEST", str(error)), error)
    except Exception as error:  # noqa: BLE001 - objects of the model convert themselves
        sys.stderr.write(traceback.format_exc())
        form = "an Arrow stream" if accept == arrow.MEDIA_TYPE else "JSON"
        message = f"The model's answer cannot be written as {form}: {describe(error)}"
        return _error(500, _body("INTERNAL_ERROR", message), error)


def describe(error: BaseException) -> str:
    """Return an exception's type and message."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def told(error: BaseException, longest: int = 500) -> str:
    """Return what went wrong in a line, without what MLflow quotes of the data."""
    fields = None if isinstance(error, InvalidInputError) else _mlflow_fields(error)
    text = str(error) if isinstance(error, InvalidInputError) else describe(error)
    text = text if fields is None else _unquoted(str(fields["message"]))
    return " ".join(text.split())[:longest]


def _unquoted(message: str) -> str:
    for pattern, instead in QUOTED:
        message = pattern.sub(instead, message)
    return message


def _refusal(error: BaseException, *, of_data: bool = False) -> Answer:
    """Answer with an error of MLflow (any version), of the request, or a surprise while it was parsed."""
    if isinstance(error, arrow.NoArrowError):
        return _error(415, _body("BAD_REQUEST", str(error)), error)
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
    found["message"] = _unquoted(str(found["message"]))
    if of_data and found["error_code"] == "INTERNAL_ERROR":
        found["error_code"] = "BAD_REQUEST"  # how versions before 3 call data that does not fit the signature
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
