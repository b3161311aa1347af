"""Arrow streams as a request's table and as an answer, where the model's environment has pyarrow."""

import importlib
from typing import Any

from .invalid_input import InvalidInputError

MEDIA_TYPE = "application/vnd.apache.arrow.stream"


class NoArrowError(Exception):
    """The environment cannot read or write Arrow."""


def read(body: bytes) -> Any:  # noqa: ANN401
    """Return the stream's batches as one data frame."""
    pyarrow = _pyarrow()
    try:
        with importlib.import_module("pyarrow.ipc").open_stream(pyarrow.py_buffer(body)) as stream:
            return stream.read_all().to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InvalidInputError(
            "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid Arrow stream."
            f" Error: '{error}'"
        ) from error


def write(predictions: Any) -> bytes:  # noqa: ANN401
    """Write predictions as a stream of one table; raises TypeError for what is no table."""
    pyarrow, pd = _pyarrow(), importlib.import_module("pandas")
    table = pyarrow.Table.from_pandas(_frame(predictions, pd), preserve_index=False)
    sink = pyarrow.BufferOutputStream()
    with importlib.import_module("pyarrow.ipc").new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _frame(predictions: Any, pd: Any) -> Any:  # noqa: ANN401
    np = importlib.import_module("numpy")
    if isinstance(predictions, pd.DataFrame):
        return predictions.rename(columns=str)
    if isinstance(predictions, pd.Series):
        return predictions.to_frame("predictions" if predictions.name is None else str(predictions.name))
    if isinstance(predictions, dict):
        return pd.DataFrame({str(name): list(one) for name, one in predictions.items()})
    if isinstance(predictions, np.ndarray) and predictions.ndim == 2:  # noqa: PLR2004
        return pd.DataFrame(predictions).rename(columns=str)
    if isinstance(predictions, np.ndarray) and predictions.ndim == 1:
        return pd.DataFrame({"predictions": predictions})
    if isinstance(predictions, (list, np.ndarray)):
        return pd.DataFrame({"predictions": list(predictions)})
    raise TypeError(f"a value of type {type(predictions).__name__} is no table")


def _pyarrow() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise NoArrowError(
            f"`{MEDIA_TYPE}` needs pyarrow, which is not in the model's environment; send JSON or CSV, or add it there"
        ) from None
