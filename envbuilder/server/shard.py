"""One of several equal parts of a batch run, each worked on by a process or a machine of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Mapping

INDEX = "JOB_COMPLETION_INDEX"
"""Where Kubernetes says which pod of an Indexed Job this is."""

_FORM = re.compile(r"(?:([0-9]{1,6})/)?([1-9][0-9]{0,5})")


class InvalidShardError(Exception):
    """A shard that does not exist."""


@dataclass(frozen=True)
class Shard:
    """Shard `index`, from 0, of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Shard:
        """Read `INDEX/COUNT`, or `COUNT` with the index from Kubernetes' variable; raises InvalidShardError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidShardError(f"`{text}` is no shard: expected `INDEX/COUNT`, e.g. `0/4`")
        index, where = found[1], f"`{text}`"
        if index is None:
            index, where = environment.get(INDEX, ""), f"{INDEX} is `{environment.get(INDEX, '')}`, which"
            if not index:
                raise InvalidShardError(f"`{text}` names no index, and {INDEX} is not set: expected `INDEX/COUNT`")
        if not index.isascii() or not index.isdigit() or int(index) >= int(found[2]):
            raise InvalidShardError(f"{where} is no shard of {found[2]}: they are 0 to {int(found[2]) - 1}")
        return cls(int(index), int(found[2]))

    def has(self, number: int) -> bool:
        """Whether the file or mini-batch with this number is this shard's."""
        return number % self.count == self.index

    def name(self, output: Path) -> Path:
        """Return the output's name for this shard, e.g. `out-00003-of-00010.csv`."""
        if self.count == 1:
            return output
        return output.with_name(f"{output.stem}-{self.index:05}-of-{self.count:05}{output.suffix}")
