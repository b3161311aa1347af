"""From a spec and a target to a lock: rattler finds conda packages, uv the wheels beside them.

The answer is kept until something that is asked changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import canonicalize_name

from envbuilder import conda, conda_names, digest, disk, uv
from envbuilder.conda_settings import CondaSettings
from envbuilder.conda_yaml import MatchSpec
from envbuilder.errors import (
    BaseImageError,
    InvalidFileError,
    LockImpossibleError,
    Problem,
)
from envbuilder.kept_lock import Preferences
from envbuilder.locked import Lock, LockedBase
from envbuilder.lockfile import Lockfile
from envbuilder.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from envbuilder.base_image import BaseImage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import LockedPackage
    from envbuilder.machine import Machine


_MINORS: Final = tuple(f"3.{minor}" for minor in range(6, 15))
"""The Pythons that packages are made for, oldest first."""


def check_python(spec: EnvironmentSpec, base: BaseImage, machine: Machine) -> None:
    """Raise BaseImageError unless the base provides the Python minor that is asked for; warn of another micro version.

    Wheels are made for a minor version, so another micro version gives the same packages.
    """
    if spec.needs_conda:
        # Python comes from the channel.
        return
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is locked for: a machine, and the Python on it where conda brings none."""

    target: Target
    python_version: str
    base: BaseImage | None = None
    """None: no image in particular."""

    @classmethod
    def of_base(cls, base: BaseImage, *, cuda: str | None = None) -> Place:
        """Return what an image on this base is."""
        target = Target.of_image(base.interpreter, base.platform, cuda=cuda)
        return cls(target=target, python_version=base.interpreter.version, base=base)

    @classmethod
    def without_base(cls, spec: EnvironmentSpec, target: Target) -> Place:
        """Return the target with the Python that is asked for: as exact as it was said, the newest where several fit.

        Raises LockImpossibleError where none of those that are known does.
        """
        asked = spec.python.value
        newest = next((minor for minor in reversed(_MINORS) if asked.allows_minor(minor)), None)
        version = asked.exact or asked.minor or newest
        if version is None:
            raise LockImpossibleError(
                f"nothing is known of a Python {asked.text}",
                where=spec.python.source,
                fix=f"ask for one of {_MINORS[0]} to {_MINORS[-1]}",
            )
        return cls(target=target, python_version=version)


def lock(
    spec: EnvironmentSpec,
    place: Place,
    *,
    machine: Machine,
    tool_version: str,
    preferences: Preferences | None = None,
) -> Lock:
    """Find the exact packages for the spec; an earlier answer is kept where `preferences` say so.

    Conda packages are found first, and what they provide is not installed by pip again. Raises LockImpossibleError
    naming the lines of the model's files that the solver's explanation mentions.
    """
    _check_lockable(spec)
    preferences = preferences or Preferences()
    conda_packages = _conda(spec, place.target, machine, preferences) if spec.needs_conda else ()
    python = next((one.version for one in conda_packages if one.name == "python"), place.python_version)
    try:
        packages = _wheels(spec, place.target, python, conda_packages, machine=machine, preferences=preferences)
    except LockImpossibleError as cause:
        raise _with_places(cause, spec) from cause
    base = place.base
    return Lock(
        packages=packages,
        conda_packages=conda_packages,
        target=place.target,
        base=LockedBase(reference=base.reference, digest=base.digest) if base is not None else None,
        packages_digest=digest.parse(spec.packages_digest),
        python_version=python,
        tool_version=tool_version,
    )


def _conda(
    spec: EnvironmentSpec, target: Target, machine: Machine, preferences: Preferences
) -> tuple[CondaPackage, ...]:
    """Return the conda packages, Python among them."""
    settings = CondaSettings.from_environ(dict(machine.settings.conda_environ), settings=machine.settings)
    packages = conda.solve(
        conda_match_specs(spec),
        channels=spec.channels,
        target=target,
        settings=settings,
        reporter=machine.reporter,
        preferred=preferences.conda_packages,
        update=preferences.update,
        exclude_newer=preferences.time,
    )
    without_md5 = [one.name for one in packages if one.md5 is None]
    if without_md5:
        raise LockImpossibleError(
            f"the channel gives no md5 for `{without_md5[0]}`, which conda-lock.yml must hold",
            where=spec.match_specs[0].source,
            fix="rebuild the channel's index with a newer `conda index`",
        )
    return packages


