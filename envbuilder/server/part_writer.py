"""Predictions as rows of csv, json lines or parquet: the row's number, what was predicted, and the file's name.

The parts of one run are put together byte by byte, so none has a header; that of csv comes from `header`.
"""

import csv
import importlib
import io
import json
import math
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from . import answer

PREDICTION = "prediction"


class MismatchedError(Exception):
    """What a model returned is not one prediction for each row."""


class Column(NamedTuple):
    """One column of the output."""

    name: str
    values: Any
    """A list of plain values, or an array of one dimension."""


def columns(predictions: Any, count: int) -> List[Column]:  # noqa: ANN401
    """Return predictions by column: one, or one for each column that the model returns.

    Raises MismatchedError where there are not as many as rows.
    """
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    if isinstance(predictions, pd.DataFrame) and len(predictions.columns) > 1:
        named = {str(name): predictions.iloc[:, place] for place, name in enumerate(predictions.columns)}
    elif isinstance(predictions, pd.DataFrame) and len(predictions.columns) == 1:
        named = {"": predictions.iloc[:, 0]}
    elif isinstance(predictions, dict):
        named = {str(name): one for name, one in predictions.items()}
    else:
        named = {"": predictions}
    found = []
    for name, values in named.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or getattr(values, "shape", None) == ():
            raise MismatchedError(f"the model returned one {type(values).__name__} for {count} rows")
        if len(values) != count:
            raise MismatchedError(f"the model returned {len(values)} predictions for {count} rows")
        array = values.to_numpy() if isinstance(values, pd.Series) and values.dtype.kind in "biuf" else values
        is_array = isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "biufU"
        found.append(Column(PREDICTION + (f".{name}" if name else ""), array if is_array else _plain(values)))
    return found


def _plain(values: Any) -> List[Any]:  # noqa: ANN401
    return [answer.plain(value) for value in values]


def joined(parts: List[List[Column]]) -> List[Column]:
    """Put together the columns of several predictions; raises MismatchedError where they have others."""
    if len(parts) == 1:
        return parts[0]
    names = [[column.name for column in part] for part in parts]
    if any(one != names[0] for one in names):
        raise MismatchedError("the model returned other columns for some of the rows")
    return [
        Column(name, [value for part in parts for value in _listed(part[place].values)])
        for place, name in enumerate(names[0])
    ]


def _listed(values: Any) -> List[Any]:  # noqa: ANN401
    return list(values) if isinstance(values, list) else list(values.tolist())


def write(form: str, numbers: Optional[Sequence[int]], found: List[Column], names: List[str]) -> bytes:
    """Return a part: `numbers` are None where the files are the rows, and `names` are of files, one for each row."""
    if form == "parquet":
        return _parquet(numbers, found, names)
    values = [_of_text(column.values) for column in found]
    if form == "csv":
        return _csv(numbers, found, values, names).encode("utf-8", "replace")
    head = [("row", numbers)] if numbers is not None else []
    listed = [*head, *((column.name, one) for column, one in zip(found, values)), ("file_name", names)]
    keys = [key for key, _ in listed]
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    rows = zip(*(one for _, one in listed))
    return "".join(encode(dict(zip(keys, row))) + "\n" for row in rows).encode("utf-8", "replace")


def _csv(numbers: Optional[Sequence[int]], found: List[Column], values: List[Any], names: List[str]) -> str:
    is_plain = len(found) == 1 and not isinstance(found[0].values, list) and found[0].values.dtype.kind in "iuf"
    if numbers is not None and is_plain and None not in values[0]:
        # Numbers need no quotes, and rows of a table have one file's name: three times as fast as the writer.
        end = _lines([names[:1]])
        return "".join([f"{number},{value!r},{end}" for number, value in zip(numbers, values[0])])
    cells = [_cells(one) if isinstance(column.values, list) else one for column, one in zip(found, values)]
    return _lines(zip(*([numbers] if numbers is not None else []), *cells, names))


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def header(names: List[str], *, has_rows: bool) -> bytes:
    """Return the first line of csv: `names` are those of the prediction's columns."""
    return _lines([[*(["row"] if has_rows else []), *names, "file_name"]]).encode("utf-8", "replace")


def _of_text(values: Any) -> List[Any]:  # noqa: ANN401
    """Return values that text can hold: what is no number is nothing."""
    if isinstance(values, list):
        return values
    listed = _listed(values)
    if values.dtype.kind == "f" and not importlib.import_module("numpy").isfinite(values).all():
        return [value if math.isfinite(value) else None for value in listed]
    return listed


def _cells(values: List[Any]) -> List[Any]:
    if not any(isinstance(value, (list, dict)) for value in values):
        return values
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value for value in values]


def _parquet(numbers: Optional[Sequence[int]], found: List[Column], names: List[str]) -> bytes:
    pyarrow, module = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    arrays: Dict[str, Any] = {}
    if numbers is not None:
        arrays["row"] = pyarrow.array(numbers, pyarrow.int64())
    for column in found:
        arrays[column.name] = pyarrow.array(column.values)
    arrays["file_name"] = pyarrow.array(names, pyarrow.string())
    sink = io.BytesIO()
    module.write_table(pyarrow.table(arrays), sink)
    return sink.getvalue()


def join(paths: List[str], output: str, most: int = 1 << 19) -> None:
    """Put parts of parquet together, `most` rows in memory at once; raises MismatchedError where types do not agree."""
    pyarrow, module = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    schema = _common(pyarrow, [module.read_schema(path) for path in paths])
    if schema is None:
        schema = pyarrow.schema(
            [("row", pyarrow.int64()), (PREDICTION, pyarrow.null()), ("file_name", pyarrow.string())]
        )
    with module.ParquetWriter(output, schema) as writer:
        held: List[Any] = []
        for path in paths:
            held.append(module.read_table(path).cast(schema))
            if sum(table.num_rows for table in held) >= most:
                writer.write_table(pyarrow.concat_tables(held))
                held = []
        if held:
            writer.write_table(pyarrow.concat_tables(held))


def _common(pyarrow: Any, schemas: List[Any]) -> Any:  # noqa: ANN401
    if not schemas:
        return None
    different = [one for place, one in enumerate(schemas) if one not in schemas[:place]]
    if len(different) == 1:
        return different[0]
    try:
        try:
            return pyarrow.unify_schemas(different, promote_options="permissive")
        except TypeError:  # versions before 14 promote nothing but null
            return pyarrow.unify_schemas(different)
    except pyarrow.ArrowException as error:
        raise MismatchedError(f"the model's predictions are of several types: {error}") from error


__all__ = ["Column", "MismatchedError", "columns", "header", "join", "joined", "write"]
