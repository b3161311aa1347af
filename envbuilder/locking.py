"""From a spec and a base image to a lock: uv finds the wheels, and the answer is kept until something asked changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.machine import Machine


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


def lock(spec: EnvironmentSpec, base: BaseImage, *, machine: Machine, tool_version: str) -> Lock:
    """Find the exact packages for the spec on the base.

    Raises LockImpossibleError naming the lines of the model's files that the solver's explanation mentions.
    """
    if spec.needs_conda:
        raise LockImpossibleError(
            tuple(
                Problem(
                    what=f"`{item.text}` is a conda package; this version locks Python and pip packages only",
                    where=item.source,
                    fix="where a wheel of it exists, ask for it in the pip list",
                )
                for item in spec.match_specs
            )
        )
    try:
        packages = uv.compile_lines(
            spec.requirement_lines(),
            constraints=spec.constraint_lines(),
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
        spec_digest=digest.parse(spec.digest),
        base_reference=base.reference,
        base_digest=base.digest,
        python_version=base.interpreter.version,
        tool_version=tool_version,
    )


def lock_once(spec: EnvironmentSpec, base: BaseImage, *, machine: Machine, tool_version: str) -> tuple[Lock, bool]:
    """Return the lock kept for this spec, base and index, or make and keep it; True when it was kept already."""
    settings = machine.settings
    key = digest.of_json([spec.digest, base.digest, str(base.platform), settings.index_url, settings.extra_index_urls])
    path = machine.locks / f"{digest.hex_of(key)}.conda-lock.yml"
    if path.exists():
        try:
            return Lock.parse(path.read_text(encoding="utf-8"), file=str(path)), True
        except InvalidFileError:
            path.unlink()
    made = lock(spec, base, machine=machine, tool_version=tool_version)
    disk.write_file(path, made.to_text().encode())
    return made, False


def read(path: Path, spec: EnvironmentSpec, base: BaseImage) -> Lock:
    """Read a lock that the user names and check that it belongs to this spec and base.

    Raises LockMismatchError naming everything that differs and the command that makes a new lock.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidFileError(
            f"the lock cannot be read ({cause})",
            where=Source(file=str(path)),
            fix="make it with `envbuilder lock MODEL -o FILE`",
        ) from cause
    found = Lock.parse(text, file=str(path))
    expected = {
        "spec_digest": (found.spec_digest, spec.digest, "the model's environment changed since it was locked"),
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
