"""Files cut into mini-batches: what a worker is asked for, in an order that is always the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import record_cutter
from .batch_error import InvalidBatchError

if TYPE_CHECKING:
    from typing import Any, AsyncIterator, Awaitable, Callable, Iterator

    from .input_files import InputFile

    Measure = Callable[[InputFile], Awaitable[list[int]]]
    """Returns the rows of each row group of a parquet file."""


@dataclass(frozen=True)
class MiniBatch:
    """Some rows of a file, or some images."""

    task: dict[str, Any]
    """What the worker has to know."""
    rows: int
    weight: int
    """Bytes of the file, or images: what the progress counts."""
    first: int = 0
    """The first row's number in its file."""

    @property
    def names(self) -> list[str]:
        """What the output calls the files."""
        return [name for _, name in self.task["files"]] if "files" in self.task else [self.task["name"]]


def of_images(files: list[InputFile], size: int) -> Iterator[MiniBatch]:
    """Cut a list of images into mini-batches of `size`."""
    for start in range(0, len(files), size):
        some = files[start : start + size]
        task = {"kind": "image", "files": [[str(one.path), one.name] for one in some]}
        yield MiniBatch(task, len(some), len(some))


async def of_tables(files: list[InputFile], size: int, measure: Measure) -> AsyncIterator[MiniBatch]:
    """Cut tables into mini-batches of `size` rows, none of two files; raises InvalidBatchError."""
    for one in files:
        base = {"kind": one.kind, "path": str(one.path), "name": one.name}
        if one.kind == "parquet":
            for piece in _of_groups(base, one, size, await measure(one)):
                yield piece
            continue
        try:
            for piece in _of_lines(base, one, size):
                yield piece
        except record_cutter.UncutError as error:
            raise InvalidBatchError(f"`{one.path}` cannot be cut into rows: {error}") from None


def _of_lines(base: dict[str, Any], one: InputFile, size: int) -> Iterator[MiniBatch]:
    is_csv = one.kind == "csv"
    header = record_cutter.header_of(one.path) if is_csv else (0, 0)
    for piece in record_cutter.pieces(one.path, header[1], size, has_quotes=is_csv):
        place = {"start": piece.start, "end": piece.end, "first": piece.first, "count": piece.count}
        task = {**base, **place, "header": list(header)}
        yield MiniBatch(task, piece.count, piece.end - piece.start, piece.first)


def _of_groups(base: dict[str, Any], one: InputFile, size: int, groups: list[int]) -> Iterator[MiniBatch]:
    first, total = 0, max(1, sum(groups))
    for group, rows in enumerate(groups):
        for start in range(0, rows, size):
            count = min(size, rows - start)
            task = {**base, "place": [str(one.path), group, start, size, count, first]}
            yield MiniBatch(task, count, one.size * count // total, first)
            first += count
