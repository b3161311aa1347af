"""Locks on disk: where they are kept and found, whether they still fit, and what they mean for the next one."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from envbuilder import digest
from envbuilder.errors import InvalidFileError, LockMismatchError, Problem, Source
from envbuilder.lockfile import SUBDIRS, Lock
from envbuilder.problems import shown

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec

MODEL_FILE: Final = "conda-lock.yml"
"""A lock that was saved with its model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What an earlier lock means for the next one."""

    pins: tuple[str, ...] = ()
    """`name==version` lines of its wheels, which are kept as long as they fit."""

    conda_packages: tuple[CondaPackage, ...] = ()
    """The same for its conda packages."""

    update: tuple[str, ...] = ()
    """Names of packages that are not kept."""

    exclude_newer: str | None = None
    """A date, or a time (RFC 3339): what was uploaded later does not exist."""

    @property
    def time(self) -> datetime | None:
        """`exclude_newer` as a time, UTC where it does not say."""
        return _time(self.exclude_newer) if self.exclude_newer is not None else None


def find(spec: EnvironmentSpec, *, workspace: Path | None, model: Path) -> Path | None:
    """Return the lock that the workspace holds for what is asked, else the one beside the model; None where none is."""
    kept = [workspace_file(workspace, spec.packages_digest)] if workspace is not None else []
    return next((path for path in (*kept, model / MODEL_FILE) if path.is_file()), None)


def workspace_file(workspace: Path, packages_digest: str) -> Path:
    """Return where a workspace keeps the lock of all models that ask for the same packages."""
    return workspace / "locks" / f"{digest.hex_of(digest.parse(packages_digest))}.conda-lock.yml"


def preferences(earlier: Path | None, *, update: tuple[str, ...], exclude_newer: str | None) -> Preferences:
    """Return what the lock at `earlier` means for a new one; raises InvalidFileError for an update of what it lacks."""
    if exclude_newer is not None and not _is_time(exclude_newer):
        raise InvalidFileError(
            f"`{shown(exclude_newer)}` is not a date",
            where=Source(file="--exclude-newer"),
            fix="write e.g. `2026-01-31`",
        )
    names = tuple(canonicalize_name(name) for name in update)
    if earlier is None or not earlier.is_file():
        if names:
            raise InvalidFileError(
                "there is no lock to update",
                where=Source(file="--update"),
                fix="name it: `-o FILE`, or leave `--update` out to make a new one",
            )
        return Preferences(exclude_newer=exclude_newer)
    found = _parse(earlier)
    known = [*(one.name for one in found.packages), *(one.name for one in found.conda_packages)]
    missing = [name for name in names if name not in {canonicalize_name(one) for one in known}]
    if missing:
        raise InvalidFileError(
            tuple(
                Problem(
                    what=f"`{shown(name)}` is not in the lock", where=Source(file="--update"), fix=_near(name, known)
                )
                for name in missing
            )
        )
    return Preferences(pins=found.pins, conda_packages=found.conda_packages, update=names, exclude_newer=exclude_newer)


def _time(text: str) -> datetime:
    """Read a date or a time, UTC where it does not say; raises ValueError."""
    # Python 3.10 reads no `Z`.
    found = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _is_time(text: str) -> bool:
    try:
        _time(text)
    except ValueError:
        return False
    return True


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else "name a package that the lock holds"


def read(path: Path, spec: EnvironmentSpec, base: BaseImage) -> Lock:
    """Read a lock that the user names and check that it belongs to this spec and base.

    Raises LockMismatchError naming everything that differs and the command that makes a new lock.
    """
    found = _parse(path)
    expected = {
        "packages_digest": (
            found.packages_digest,
            spec.packages_digest,
            "the model's environment changed since it was locked",
        ),
        "base_digest": (found.base_digest, base.digest, f"`{base.reference}` is another image than the locked one"),
        "subdir": (found.subdir, SUBDIRS[str(base.platform)], "the lock is for another platform"),
    }
    if not found.conda_packages:
        here = base.interpreter.version
        expected["python_version"] = (found.python_version, here, "the base has another Python")
    problems = tuple(
        Problem(
            what=f"{meaning}: locked {was}, now {now}",
            where=Source(file=str(path), key=f"metadata.custom_metadata.{key}"),
            fix=f"`envbuilder lock MODEL --base {base.reference} -o {path}`, or pass the base it was locked for",
        )
        for key, (was, now, meaning) in expected.items()
        if was != now
    )
    if problems:
        raise LockMismatchError(problems)
    return found


def _parse(path: Path) -> Lock:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidFileError(
            f"the lock cannot be read ({cause})",
            where=Source(file=str(path)),
            fix="make it with `envbuilder lock MODEL -o FILE`",
        ) from cause
    return Lock.parse(text, file=str(path))
