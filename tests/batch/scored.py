"""Batch runs as processes, for the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.server.served import environment_for, write_contract

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Scored:
    """How a run ended."""

    code: int
    events: list[dict[str, Any]]
    log: str

    def summary(self) -> dict[str, Any]:
        assert self.code == 0, self.log
        return self.events[-1]


@dataclass(frozen=True)
class Scorer:
    """Starts runs of one model."""

    model: Path
    python: str
    folder: Path

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        variables = write_contract(self.model, self.folder / "contract.json")
        return subprocess.Popen(
            (sys.executable, "-m", "envbuilder.server", "predict", "--events", *map(str, arguments)),
            env=environment_for(self.model, self.python, **variables, **environment),
            cwd="/proc",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *arguments: str | Path, **environment: str) -> Scored:
        process = self.start(*arguments, **environment)
        out, log = process.communicate(timeout=300)
        return Scored(process.returncode, [json.loads(line) for line in out.splitlines()], log.decode())
