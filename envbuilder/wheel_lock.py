"""The wheels of a lock: found by uv beside what conda provides, with those that no index offers among them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import canonicalize_name

from envbuilder import conda_names, uv, uv_failure
from envbuilder.errors import LockImpossibleError, Problem
from envbuilder.uv import SourceMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.kept_lock import Preferences
    from envbuilder.locked import LockedPackage
    from envbuilder.workshop import Workshop


def find(
    spec: EnvironmentSpec, conda_packages: tuple[CondaPackage, ...], *, workshop: Workshop, preferences: Preferences
) -> tuple[LockedPackage, ...]:
    """Return the wheels that are needed beside the conda packages.

    Packages that may be built are taken as source only where there is no answer without. What a source needs is known
    once it is built; uv is asked again until nothing new is. Raises LockImpossibleError.
    """
    provided = conda_names.provided(conda_packages)
    _check_clashes(spec, provided)
    given, lines = _given(spec, workshop)
    unknown: set[str] = set()
    sources: dict[tuple[str, str | None], SourceMetadata] = {}
    built: dict[tuple[str, str], LockedPackage] = {}
    while True:
        try:
            found = uv.compile_lines(
                lines,
                constraints=spec.constraint_lines(),
                indexes=spec.indexes,
                provided={name: one.version for name, one in provided.items() if name not in unknown},
                excluded=tuple(sorted(unknown)),
                pins=preferences.pins,
                update=preferences.update,
                exclude_newer=preferences.exclude_newer,
                given=given,
                sources=tuple(sources.values()),
                python_version=workshop.python_version,
                target=workshop.target,
                settings=workshop.machine.settings,
                reporter=workshop.machine.reporter,
                on_yanked=lambda pin, reason: workshop.machine.reporter.warning(_yanked(spec, pin, reason)),
            )
        except LockImpossibleError as cause:
            # A build that only conda has is no version of the index; uv then takes it as given.
            missing = [name for name in provided.keys() - unknown if _lacks(cause, name, provided[name].version)]
            if not missing and (sources or not workshop.allowed):
                raise uv_failure.with_places(cause, spec, provided) from cause
            unknown.update(missing)
            if not missing:
                sources = {(name, None): SourceMetadata(name=name) for name in sorted(workshop.allowed)}
            continue
        unbuilt = [one for one in found if not one.filename.endswith(".whl") and (one.name, one.version) not in built]
        if not unbuilt:
            return tuple(
                replace(built.get((one.name, one.version), one), dependencies=one.dependencies) for one in found
            )
        for one in unbuilt:
            wheel, requires = _built(one, spec, workshop)
            built[one.name, one.version] = wheel
            sources[one.name, one.version] = SourceMetadata(name=one.name, version=one.version, requires=requires)


def _given(spec: EnvironmentSpec, workshop: Workshop) -> tuple[dict[str, LockedPackage], tuple[str, ...]]:
    """Return the wheels of direct requirements, and all requirements as lines.

    Lines of direct ones name a wheel in the cache, or are left out where they do not count on the target.
    """
    if not any(one.is_direct for one in spec.requirements):
        return {}, spec.requirement_lines()
    from envbuilder import direct_wheels  # noqa: PLC0415 - few models have any

    given = direct_wheels.of_requirements(spec.requirements, workshop)
    direct = {
        direct_wheels.line(one, given[one.name], workshop.machine)
        for one in spec.requirements
        if one.is_direct and one.name in given
    }
    indexed = replace(spec, requirements=tuple(one for one in spec.requirements if not one.is_direct))
    return given, tuple(sorted({*indexed.requirement_lines(), *direct}))


def _built(package: LockedPackage, spec: EnvironmentSpec, workshop: Workshop) -> tuple[LockedPackage, tuple[str, ...]]:
    from envbuilder import direct_wheels  # noqa: PLC0415 - few models need any

    where = next((one.source for one in spec.requirements if one.name == package.name), spec.python.source)
    return direct_wheels.of_sdist(package, workshop, where=where)


def _yanked(spec: EnvironmentSpec, pin: str, reason: str) -> str:
    """Say that a package was yanked, and what asks for it: such a one is taken only where something pins it."""
    name = canonicalize_name(pin.partition("==")[0])
    line = next((one for one in (*spec.requirements, *spec.constraints) if one.name == name and one.specifier), None)
    because = f" because: {reason}" if reason else ""
    if line is not None:
        return f"`{pin}` was yanked from its index{because}; `{line.text}` ({line.source}) asks for it: change it there"
    return (
        f"`{pin}` was yanked from its index{because}; the lock, or another package, pins it: "
        f"`envbuilder lock --update {name}` takes another where one fits"
    )


def _lacks(cause: LockImpossibleError, name: str, version: str) -> bool:
    text = " ".join(cause.explanation.split())
    wanted = re.escape(name)
    return bool(
        re.search(rf"there is no version of {wanted}=={re.escape(version)}", text)
        or re.search(rf"\b{wanted} was not found in the package registry", text)
        or re.search(rf"\b{wanted}=={re.escape(version)} has no (usable )?wheels", text)
    )


def _check_clashes(spec: EnvironmentSpec, provided: Mapping[NormalizedName, CondaPackage]) -> None:
    """Raise LockImpossibleError for every requirement that a conda package provides in a version it does not allow.

    What is asked for from one place is never what a channel has.
    """
    asked = {one.name: one for one in spec.match_specs}
    problems = []
    for one in (*spec.requirements, *spec.constraints):
        package = provided.get(one.name)
        if package is None:
            continue
        allowed = ParsedRequirement(f"x{one.specifier}").specifier
        if one.is_direct or not allowed.contains(package.version, prereleases=True):
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
