"""Rows of csv, json lines and parquet files as a model takes them: data frames of the signature's types.

Cells that are not of their column's type are found one by one, so that one of them costs its own row only.
"""

import importlib
import io
import json
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import payload
from .contract import Contract
from .failed_row import FailedRow
from .schema import NUMPY_TYPES, is_required, type_text

INTEGERS = {"integer": 32, "long": 64}
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class UnreadableError(Exception):
    """A file, or a piece of it, that cannot be read."""


class Rows(NamedTuple):
    """What was read, and what of it the model can be asked for."""

    numbers: Sequence[int]
    """Of the rows that are in `data`, in their file."""
    data: Any
    """Whatever can be sliced by `take`."""
    take: Callable[[Any, int, int], Any]
    """Make what `predict` takes of some of the rows."""
    failed: List[FailedRow]


def csv(header: bytes, body: bytes, first: int, count: int, known: Optional[Contract]) -> Rows:
    """Read records, the number `first` and those behind it; raises UnreadableError."""
    pd = importlib.import_module("pandas")
    columns = _columns(known)
    types = {name: entry["type"] for name, entry in columns.items() if entry["type"] in NUMPY_TYPES}
    dates = [name for name, kind in types.items() if kind == "datetime"]
    dtypes = {name: _dtype(kind) for name, kind in types.items() if kind != "datetime"}
    try:
        names = list(pd.read_csv(io.BytesIO(header), nrows=0, encoding="utf-8").columns)
        _check_names(names, columns)
        given = {name: dtype for name, dtype in dtypes.items() if name in names}
        present = [name for name in dates if name in names]
        try:
            frame = pd.read_csv(io.BytesIO(header + body), dtype=given, encoding="utf-8")
            for name in present:
                frame[name] = pd.to_datetime(frame[name])
            failed: List[FailedRow] = []
        except (ValueError, TypeError, OverflowError):
            texts = dict.fromkeys([*given, *present], str)
            frame = pd.read_csv(io.BytesIO(header + body), dtype=texts, encoding="utf-8")
            frame, failed = _cell_by_cell(frame, {name: types[name] for name in [*given, *present]}, first)
    except (ValueError, TypeError, LookupError, pd.errors.ParserError) as error:
        raise UnreadableError(f"not CSV that can be read: {_told(error)}") from error
    if len(frame) + len(failed) != count:
        raise UnreadableError(
            f"{count} records were counted from record {first} on, but {len(frame) + len(failed)} were read:"
            " a quote is not closed, or lines end in CR alone"
        )
    return _left(frame, first, failed)


def _left(frame: Any, first: int, failed: List[FailedRow]) -> Rows:  # noqa: ANN401
    """Return the rows of a frame whose index says which of those that were read are left."""
    if not failed:
        return Rows(range(first, first + len(frame)), frame, _sliced, failed)
    return Rows([first + int(place) for place in frame.index], frame.reset_index(drop=True), _sliced, failed)


def _columns(known: Optional[Contract]) -> Dict[str, Dict[str, Any]]:
    """Return the named columns of the signature."""
    inputs = known.inputs if known is not None else None
    return {
        entry["name"]: entry for entry in inputs or [] if entry.get("name") is not None and entry["type"] != "tensor"
    }


def _check_names(names: List[str], columns: Dict[str, Dict[str, Any]]) -> None:
    missing = [name for name, entry in columns.items() if name not in names and is_required(entry)]
    if missing:
        raise UnreadableError(
            "the file has no column " + ", ".join(f"`{name}` ({type_text(columns[name])})" for name in missing)
        )


def _dtype(kind: str) -> Any:  # noqa: ANN401
    return str if kind in ("string", "binary") else importlib.import_module("numpy").dtype(NUMPY_TYPES[kind])


def _sliced(frame: Any, start: int, end: int) -> Any:  # noqa: ANN401
    whole = start == 0 and end == len(frame)
    return frame if whole else frame.iloc[start:end].reset_index(drop=True)


def _cell_by_cell(frame: Any, types: Dict[str, str], first: int) -> Tuple[Any, List[FailedRow]]:  # noqa: ANN401
    """Convert texts, and leave out the rows that have one which is not of its type."""
    pd = importlib.import_module("pandas")
    bad: Dict[int, FailedRow] = {}
    made = {}
    for name, kind in types.items():
        cells: List[Any] = []
        for place, text in enumerate(frame[name]):
            try:
                cells.append(_cell(text, kind))
            except (ValueError, OverflowError):
                cells.append(None)
                what = "nothing" if not isinstance(text, str) else "a text"
                bad.setdefault(place, FailedRow(first + place, str(name), f"{what} where a {kind} is expected"))
        made[name] = cells
    kept = [place for place in range(len(frame)) if place not in bad]
    frame = frame.iloc[kept].copy()
    for name, kind in types.items():
        cells = [made[name][place] for place in kept]
        if kind == "datetime":
            frame[name] = pd.to_datetime(pd.Series(cells, index=frame.index, dtype=object))
        elif kind not in ("string", "binary"):
            frame[name] = pd.Series(cells, index=frame.index, dtype=_dtype(kind))
    return frame, [bad[place] for place in sorted(bad)]


def _cell(text: Any, kind: str) -> Any:  # noqa: ANN401
    if not isinstance(text, str):  # missing
        if kind in INTEGERS or kind == "boolean":
            raise ValueError
        return None if kind == "datetime" else text
    if "_" in text and kind not in ("string", "binary"):
        raise ValueError  # 1_000 is a number for Python only
    if kind in INTEGERS:
        number = int(text)
        if not -(1 << (INTEGERS[kind] - 1)) <= number < 1 << (INTEGERS[kind] - 1):
            raise OverflowError
        return number
    if kind == "boolean":
        if text not in TRUTHS:
            raise ValueError
        return TRUTHS[text]
    if kind == "datetime":
        return importlib.import_module("pandas").Timestamp(text)
    return float(text) if kind in ("float", "double") else text


