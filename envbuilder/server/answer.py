"""A model's predictions as JSON: MLflow's shapes, with null where JSON has no word (NaN, infinities, NaT)."""

import base64
import datetime as dt
import importlib
import json
import math
from typing import Any


def dumps(predictions: Any, *, is_llm: bool) -> bytes:  # noqa: ANN401 - whatever a model returns
    """Write predictions; raises TypeError or ValueError for what cannot be written."""
    value = _top(predictions)
    value = value if is_llm else {"predictions": value}
    try:
        text = json.dumps(value, default=_convert, allow_nan=False)
    except (TypeError, ValueError):
        # A value without a word in JSON, or a key that is not text: rare, so only then is everything walked.
        text = json.dumps(plain(value), allow_nan=False)
    return text.encode("utf-8")


def _top(predictions: Any) -> Any:  # noqa: ANN401
    pd = importlib.import_module("pandas")

    if isinstance(predictions, pd.Series):
        predictions = predictions.to_frame()
    if isinstance(predictions, pd.DataFrame):
        return predictions.to_dict(orient="records")
    return predictions


def _convert(value: Any) -> Any:  # noqa: ANN401, PLR0911
    """Return a JSON value, or one step towards it, for what the encoder does not know."""
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")

    if isinstance(value, (np.datetime64, np.ndarray)) and value.dtype.kind == "M":
        return _plain_dates(np.datetime_as_string(value))
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bytes, bytearray)):
        return base64.encodebytes(value).decode("ascii")
    if value is pd.NaT or value is getattr(pd, "NA", pd.NaT):
        return None
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if hasattr(value, "model_dump"):  # pydantic, without importing it
        return value.model_dump()
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return _top(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def _plain_dates(texts: Any) -> Any:  # noqa: ANN401
    if texts.ndim:
        return [_plain_dates(text) for text in texts]
    return None if str(texts) == "NaT" else str(texts)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value that JSON can hold, whatever is in it."""
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):  # also numpy's float64
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return plain(_convert(value))


def _key(key: Any) -> Any:  # noqa: ANN401
    if isinstance(key, float) and not math.isfinite(key):
        return str(key)
    return key if key is None or isinstance(key, (str, int, float)) else str(key)
