"""The parameters of a prediction: defaults, and MLflow's rules for what is given."""

import datetime as dt
import importlib
import logging
from typing import Any, Dict, List, Optional

from .column_types import MismatchError, value
from .invalid_input import InvalidInputError

ACCEPTED = {
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "string": (str,),
}
"""The exact types of JSON values that fit: `true` is no number."""

log = logging.getLogger("envbuilder.worker")


def enforce(given: Any, entries: Optional[List[Dict[str, Any]]]) -> Any:  # noqa: ANN401
    """Return the parameters to predict with; what the model does not know is ignored, as MLflow does."""
    if not entries:
        if given:
            log.warning("parameters are ignored: the model's signature has none")
        return given if given in (None, {}) else {}
    if given is not None and not isinstance(given, dict):
        raise _refusal(f"Parameters must be a dictionary. Got type '{type(given).__name__}'.")
    given = given or {}
    found, problems = {}, []
    for entry in entries:
        name = entry["name"]
        stated = given.get(name, entry.get("default"))
        try:
            found[name] = _shaped(stated, entry)
        except (MismatchError, ValueError, TypeError) as error:
            problems.append(f"('{name}', \"Failed to validate type and shape for '{name}', error: {error}\")")
    if problems:
        raise _refusal("Invalid parameters found: {{{}}}".format(", ".join(problems)))
    unknown = len(set(given) - set(found))
    if unknown:
        log.warning("%d parameters that the signature does not define are ignored", unknown)
    return found


def _shaped(stated: Any, entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    kind = entry.get("type", entry.get("dtype"))
    if entry.get("shape") is None:
        if kind == "object" and stated is not None:
            value(dict(stated) if isinstance(stated, dict) else stated, entry)
            return stated
        return _scalar(stated, kind)
    if not isinstance(stated, list) or any(isinstance(one, list) for one in stated):
        raise MismatchError(f"Value must be a 1D array with shape (-1,), received {type(stated).__name__}")
    return [_scalar(one, kind) for one in stated]


def _scalar(stated: Any, kind: Any) -> Any:  # noqa: ANN401
    if stated is None:
        return None
    if kind == "datetime":
        made = importlib.import_module("numpy").datetime64(stated).item()
        if not isinstance(made, dt.date):
            raise MismatchError("It must be convertible to datetime.date/datetime")
        return made
    if isinstance(stated, (list, dict)):
        raise MismatchError(f"Value must be a scalar for type `DataType.{kind}`, got {type(stated).__name__}")
    if type(stated) not in ACCEPTED[kind]:
        raise MismatchError(f"Can not safely convert `{type(stated)}` to `DataType.{kind}`")
    return float(stated) if kind in ("float", "double") else stated


def _refusal(message: str) -> InvalidInputError:
    return InvalidInputError(message, code="INVALID_PARAMETER_VALUE")
