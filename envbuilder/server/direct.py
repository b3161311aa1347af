"""A shorter way to an answer: numbers go from JSON to the model as one array, without a data frame between.

The frame and its checks are what a small request costs. They are left out only for flavors that take arrays, for
signatures of one kind of number, and where the answers to the model's example and to made-up rows are the same, byte
for byte. Whatever is unusual in a request takes the long way, and so does whatever fails, so that messages are one.
"""

import importlib
import json
import os
import random
import time
import warnings
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .contract import DEFAULT_FILE, Contract

ROWS = (1, 3, 40)
LONGEST = 3.0
"""Seconds to compare, for models that take their time."""

KINDS = {"double": ("float64", "iuf"), "float": ("float32", "iuf"), "long": ("int64", "i"), "integer": ("int32", "i")}
"""The dtype of a signature's type, and the kinds of arrays of JSON numbers that become it without a loss."""

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

Answer = Tuple[int, bytes]


class Direct(NamedTuple):
    """How a model is asked with arrays."""

    names: List[str]
    dtype: str
    kinds: str
    call: Callable[[Any], Any]

    def array(self, body: bytes) -> Any:  # noqa: ANN401
        """Return the rows of a request in the signature's order; None where it is not for this way."""
        try:
            fields = json.loads(body)
            if len(fields) != 1:
                return None
            ((form, content),) = fields.items()
            if form == "dataframe_split":
                rows = self._of_split(content)
            elif form == "inputs":
                rows = self._of_columns(content)
            elif form in FORMS:
                rows = self._of_records(content)
            else:
                return None
            return self._checked(rows)
        except Exception:  # noqa: BLE001 - the long way tells what is wrong
            return None

    def _of_split(self, content: Dict[str, Any]) -> Any:  # noqa: ANN401
        np = importlib.import_module("numpy")
        if len(content) != 2:  # noqa: PLR2004 - columns and data
            return None
        columns, rows = content["columns"], np.array(content["data"])
        if columns == self.names:
            return rows
        if len(columns) != len(self.names) or set(columns) != set(self.names):
            return None
        return rows[:, [columns.index(name) for name in self.names]]

    def _of_records(self, content: List[Dict[str, Any]]) -> Any:  # noqa: ANN401
        np = importlib.import_module("numpy")
        names, width = self.names, len(self.names)
        if any(len(row) != width for row in content):
            return None
        return np.array([[row[name] for name in names] for row in content])

    def _of_columns(self, content: Dict[str, Any]) -> Any:  # noqa: ANN401
        np = importlib.import_module("numpy")
        if len(content) != len(self.names):
            return None
        return np.array([content[name] for name in self.names]).T

    def _checked(self, rows: Any) -> Any:  # noqa: ANN401
        np = importlib.import_module("numpy")
        if rows is None or rows.ndim != 2 or rows.shape[1] != len(self.names) or rows.dtype.kind not in self.kinds:  # noqa: PLR2004
            return None
        made = rows.astype(self.dtype)
        if (self.dtype == "int32" and not (made == rows).all()) or (self.dtype == "float32" and np.isinf(made).any()):
            return None  # out of range
        # As the columns of a data frame lie: what is summed in another order differs in the last digit.
        return np.asfortranarray(made)


def find(
    contract: Contract,
    raw: Any,  # noqa: ANN401 - a model of any library
    ask: Callable[[bytes], Answer],
    write: Callable[[Any], bytes],
    log: Callable[[str], object],
) -> Optional[Direct]:
    """Return the short way where it is known to answer as the long one, which is `ask`, does."""
    direct = _candidate(contract, raw)
    if direct is None:
        return None
    compared, deadline = 0, time.monotonic() + LONGEST
    for body in _bodies(direct, os.environ):
        if compared and time.monotonic() > deadline:
            break
        status, wanted = ask(body)
        if status != 200:  # noqa: PLR2004
            continue
        rows = direct.array(body)
        try:
            found = write(direct.call(rows)) if rows is not None else None
        except Exception as error:  # noqa: BLE001 - then this model is not for the short way
            log(f"requests are answered through data frames: an array gives {type(error).__name__}")
            return None
        if found is None:
            continue
        if found != wanted:
            log("requests are answered through data frames: arrays give other answers")
            return None
        compared += 1
    if not compared:
        log("requests are answered through data frames: there is no example to compare with")
        return None
    log(f"requests of numbers are answered without data frames: {compared} answers are the same")
    return direct


def _candidate(contract: Contract, raw: Any) -> Optional[Direct]:  # noqa: ANN401
    entries = contract.inputs or []
    kinds = {entry.get("type") for entry in entries}
    if raw is None or contract.params or len(kinds) != 1 or os.environ.get("ENVBUILDER_DIRECT") == "0":
        return None
    kind = kinds.pop()
    names = [entry.get("name") for entry in entries]
    if not isinstance(kind, str) or kind not in KINDS or len(set(names)) != len(names):
        return None
    if not all(isinstance(name, str) and entry.get("required", True) for name, entry in zip(names, entries)):
        return None
    call = _call(contract, raw, names)
    if call is None:
        return None
    dtype, accepted = KINDS[kind]
    return Direct([str(name) for name in names], dtype, accepted, call)


def _call(contract: Contract, raw: Any, names: List[Any]) -> Optional[Callable[[Any], Any]]:  # noqa: ANN401
    function = contract.python_function
    flavor = str(function.get("loader_module")).rpartition(".")[2]
    if flavor == "sklearn":
        # It warns of every array when it was fitted with names; their order was compared at the start.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return getattr(raw, function.get("predict_fn") or "predict", None)
    if flavor == "lightgbm":
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return getattr(raw, "predict", None)
    if flavor == "xgboost":
        xgboost = importlib.import_module("xgboost")
        if isinstance(raw, xgboost.Booster):
            return lambda rows: raw.predict(xgboost.DMatrix(rows, feature_names=names))
        return getattr(raw, "predict", None)
    return None


def _bodies(direct: Direct, environment: Mapping[str, str]) -> List[bytes]:
    """Return the requests to compare: the model's example, and made-up rows in each form."""
    found = []
    contract = environment.get("ENVBUILDER_CONTRACT") or DEFAULT_FILE
    example = os.path.join(os.path.dirname(contract), "example.json")  # noqa: PTH118, PTH120 - pathlib is one import more
    if os.path.isfile(example):  # noqa: PTH113 - as above
        with open(example, "rb") as stream:  # noqa: PTH123 - as above
            found.append(stream.read())
    chance = random.Random(0)  # noqa: S311 - rows to compare with, the same each time
    names = direct.names
    for count in ROWS:
        for scale in (1, 10, 1000):
            rows = [[_number(chance, direct.dtype, scale) for _ in names] for _ in range(count)]
            records = [dict(zip(names, row)) for row in rows]
            columns = {name: [row[name] for row in records] for name in names}
            other = [list(reversed(row)) for row in rows]
            contents = (
                {"dataframe_split": {"columns": names, "data": rows}},
                {"dataframe_split": {"columns": names[::-1], "data": other}},
                {"dataframe_records": records},
                {"instances": records},
                {"inputs": columns},
            )  # type: Tuple[Dict[str, Any], ...]
            found += [json.dumps(content).encode("utf-8") for content in contents]
    return found


def _number(chance: random.Random, dtype: str, scale: int) -> float:
    return chance.randint(-scale, scale) if dtype.startswith("int") else chance.uniform(-scale, scale)
