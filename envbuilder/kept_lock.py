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
from envbuilder.lockfile import Lockfile
from envbuilder.problems import shown
from envbuilder.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import Lock

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


def earlier(path: Path | None) -> Lockfile | None:
    """Return what the file that is to be written holds already; None where there is none."""
    return _parse(path) if path is not None and path.is_file() else None


def preferences(
    earlier: Lockfile | None, subdir: str, *, update: tuple[str, ...] = (), exclude_newer: str | None = None
) -> Preferences:
    """Return what earlier locks mean for a new one on a platform; other platforms' wheels are a wish as well.

    Raises InvalidFileError for an update of what none of them has.
    """
    if exclude_newer is not None and not _is_time(exclude_newer):
        raise InvalidFileError(
            f"`{shown(exclude_newer)}` is not a date",
            where=Source(file="--exclude-newer"),
            fix="write e.g. `2026-01-31`",
        )
    names = tuple(canonicalize_name(name) for name in update)
    if earlier is None:
        if names:
            raise InvalidFileError(
                "there is no lock to update",
                where=Source(file="--update"),
                fix="name it: `-o FILE`, or leave `--update` out to make a new one",
            )
        return Preferences(exclude_newer=exclude_newer)
    _check_update(names, earlier)
    same = earlier.lock_for(subdir)
    return Preferences(
        pins=(same or earlier.locks[0]).pins,
        conda_packages=same.conda_packages if same is not None else (),
        update=names,
        exclude_newer=exclude_newer,
    )


def _check_update(names: tuple[str, ...], earlier: Lockfile) -> None:
    known = [one.name for lock in earlier.locks for one in lock.packages]
    known += [one.name for lock in earlier.locks for one in lock.conda_packages]
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
    """Read a lockfile, and return the lock in it that belongs to this spec and base.

    Raises LockMismatchError naming everything that differs and the command that makes a new lock.
    """
    lockfile = _parse(path)
    here = Target.of_image(base.interpreter, base.platform)
    fix = f"`envbuilder lock MODEL --base {base.reference} -o {path}`, or pass the base it was locked for"
    lock = lockfile.lock_for(here.subdir)
    if lock is None:
        raise LockMismatchError(
            f"the lock is for {', '.join(one.subdir for one in lockfile.locks)}, the image for {here.subdir}",
            where=Source(file=str(path), key="metadata.platforms"),
            fix=f"`envbuilder lock MODEL --platform {base.platform} -o {path}`",
        )
    problems = tuple(
        Problem(
            what=f"{meaning}: locked {was}, now {now}",
            where=Source(file=str(path), key=f"metadata.custom_metadata.{key}"),
            fix=fix,
        )
        for key, was, now, meaning in _differences(lock, spec, base, here)
    )
    if problems:
        raise LockMismatchError(problems)
    return lock


def read_here(path: Path, spec: EnvironmentSpec, here: Target) -> Lock:
    """Read a lockfile, and return the lock in it for this spec on this machine, whatever base it was made for.

    Raises LockMismatchError naming everything that differs and the command that makes a new lock.
    """
    lockfile = _parse(path)
    lock = lockfile.lock_for(here.subdir)
    again = f"`envbuilder lock MODEL --no-base --platform {here.subdir} -o {path}`"
    if lock is None:
        raise LockMismatchError(
            f"the lock is for {', '.join(one.subdir for one in lockfile.locks)}, this machine is {here.subdir}",
            where=Source(file=str(path), key="metadata.platforms"),
            fix=again,
        )
    problems = []
    if lock.packages_digest != spec.packages_digest:
        problems.append(
            Problem(
                what="the model's environment changed since it was locked: "
                f"locked {lock.packages_digest}, now {spec.packages_digest}",
                where=Source(file=str(path), key="metadata.custom_metadata.packages_digest"),
                fix=again,
            )
        )
    if not lock.target.runs_on(here):
        problems.append(_older(str(path), lock, here))
    if problems:
        raise LockMismatchError(tuple(problems))
    return lock


def check_runs(lock: Lock, here: Target, *, file: str) -> None:
    """Raise LockMismatchError where the machine is another one, or older, than the lock is for."""
    if lock.subdir != here.subdir:
        raise LockMismatchError(
            f"the lock is for {lock.subdir}, this machine is {here.subdir}",
            where=Source(file=file),
            fix=f"reproduce it on a machine of that kind, or lock the model for {here.subdir}",
        )
    if not lock.target.runs_on(here):
        raise LockMismatchError((_older(file, lock, here),))


def _older(file: str, lock: Lock, here: Target) -> Problem:
    return Problem(
        what=f"the C library of this machine is older: locked {lock.target.glibc}, here {here.glibc}",
        where=Source(file=file, key=f"metadata.custom_metadata.{lock.subdir}.glibc"),
        fix="`envbuilder lock MODEL --no-base` locks what runs here too; or use a newer system",
    )


def _differences(
    lock: Lock, spec: EnvironmentSpec, base: BaseImage, here: Target
) -> Iterator[tuple[str, object, object, str]]:
    if lock.packages_digest != spec.packages_digest:
        changed = "the model's environment changed since it was locked"
        yield "packages_digest", lock.packages_digest, spec.packages_digest, changed
    if lock.base is not None and lock.base.digest != base.digest:
        other = f"`{base.reference}` is another image than the locked one"
        yield f"{lock.subdir}.base_digest", lock.base.digest, base.digest, other
    if not lock.target.runs_on(here):
        yield f"{lock.subdir}.glibc", lock.target.glibc, here.glibc, "the C library of the base is older"
    if not lock.conda_packages:
        was, now = lock.python_version, base.interpreter.version
        same = was == now if lock.base is not None else was.split(".")[:2] == now.split(".")[:2]
        if not same:
            yield f"{lock.subdir}.python_version", was, now, "the base has another Python"


def _parse(path: Path) -> Lockfile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidFileError(
            f"the lock cannot be read ({cause})",
            where=Source(file=str(path)),
            fix="make it with `envbuilder lock MODEL -o FILE`",
        ) from cause
    return Lockfile.parse(text, file=str(path))
