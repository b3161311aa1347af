"""Several requests answered by one prediction: their rows are put together and the answers split again.

Only for models that are declared row-wise: whose answer to a row does not depend on the rows beside it.
"""

import importlib
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from .contract import Contract

MOST_ROWS = 4096


class Part(NamedTuple):
    """What one request asks of the model."""

    place: int
    """Its place among the requests."""

    data: Any
    params: Any
    rows: int
    key: Any
    """Equal for requests whose rows can be put together."""


class NotRowWiseError(Exception):
    """The answer has not one row for each row of the request."""


def is_row_wise(contract: Optional[Contract], environment: Mapping[str, str]) -> bool:
    """Whether the image's settings, or else the model's metadata, declare the model row-wise."""
    setting = environment.get("ENVBUILDER_ROW_WISE")
    if setting:
        return setting.lower() in ("1", "true", "yes")
    metadata = contract.metadata if contract is not None else {}
    nested = metadata.get("envbuilder")
    stated = nested.get("row_wise") if isinstance(nested, dict) else metadata.get("envbuilder.row_wise")
    return stated is True


def most_rows(environment: Mapping[str, str]) -> int:
    """Return how many rows are predicted at once; a larger request is predicted alone."""
    text = environment.get("ENVBUILDER_BATCH_ROWS") or ""
    return int(text) if text.isdigit() and int(text) > 0 else MOST_ROWS


def part(place: int, data: Any, params: Any) -> Optional[Part]:  # noqa: ANN401
    """Return the request as a part of a batch; None where it has no rows that could be put together."""
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(data, pd.DataFrame):
        key = ("frame", tuple(data.columns), tuple(str(dtype) for dtype in data.dtypes))  # type: Any
    elif isinstance(data, np.ndarray) and data.ndim > 0:
        key = ("array", data.shape[1:], str(data.dtype))
    elif isinstance(data, dict) and data and all(isinstance(one, np.ndarray) and one.ndim > 0 for one in data.values()):
        if len({len(one) for one in data.values()}) > 1:
            return None
        key = ("arrays", tuple((name, one.shape[1:], str(one.dtype)) for name, one in data.items()))
        return Part(place, data, params, len(next(iter(data.values()))), (key, repr(params)))
    else:
        return None
    return Part(place, data, params, len(data), (key, repr(params)))


def groups(parts: List[Part], limit: int) -> List[List[Part]]:
    """Put together what can be, in the order of arrival, at most `limit` rows each."""
    found = []  # type: Any
    open_groups: Dict[Any, List[Part]] = {}
    for one in parts:
        group = open_groups.get(one.key)
        if group is None or sum(other.rows for other in group) + one.rows > limit:
            group = open_groups[one.key] = []
            found.append(group)
        group.append(one)
    return list(found)


def predict(group: List[Part], call: Callable[..., Any], *, is_direct: bool) -> List[Any]:
    """Return the answer to each part of a group; raises what the model raises, and NotRowWiseError."""
    data = _joined([one.data for one in group])
    together = call(data) if is_direct else call(data, group[0].params)
    if len(group) == 1:
        return [together]
    total = sum(one.rows for one in group)
    answers, start = [], 0
    for one in group:
        answers.append(_rows(together, start, start + one.rows, total))
        start += one.rows
    return answers


def _joined(parts: List[Any]) -> Any:  # noqa: ANN401
    if len(parts) == 1:
        return parts[0]
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    if isinstance(parts[0], dict):
        return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _rows(together: Any, start: int, end: int, total: int) -> Any:  # noqa: ANN401
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(together, dict) and together and all(isinstance(one, np.ndarray) for one in together.values()):
        return {name: _rows(one, start, end, total) for name, one in together.items()}
    if not isinstance(together, (list, np.ndarray, pd.DataFrame, pd.Series)) or getattr(together, "shape", None) == ():
        raise NotRowWiseError(f"a {type(together).__name__} has no rows")
    if len(together) != total:
        raise NotRowWiseError(f"{len(together)} rows are the answer to {total}")
    if isinstance(together, (pd.DataFrame, pd.Series)):
        return together.iloc[start:end].reset_index(drop=True)
    return together[start:end]