def lines(body: bytes, first: int, count: int, known: Optional[Contract], metadata: Any) -> Rows:  # noqa: ANN401
    """Read lines of JSON, as requests are: objects are rows of a data frame, anything else is an instance."""
    numbers: List[int] = []
    found: List[Any] = []
    failed: List[FailedRow] = []
    texts = [line for line in body.split(b"\n") if line.strip(b" \t\r")]
    if len(texts) != count:
        raise UnreadableError(f"{count} lines were counted from line {first} on, but {len(texts)} were read")
    for number, text in enumerate(texts, first):
        try:
            found.append(json.loads(text.decode("utf-8")))
            numbers.append(number)
        except (ValueError, RecursionError):
            failed.append(FailedRow(number, None, "the line is not JSON"))
    is_tensor = known is not None and bool(known.inputs) and (known.inputs or [{}])[0].get("type") == "tensor"

    def take(rows: Any, start: int, end: int) -> Any:  # noqa: ANN401
        some = rows[start:end]
        are_records = all(isinstance(row, dict) for row in some) and not is_tensor
        form = "dataframe_records" if are_records else "instances"
        return payload.data({"inputs" if payload.takes_objects(metadata) else form: some}, metadata, known)

    return Rows(numbers, found, take, failed)


class ParquetPlace(NamedTuple):
    """Some rows of a row group."""

    path: str
    group: int
    start: int
    """The first row, counted in the row group; a multiple of `size`."""
    size: int
    """Rows of a piece."""
    rows: int
    """Of this one: the last one of a group has fewer."""
    first: int
    """The first row's number in the file."""


class ParquetReader:
    """Keeps the place in the file that was read last: what follows is asked for next, as a rule."""

    def __init__(self) -> None:
        self._path = ""
        self._group = -1
        self._at = 0
        self._size = 0
        self._batches: Iterator[Any] = iter(())
        self._file: Any = None

    def rows(self, place: ParquetPlace, known: Optional[Contract]) -> Rows:
        """Read some rows of a row group; raises UnreadableError."""
        first = place.first
        try:
            frame = self._batch(place).to_pandas()
        except UnreadableError:
            raise
        except Exception as error:
            self._path = ""
            raise UnreadableError(f"not Parquet that can be read: {_told(error)}") from error
        if len(frame) != place.rows:
            raise UnreadableError(f"row group {place.group} has other rows than the file says")
        columns = _columns(known)
        _check_names([str(name) for name in frame.columns], columns)
        frame, failed = _as_signed(frame.reset_index(drop=True), columns, first)
        return _left(frame, first, failed)

    def _batch(self, place: ParquetPlace) -> Any:  # noqa: ANN401
        key = (place.path, place.group, place.size)
        if key != (self._path, self._group, self._size) or place.start < self._at:
            if place.path != self._path:
                self._file = parquet().ParquetFile(place.path)
            self._path, self._group, self._size = key
            self._at = 0
            self._batches = self._file.iter_batches(batch_size=place.size, row_groups=[place.group])
        found: Any = None
        while self._at <= place.start:
            found = next(self._batches, None)
            self._at += place.size
            if found is None:
                raise UnreadableError(f"row group {place.group} has fewer rows than the file says")
        return found


def parquet() -> Any:  # noqa: ANN401
    """Return pyarrow's module for Parquet; raises UnreadableError where the environment has none."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UnreadableError("Parquet needs pyarrow, which is not in the model's environment; add it there") from None


def measure(path: str) -> List[int]:
    """Return the rows of each row group; raises UnreadableError."""
    module = parquet()
    try:
        told = module.ParquetFile(path).metadata
        return [told.row_group(number).num_rows for number in range(told.num_row_groups)]
    except Exception as error:
        raise UnreadableError(f"not Parquet that can be read: {_told(error)}") from error


def _as_signed(frame: Any, columns: Dict[str, Dict[str, Any]], first: int) -> Tuple[Any, List[FailedRow]]:  # noqa: ANN401
    """Give numbers the signature's type where that keeps their value, and leave out the rows where it does not."""
    np = importlib.import_module("numpy")
    bad: Dict[int, FailedRow] = {}
    wanted = {}
    for name, entry in columns.items():
        kind = entry["type"]
        if name not in frame or kind not in (*INTEGERS, "float", "double"):
            continue
        dtype = _dtype(kind)
        if frame[name].dtype == dtype or frame[name].dtype.kind not in "iuf":
            continue
        wanted[name] = dtype
        if dtype.kind == "i":
            values = frame[name].to_numpy()
            with np.errstate(invalid="ignore"):
                lost = np.flatnonzero(values.astype(dtype) != values)
            what = f"a number that is no {kind}"
            for place in lost:
                bad.setdefault(int(place), FailedRow(first + int(place), str(name), what))
    if bad:
        frame = frame.drop(index=sorted(bad))
    return (frame.astype(wanted) if wanted else frame), [bad[place] for place in sorted(bad)]


def piece(path: str, start: int, end: int) -> bytes:
    """Return some bytes of a file."""
    with open(path, "rb") as stream:  # noqa: PTH123 - pathlib is one import more for a worker
        stream.seek(start, os.SEEK_SET)
        return stream.read(end - start)


def _told(error: BaseException) -> str:
    """Return what went wrong without what was read."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:200]}"


__all__ = ["ParquetPlace", "ParquetReader", "Rows", "UnreadableError", "csv", "lines", "measure", "parquet", "piece"]
