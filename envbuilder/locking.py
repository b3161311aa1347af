"""From a spec and a base image to a lock: uv finds the wheels, and the answer is kept until something asked changes."""

from __future__ import annotations

import difflib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from envbuilder import digest, disk, uv
from envbuilder.errors import (
    BaseImageError,
    InvalidFileError,
    LockImpossibleError,
    LockMismatchError,
    Problem,
    Source,
)
from envbuilder.lockfile import SUBDIRS, Lock
from envbuilder.problems import shown

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.machine import Machine


MODEL_FILE: Final = "conda-lock.yml"
"""A lock that was saved with its model."""


def check_python(spec: EnvironmentSpec, base: BaseImage, machine: Machine) -> None:
    """Raise BaseImageError unless the base provides the Python minor that is asked for; warn of another micro version.

    Wheels are made for a minor version, so another micro version gives the same packages.
    """
    asked, found = spec.python.value, base.interpreter
    if not asked.allows_minor(found.minor):
        raise BaseImageError(
            f"the base image `{base.reference}` provides Python {found.version}, the model asks for {asked.text}",
            where=spec.python.source,
            fix=f"pass a base with that Python, e.g. `--base python:{asked.exact or asked.minor or '3.11'}-slim`",
        )
    if not asked.allows(found.version):
        machine.reporter.warning(
            f"the model asks for Python {asked.text} ({spec.python.source}), the base provides {found.version}: "
            "same minor version, same packages"
        )


def lock(
    spec: EnvironmentSpec,
    base: BaseImage,
    *,
    machine: Machine,
    tool_version: str,
    preferences: uv.Preferences | None = None,
) -> Lock:
    """Find the exact packages for the spec on the base; an earlier answer is kept where `preferences` say so.

    Raises LockImpossibleError naming the lines of the model's files that the solver's explanation mentions.
    """
    _check_lockable(spec)
    try:
        packages = uv.compile_lines(
            spec.requirement_lines(),
            constraints=spec.constraint_lines(),
            indexes=spec.indexes,
            preferences=preferences,
            target=uv.Target(
                python_version=base.interpreter.version,
                architecture=base.platform.architecture,
                glibc=base.interpreter.glibc,
            ),
            settings=machine.settings,
            reporter=machine.reporter,
        )
    except LockImpossibleError as cause:
        raise _with_places(cause, spec) from cause
    return Lock(
        packages=packages,
        subdir=SUBDIRS[str(base.platform)],
        packages_digest=digest.parse(spec.packages_digest),
        base_reference=base.reference,
        base_digest=base.digest,
        python_version=base.interpreter.version,
        tool_version=tool_version,
    )


def _check_lockable(spec: EnvironmentSpec) -> None:
    """Raise LockImpossibleError with everything that only a later version locks; nothing is dropped silently."""
    problems = [
        Problem(
            what=f"`{item.text}` is a conda package; this version locks Python and pip packages only",
            where=item.source,
            fix="where a wheel of it exists, ask for it in the pip list",
        )
        for item in spec.match_specs
    ]
    problems += [
        Problem(
            what=f"`{item.text}` is fetched from one place; this version locks packages of an index only",
            where=item.source,
            fix=f"write `{item.name}==VERSION` of a released version",
        )
        for item in spec.requirements
        if item.is_direct
    ]
    if problems:
        raise LockImpossibleError(tuple(problems))


def lock_once(spec: EnvironmentSpec, base: BaseImage, *, machine: Machine, tool_version: str) -> tuple[Lock, bool]:
    """Return the lock kept for this spec, base and index, or make and keep it; True when it was kept already."""
    settings = machine.settings
    key = digest.of_json(
        [spec.packages_digest, base.digest, str(base.platform), settings.index_url, settings.extra_index_urls]
    )
    path = machine.locks / f"{digest.hex_of(key)}.conda-lock.yml"
    if path.exists():
        try:
            return Lock.parse(path.read_text(encoding="utf-8"), file=str(path)), True
        except InvalidFileError:
            path.unlink()
    made = lock(spec, base, machine=machine, tool_version=tool_version)
    disk.write_file(path, made.to_text().encode())
    return made, False


def find(spec: EnvironmentSpec, *, workspace: Path | None, model: Path) -> Path | None:
    """Return the lock that the workspace holds for what is asked, else the one beside the model; None where none is."""
    kept = [workspace_file(workspace, spec.packages_digest)] if workspace is not None else []
    return next((path for path in (*kept, model / MODEL_FILE) if path.is_file()), None)


def workspace_file(workspace: Path, packages_digest: str) -> Path:
    """Return where a workspace keeps the lock of all models that ask for the same packages."""
    return workspace / "locks" / f"{digest.hex_of(digest.parse(packages_digest))}.conda-lock.yml"


def preferences(earlier: Path | None, *, update: tuple[str, ...], exclude_newer: str | None) -> uv.Preferences:
    """Return what the lock at `earlier` means for a new one; raises InvalidFileError for an update of what it lacks."""
    if exclude_newer is not None and not _is_time(exclude_newer):
        raise InvalidFileError(
            f"`{shown(exclude_newer)}` is not a date",
            where=Source(file="--exclude-newer"),
            fix="write e.g. `2026-01-31`",
        )
    pins: tuple[str, ...] = ()
    names = tuple(canonicalize_name(name) for name in update)
    if earlier is not None and earlier.is_file():
        found = _parse(earlier)
        pins = found.pins
        missing = [name for name in names if name not in {package.name for package in found.packages}]
        if missing:
            raise InvalidFileError(
                tuple(
                    Problem(
                        what=f"`{shown(name)}` is not in the lock",
                        where=Source(file="--update"),
                        fix=_near(name, [package.name for package in found.packages]),
                    )
                    for name in missing
                )
            )
    elif names:
        raise InvalidFileError(
            "there is no lock to update",
            where=Source(file="--update"),
            fix="name it: `-o FILE`, or leave `--update` out to make a new one",
        )
    return uv.Preferences(pins=pins, update=names, exclude_newer=exclude_newer)


def _is_time(text: str) -> bool:
    # Python 3.10 reads no `Z`.
    try:
        datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
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
        "python_version": (found.python_version, base.interpreter.version, "the base has another Python"),
    }
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


def _with_places(cause: LockImpossibleError, spec: EnvironmentSpec) -> LockImpossibleError:
    """Add the lines of the model's files whose packages the explanation names."""
    (problem,) = cause.problems
    words = {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", problem.what)}
    named = [item for item in spec.requirements if item.name in words]
    if not named:
        return LockImpossibleError(problem.what, where=spec.python.source, fix=problem.fix)
    first, *others = named
    return LockImpossibleError(
        (
            Problem(what=problem.what, where=first.source, fix=problem.fix),
            *(Problem(what=f"`{item.text}` takes part in it", where=item.source) for item in others),
        )
    )
