"""Whether the bytecode in an environment is that of its modules: Python runs it without a look at them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import bytecode_check, process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Pair = tuple[str, str]
"""A module and its bytecode."""


def foreign(pairs: Sequence[Pair], python: str) -> tuple[str, ...]:
    """Return the files of bytecode that the program `python` does not make of their modules."""
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        shares = pool.map(lambda number: list(_foreign(pairs[number::count], python)), range(count))
        return tuple(sorted(path for share in shares for path in share))


def command(python: str, folder: str) -> tuple[str, ...]:
    """Return what compares all bytecode below a folder, for a program of an image; `told` reads its answer."""
    return (python, "-I", "-S", "-B", "-W", "ignore", "-c", _program(), folder)


def told(answer: bytes) -> tuple[tuple[str, ...], bool]:
    """Return the files that are not the bytecode of their modules, and whether all were looked at."""
    *files, last = answer.decode(errors="replace").split("\n")[:-1] or [""]
    return (tuple(files), True) if last == "whole" else ((*files, last) if last else tuple(files), False)


def _program() -> str:
    return Path(bytecode_check.__file__).read_text(encoding="utf-8")


def _foreign(pairs: Sequence[Pair], python: str) -> Iterator[str]:
    waiting = list(pairs)
    while waiting:
        finished = process.run(
            (python, "-I", "-S", "-B", "-W", "ignore", "-c", _program()),
            environ={},
            stdin=json.dumps(waiting).encode(),
        )
        answers = finished.stdout.split()[: len(waiting)]
        for (_, path), answer in zip(waiting, answers, strict=False):
            if answer != b"1":
                yield path
        if len(answers) < len(waiting):
            # The one after the last answer ended the program.
            yield waiting[len(answers)][1]
            waiting = waiting[len(answers) + 1 :]
        else:
            waiting = []
