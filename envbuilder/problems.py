"""What is wrong with the files that are read: collected, and told all at once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder.errors import EnvBuilderError, InvalidFileError, Problem, Source
from envbuilder.secret import visible

if TYPE_CHECKING:
    from collections.abc import Iterable


class Problems:
    """The problems found so far in what is being read; a reader raises them all at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, what: str, *, where: Source | None = None, fix: str | None = None) -> None:
        """Note one problem."""
        self._found.append(Problem(what=what, where=where, fix=fix))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note the problems of a part that was read on its own."""
        self._found.extend(problems)

    @property
    def found(self) -> tuple[Problem, ...]:
        """What was noted."""
        return tuple(self._found)

    def finish(self, kind: type[EnvBuilderError] = InvalidFileError) -> None:
        """Raise `kind` with all problems, if there are any."""
        if self._found:
            raise kind(tuple(self._found))


def shown(text: str, *, limit: int = 100) -> str:
    """Return `text` fit for a message: no credentials, no control characters, not endless."""
    found = visible(text)
    return found if len(found) <= limit else f"{found[:limit]}…"
