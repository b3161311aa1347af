"""What only one process of a test run may do at a time: tests run side by side, and some share what they make."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def alone(config: pytest.Config, name: str) -> Iterator[None]:
    """Hold the lock called `name` of this run's cache while the block lasts."""
    assert config.cache is not None
    with FileLock(config.cache.mkdir("locks") / name):
        yield
