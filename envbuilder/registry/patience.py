"""Trying again, where that can help: after a cut, a 5xx, or a 429 and the time it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from envbuilder.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_ATTEMPTS: Final = 5
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 60.0
"""Seconds; a registry that asks for more is told to the user instead."""


def patiently(call: Callable[[], _T], *, wait: Callable[[float], bool]) -> _T:
    """Return what `call` returns; `wait` sleeps, and returns True when nobody wants the result any more."""
    for number in range(1, _ATTEMPTS):
        try:
            return call()
        except UnreachableError as error:
            asked = error.retry_after
            if asked is None or asked > _LONGEST_WAIT:
                raise
            if wait(max(asked, _FIRST_WAIT * 2 ** (number - 1))):
                raise
    return call()
