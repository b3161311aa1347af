"""A mini-batch in the worker: some rows are read, predicted for, and written down as one part of the output.

Where a prediction fails, its rows are halved until those are found that it fails for, so that one costs itself only.
"""

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from . import image_reader, part_writer, scoring, table_reader
from .failed_row import FailedRow
from .loading import LoadedModel

if TYPE_CHECKING:
    from .part_writer import Column

OK = 200
REFUSED = 422
MOST_CALLS = 256
"""Predictions that are made to find the rows that fail; what is left then fails together."""

_parquet = table_reader.ParquetReader()


def answer(model: LoadedModel, body: bytes) -> Tuple[int, bytes]:
    """Do what is asked, and report on it: 422 with `what` for what cannot be done for any row."""
    asked = json.loads(body.decode("utf-8"))
    try:
        told = {"check": _check, "predict": predict, "measure": _measure, "join": _join}[asked["do"]](model, asked)
    except (table_reader.UnreadableError, image_reader.NoImageError, part_writer.MismatchedError) as error:
        return REFUSED, json.dumps({"what": str(error)}).encode("utf-8")
    except OSError as error:
        return REFUSED, json.dumps({"what": f"{error.strerror}: {error.filename}", "is_fatal": True}).encode("utf-8")
    except Exception as error:  # noqa: BLE001 - objects of the model convert themselves
        sys.stderr.write(traceback.format_exc())
        return REFUSED, json.dumps({"what": scoring.told(error)}).encode("utf-8")
    return OK, json.dumps(told).encode("utf-8")


def _check(_model: LoadedModel, asked: Dict[str, Any]) -> Dict[str, Any]:
    if asked["form"] == "parquet":
        table_reader.parquet()
    return {}


def _measure(_model: LoadedModel, asked: Dict[str, Any]) -> Dict[str, Any]:
    return {"groups": table_reader.measure(asked["path"])}


def _join(_model: LoadedModel, asked: Dict[str, Any]) -> Dict[str, Any]:
    part_writer.join(asked["parts"], asked["output"])
    return {}


def predict(model: LoadedModel, asked: Dict[str, Any]) -> Dict[str, Any]:
    """Predict for a mini-batch and write `asked["part"]`, whole or not at all.

    Raises UnreadableError, NoImageError and MismatchedError where no row can be predicted for.
    """
    is_image = asked["kind"] == "image"
    names, rows = _images(model, asked) if is_image else ([], _table(model, asked))
    run = _Run(model, rows, asked.get("params"))
    run.part(0, len(rows.numbers))
    failed = sorted([*rows.failed, *run.failed], key=lambda one: -1 if one.row is None else one.row)
    found = part_writer.joined(run.found) if run.found else []
    ends = list(run.numbers)
    written = b""
    if ends:
        of_files = [names[place] for place in ends] if is_image else [asked["name"]] * len(ends)
        written = part_writer.write(asked["form"], None if is_image else ends, found, of_files)
    texts = [
        json.dumps(
            one._replace(row=None).to_dict(names[one.row or 0]) if is_image else one.to_dict(asked["name"]),
            ensure_ascii=False,
        )
        for one in failed
    ]
    _write(asked["failures"], "".join(text + "\n" for text in texts).encode("utf-8", "replace"))
    _write(asked["part"], written)
    return {
        "rows": len(ends),
        "failed": len(failed),
        "size": len(written),
        "columns": [column.name for column in found],
        "first": [json.loads(text) for text in texts[:3]],
    }


def _table(model: LoadedModel, asked: Dict[str, Any]) -> table_reader.Rows:
    if asked["kind"] == "parquet":
        return _parquet.rows(table_reader.ParquetPlace(*asked["place"]), model.contract)
    body = table_reader.piece(asked["path"], asked["start"], asked["end"])
    if asked["kind"] == "csv":
        header = table_reader.piece(asked["path"], *asked["header"])
        return table_reader.csv(header, body, asked["first"], asked["count"], model.contract)
    return table_reader.lines(body, asked["first"], asked["count"], model.contract, model.metadata)


def _images(model: LoadedModel, asked: Dict[str, Any]) -> Tuple[List[str], table_reader.Rows]:
    entry = image_reader.entry_of(model.contract)
    numbers: List[int] = []
    data: List[Any] = []
    failed: List[FailedRow] = []
    for number, (path, _) in enumerate(asked["files"]):
        try:
            data.append(image_reader.read(path, entry))
            numbers.append(number)
        except image_reader.NoImageError as error:
            failed.append(FailedRow(number, None, str(error)))
    rows = table_reader.Rows(numbers, data, image_reader.stacked, failed)
    return [name for _, name in asked["files"]], rows


class _Run:
    """Predicts for the rows of a mini-batch, some at a time."""

    def __init__(self, model: LoadedModel, rows: table_reader.Rows, params: Optional[Dict[str, Any]]) -> None:
        self.found: List[List[Column]] = []
        self.numbers: List[int] = []
        self.failed: List[FailedRow] = []
        self._model = model
        self._rows = rows
        self._params = params
        self._calls = 0

    def part(self, start: int, end: int) -> None:
        """Predict for the rows from `start` to `end`."""
        if start == end:
            return
        numbers = self._rows.numbers[start:end]
        self._calls += 1
        try:
            data = self._rows.take(self._rows.data, start, end)
            found = part_writer.columns(self._model.predict(data, self._params), end - start)
        except part_writer.MismatchedError:
            raise
        except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
            if end - start > 1 and self._calls < MOST_CALLS:
                middle = (start + end) // 2
                self.part(start, middle)
                self.part(middle, end)
                return
            if not self.failed:
                sys.stderr.write(traceback.format_exc())
            what = scoring.told(error)
            self.failed += [FailedRow(number, None, what) for number in numbers]
        else:
            self.found.append(found)
            self.numbers += numbers


def _write(path: str, content: bytes) -> None:
    """Write a file that is whole or absent; one without content is absent."""
    if content:
        with open(path + ".new", "wb") as stream:  # noqa: PTH123 - pathlib is one import more for a worker
            stream.write(content)
        os.replace(path + ".new", path)  # noqa: PTH105 - as above
    elif os.path.exists(path):  # noqa: PTH110 - as above
        os.remove(path)  # noqa: PTH107 - as above