def conda_match_specs(spec: EnvironmentSpec) -> tuple[MatchSpec, ...]:
    """Return what is asked of conda: the packages, and Python, pip, setuptools and wheel as conda.yaml has them.

    Where another Python was chosen, that one is asked for.
    """
    python = spec.python
    tools = spec.tool_match_specs
    if all(one.source != python.source for one in tools):
        text = python.value.text
        chosen = MatchSpec.parse(f"python{'=' if text[0].isdigit() else ' '}{text}", source=python.source)
        tools = (chosen, *(one for one in tools if one.name != chosen.name))
    return (*tools, *spec.match_specs)


def _wheels(
    spec: EnvironmentSpec,
    target: Target,
    python: str,
    conda_packages: tuple[CondaPackage, ...],
    *,
    machine: Machine,
    preferences: Preferences,
) -> tuple[LockedPackage, ...]:
    """Return the wheels that are needed beside the conda packages."""
    provided = conda_names.provided(conda_packages)
    _check_clashes(spec, provided)
    unknown: set[str] = set()
    while True:
        try:
            return uv.compile_lines(
                spec.requirement_lines(),
                constraints=spec.constraint_lines(),
                indexes=spec.indexes,
                provided={name: one.version for name, one in provided.items() if name not in unknown},
                excluded=tuple(sorted(unknown)),
                pins=preferences.pins,
                update=preferences.update,
                exclude_newer=preferences.exclude_newer,
                python_version=python,
                target=target,
                settings=machine.settings,
                reporter=machine.reporter,
            )
        except LockImpossibleError as cause:
            # A build that only conda has is no version of the index; uv then takes it as given.
            missing = [name for name in provided.keys() - unknown if _lacks(cause, name, provided[name].version)]
            if not missing:
                raise
            unknown.update(missing)


def _lacks(cause: LockImpossibleError, name: str, version: str) -> bool:
    text = " ".join(cause.problems[0].what.split())
    wanted = re.escape(name)
    return bool(
        re.search(rf"there is no version of {wanted}=={re.escape(version)}", text)
        or re.search(rf"\b{wanted} was not found in the package registry", text)
        or re.search(rf"\b{wanted}=={re.escape(version)} has no (usable )?wheels", text)
    )


def _check_clashes(spec: EnvironmentSpec, provided: Mapping[NormalizedName, CondaPackage]) -> None:
    """Raise LockImpossibleError for every requirement that a conda package provides in a version it does not allow."""
    asked = {one.name: one for one in spec.match_specs}
    problems = []
    for one in (*spec.requirements, *spec.constraints):
        package = provided.get(one.name)
        if package is None or one.is_direct:
            continue
        if not ParsedRequirement(f"x{one.specifier}").specifier.contains(package.version, prereleases=True):
            by = asked.get(package.name)
            because = f", which `{by.text}` asks for" if by is not None else ""
            problems.append(
                Problem(
                    what=f"`{one.text}` clashes with the conda package {package.name} {package.version}{because}",
                    where=one.source,
                    fix=f"ask for {one.name} in one place: remove the requirement, or pin the conda package to it",
                )
            )
    if problems:
        raise LockImpossibleError(tuple(problems))


def _check_lockable(spec: EnvironmentSpec) -> None:
    """Raise LockImpossibleError with everything that only a later version locks; nothing is dropped silently."""
    problems = [
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


def lock_once(
    spec: EnvironmentSpec, base: BaseImage, *, cuda: str | None = None, machine: Machine, tool_version: str
) -> tuple[Lock, bool]:
    """Return the lock kept for this spec, base and index, or make and keep it; True when it was kept already."""
    settings = machine.settings
    key = digest.of_json(
        [spec.packages_digest, base.digest, str(base.platform), cuda, settings.index_url, settings.extra_index_urls]
    )
    path = machine.locks / f"{digest.hex_of(key)}.conda-lock.yml"
    if path.exists():
        try:
            return Lockfile.parse(path.read_text(encoding="utf-8"), file=str(path)).locks[0], True
        except InvalidFileError:
            path.unlink()
    made = lock(spec, Place.of_base(base, cuda=cuda), machine=machine, tool_version=tool_version)
    disk.write_file(path, Lockfile.of([made]).to_text().encode())
    return made, False


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
