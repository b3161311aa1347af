"""The kinds of failure a user can meet, each with its own exit code.

Anything that is not an `EnvBuilderError` is a bug of envbuilder itself (exit code 70).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from envbuilder.secret import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a value was read: a file and, inside it, a key path such as `dependencies[3].pip[0]`."""

    file: str
    key: str = ""

    def child(self, key: str | int) -> Source:
        """Return the source of the member `key` of this value."""
        if isinstance(key, int):
            return Source(file=self.file, key=f"{self.key}[{key}]")
        return Source(file=self.file, key=f"{self.key}.{visible(key)}" if self.key else visible(key))

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: what, where, and how to fix it."""

    what: str
    where: Source | None = None
    fix: str | None = None

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at {self.where}")
        if self.fix is not None:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class EnvBuilderError(Exception):
    """A failure with one or more problems, each saying what, where and the fix."""

    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "error"

    def __init__(self, what: str | tuple[Problem, ...], *, where: Source | None = None, fix: str | None = None) -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem(what=what, where=where, fix=fix),) if isinstance(what, str) else what
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def to_dict(self) -> dict[str, Any]:
        """Return the failure in the types of JSON."""
        problems = [
            {
                "what": problem.what,
                "where": None if problem.where is None else {"file": problem.where.file, "key": problem.where.key},
                "fix": problem.fix,
            }
            for problem in self.problems
        ]
        return {"kind": self.kind, "exit_code": self.exit_code, "problems": problems}


class InvalidFileError(EnvBuilderError):
    """A file (or an option's value) that cannot be read as what it should be."""

    exit_code = 2
    kind = "invalid-file"


class EngineMissingError(EnvBuilderError):
    """No engine, sandbox or program that the work needs answers on this machine."""

    exit_code = 3
    kind = "engine-missing"


class BuildFailedError(EnvBuilderError):
    """The engine could not build the image."""

    exit_code = 4
    kind = "build-failed"


class LockImpossibleError(EnvBuilderError):
    """No set of packages satisfies what is asked for."""

    exit_code = 5
    kind = "lock-impossible"
    explanation: str = ""
    """All that the solver said; people are shown the end of it."""


class SmokeTestFailedError(EnvBuilderError):
    """The built image did not answer its own input example; it was not tagged."""

    exit_code = 6
    kind = "smoke-test-failed"


class UnreachableError(EnvBuilderError):
    """An index, a registry or a mirror did not answer; the same call may succeed later."""

    exit_code = 7
    kind = "unreachable"
    retry_after: float | None = None
    """Seconds after which the same call may succeed; None where nobody can tell."""


class BaseImageError(EnvBuilderError):
    """The base image cannot be had, or does not provide the Python that is asked for."""

    exit_code = 8
    kind = "base-image"
    is_absent: bool = False
    """True where a registry answered that it has no such image: another name may be tried."""


class ModelError(EnvBuilderError):
    """The given place holds no model that can be served."""

    exit_code = 9
    kind = "model"


class DiskFullError(EnvBuilderError):
    """The disk that holds the caches or the output is full."""

    exit_code = 10
    kind = "disk-full"


class LockMismatchError(EnvBuilderError):
    """The lock does not belong to this model, base or platform, or a package does not match it."""

    exit_code = 11
    kind = "lock-mismatch"


class ServingFailedError(EnvBuilderError):
    """The server of an image did not start, or ended by itself."""

    exit_code = 12
    kind = "serving-failed"


class RegistryRefusedError(EnvBuilderError):
    """A registry does not take the image: no login, no right to push, or an image that it does not want."""

    exit_code = 13
    kind = "registry-refused"


class PredictionFailedError(EnvBuilderError):
    """More rows of a batch have no prediction than may."""

    exit_code = 14
    kind = "prediction-failed"
