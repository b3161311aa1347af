"""The folder beside an output where a batch run keeps its parts until they are put together.

A journal says which parts are whole, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, Iterator

log = logging.getLogger("envbuilder.server")

PLAN, JOURNAL, LOCK = "plan.json", "journal.jsonl", "lock"


class OtherRunError(Exception):
    """The folder holds parts of a run that asked for something else."""


@dataclass(frozen=True)
class Part:
    """What became of one mini-batch."""

    number: int
    rows: int
    """Rows with a prediction."""
    failed: int
    size: int
    """Bytes of the part."""
    columns: tuple[str, ...]
    """Names of the prediction's columns; none where there is no row."""
    first: tuple[dict[str, Any], ...]
    """The first few failures."""


class WorkFolder:
    """The parts of one run; nobody else has the folder while it is taken."""

    def __init__(self, output: Path, plan: dict[str, Any]) -> None:
        self.path = output.with_name(output.name + ".parts")
        self.done: dict[int, Part] = {}
        self._suffix = output.suffix
        self._plan = plan

    def take(self) -> None:
        """Take the folder, wait where another process has it; raises OtherRunError."""
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process works on %s: waiting for its end", self.path)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            # Who had it before may have finished, and removed what was locked.
            try:
                if os.path.samestat(os.fstat(self._lock), (self.path / LOCK).stat()):
                    break
            except FileNotFoundError:
                pass
            os.close(self._lock)
        try:
            self._read()
            self._journal = (self.path / JOURNAL).open("ab", buffering=0)
        except BaseException:
            os.close(self._lock)
            raise

    def leave(self) -> None:
        """Let others have the folder, with what is in it."""
        self._journal.close()
        os.close(self._lock)

    def _read(self) -> None:
        plan = self.path / PLAN
        if not plan.exists():
            write(plan, json.dumps(self._plan).encode())
        elif json.loads(plan.read_bytes()) != self._plan:
            raise OtherRunError(
                f"`{self.path}` holds the parts of another run: of another model, other inputs or other options;"
                " remove it to start anew, or choose another output"
            )
        journal = self.path / JOURNAL
        text = journal.read_bytes() if journal.exists() else b""
        # A line that was cut off when the run was killed is not there.
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) != len(text):
            write(journal, whole)
        for line in whole.splitlines():
            told = json.loads(line)
            part = Part(**{**told, "columns": tuple(told["columns"]), "first": tuple(told["first"])})
            if self._is_whole(part):
                self.done[part.number] = part

    def _is_whole(self, part: Part) -> bool:
        file = self.part(part.number)
        is_there = file.stat().st_size == part.size if file.exists() else part.size == 0
        return is_there and (not part.failed or self.failures(part.number).exists())

    def part(self, number: int) -> Path:
        """Return where the predictions of a mini-batch are."""
        return self.path / f"{number:09}{self._suffix}"

    def failures(self, number: int) -> Path:
        """Return where the failures of a mini-batch are."""
        return self.path / f"{number:09}.failures.jsonl"

    def add(self, part: Part) -> None:
        """Write down that a part is whole."""
        self._journal.write(json.dumps(asdict(part)).encode() + b"\n")
        self.done[part.number] = part

    @property
    def parts(self) -> list[Part]:
        """All parts, in the order of the inputs."""
        return [self.done[number] for number in sorted(self.done)]

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def opened(output: Path, plan: dict[str, Any]) -> Iterator[WorkFolder]:
    """Give the folder of a run, as it was left; raises OtherRunError."""
    folder = WorkFolder(output, plan)
    folder.take()
    try:
        yield folder
    finally:
        folder.leave()


def write(path: Path, content: bytes) -> None:
    """Write a file that is whole, on the disk, or as it was before."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def join(parts: list[Path], head: bytes, output: Path) -> None:
    """Put files together behind a head; the output is whole, on the disk, or absent."""
    new = output.with_name(output.name + ".new")
    with new.open("wb") as stream:
        stream.write(head)
        for path in parts:
            with path.open("rb") as part:
                shutil.copyfileobj(part, stream, 1 << 20)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(output)


def key_of(plan: dict[str, Any]) -> str:
    """Return a digest of what a run is asked for."""
    return "sha256:" + hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
