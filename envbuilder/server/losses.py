"""Values that MLflow's server would silently make others of: 1.5 as an integer, "x" as true, 3e9 as 32 bits.

Its answers are wrong without a word; here such a request is refused, unless `ENVBUILDER_STRICT_MLFLOW=1` asks for
MLflow's behaviour.
"""

import base64
import binascii
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from .contract import Contract
from .invalid_input import InvalidInputError

INTEGERS = {"integer": 31, "int8": 7, "int16": 15, "int32": 31, "long": 63, "int64": 63}
LARGEST_FLOAT = 3.4028235677973366e38
"""From here on a number becomes infinite as a float of 32 bits."""

Column = Tuple[Any, Dict[str, Any], List[Any]]

SPACES = re.compile(r"\s+")


def check(form: str, content: Any, contract: Contract) -> None:  # noqa: ANN401
    """Raise InvalidInputError where a value cannot be what the signature says."""
    for name, entry, cells in _columns(form, content, contract.inputs or []):
        kind = entry["tensor-spec"]["dtype"] if entry["type"] == "tensor" else entry["type"]
        find = _finder(kind, form)
        if find is None:
            continue
        for row, cell in enumerate(cells):
            why = find(cell)
            if why is not None:
                raise InvalidInputError(
                    "Invalid input. Data is not compatible with model signature. Failed to convert column"
                    f" {name} to type '{kind}'. Error: '{why} in row {row}'"
                )


def _columns(form: str, content: Any, entries: List[Dict[str, Any]]) -> Iterable[Column]:  # noqa: ANN401
    """Return each input's name, entry and cells; nothing of what has no form that could be read."""
    if form == "dataframe_split":
        return _of_split(content, entries)
    named = entries if all(entry.get("name") is not None for entry in entries) else []
    if isinstance(content, dict):
        return [(one["name"], one, _list(content[one["name"]])) for one in named if one["name"] in content]
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return [(one["name"], one, [row[one["name"]] for row in content if one["name"] in row]) for one in named]
    return [(entries[0].get("name", 0), entries[0], _list(content))] if len(entries) == 1 else []


def _of_split(content: Any, entries: List[Dict[str, Any]]) -> List[Column]:  # noqa: ANN401
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return []
    is_named = all(entry.get("name") is not None for entry in entries)
    names = content.get("columns") if is_named else list(range(len(entries)))
    found: List[Column] = []
    for position, entry in enumerate(entries):
        name = entry.get("name", position)
        if isinstance(names, list) and name in names:
            index = names.index(name)
            found.append((name, entry, [row[index] for row in rows if index < len(row)]))
    return found


def _list(cells: Any) -> List[Any]:  # noqa: ANN401
    return cells if isinstance(cells, list) else [cells]


def _finder(kind: str, form: str) -> Optional[Callable[[Any], Optional[str]]]:
    if kind in INTEGERS:
        limit = 1 << INTEGERS[kind]
        return lambda cell: _integer(cell, limit)
    if kind == "boolean":
        return _boolean
    if kind in ("float", "float32"):
        return _float
    if kind == "datetime":
        return _datetime
    # The protocol's other forms carry bytes as they are.
    return _binary if kind == "binary" and form.startswith("dataframe_") else None


def _integer(cell: Any, limit: int) -> Optional[str]:  # noqa: ANN401
    if isinstance(cell, list):
        return next((why for why in (_integer(one, limit) for one in cell) if why is not None), None)
    if isinstance(cell, float) and cell == cell and not cell.is_integer():  # noqa: PLR0124 - NaN is another's to say
        return "a fraction" if abs(cell) < limit else "a number out of range"
    if isinstance(cell, (int, float)) and not -limit <= cell < limit:
        return "a number out of range"
    return None


def _boolean(cell: Any) -> Optional[str]:  # noqa: ANN401
    if cell is None or isinstance(cell, (str, list, dict)) or cell not in (0, 1):
        return f"{'null' if cell is None else type(cell).__name__} that is neither true nor false"
    return None


def _float(cell: Any) -> Optional[str]:  # noqa: ANN401
    if isinstance(cell, list):
        return next((why for why in map(_float, cell) if why is not None), None)
    is_large = isinstance(cell, (int, float)) and LARGEST_FLOAT <= abs(cell) < float("inf")
    return "a number out of range" if is_large else None


def _datetime(cell: Any) -> Optional[str]:  # noqa: ANN401
    return "a number that is no date" if isinstance(cell, (int, float)) else None


def _binary(cell: Any) -> Optional[str]:  # noqa: ANN401
    if not isinstance(cell, str):
        return None  # refused by MLflow too
    try:
        base64.b64decode(SPACES.sub("", cell), validate=True)
    except (binascii.Error, ValueError):
        return "text that is not base64"
    return None
