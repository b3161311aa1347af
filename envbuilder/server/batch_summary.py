"""The files beside a batch run's output: what it is of, and which rows failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from . import work_folder
from .batch_error import InvalidBatchError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from .work_folder import Part


class Summary:
    """The file beside an output that says what it is of."""

    def __init__(self, output: Path, key: str) -> None:
        self.output = output
        self.file = output.with_name(output.name + ".summary.json")
        self.failures = output.with_name(output.name + ".failures.jsonl")
        self._key = key

    def known(self) -> dict[str, Any] | None:
        """Return what is there already; raises InvalidBatchError where that is of another run."""
        if not self.output.exists():
            return None
        try:
            told = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            told = {}
        if not isinstance(told, dict) or told.get("key") != self._key:
            raise InvalidBatchError(
                f"`{self.output}` exists, and is not the output of this run: remove it, or choose another output"
            )
        return told

    def write(self, parts: list[Part], files: int) -> dict[str, Any]:
        """Write down what the parts are."""
        failed = sum(part.failed for part in parts)
        told = {
            "output": self.output.name,
            "rows": sum(part.rows for part in parts),
            "failed": failed,
            "files": files,
            "failures": self.failures.name if failed else None,
            "key": self._key,
        }
        work_folder.write(self.file, json.dumps(told, indent=2).encode() + b"\n")
        return told


def line(failure: dict[str, Any]) -> str:
    """Write a failure for people."""
    row = f", row {failure['row']}" if "row" in failure else ""
    more = f" and {failure['rows'] - 1} more" if failure.get("rows", 1) > 1 else ""
    column = f", column `{failure['column']}`" if "column" in failure else ""
    return f"{failure['file_name']}{row}{more}{column}: {failure['what']}"
