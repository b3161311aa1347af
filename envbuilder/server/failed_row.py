"""A row that gets no prediction, and why."""

from typing import Any, Dict, NamedTuple, Optional


class FailedRow(NamedTuple):
    """One row of one file."""

    row: Optional[int]
    """Its number in the file, from 0; None where the whole file is meant."""
    column: Optional[str]
    """Where the value is that is wrong, if that is known."""
    what: str

    def to_dict(self, file_name: str) -> Dict[str, Any]:
        """Return what the list of failures says of it."""
        told = {"file_name": file_name, "row": self.row, "column": self.column, "what": self.what}
        return {key: value for key, value in told.items() if value is not None}
