"""From a spec and a target to a lock: rattler finds conda packages, uv the wheels beside them.

The answer is kept until something that is asked changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from envbuilder import digest, disk, wheel_lock
from envbuilder.conda_yaml import MatchSpec
from envbuilder.errors import (
    BaseImageError,
    InvalidFileError,
    LockImpossibleError,
)
from envbuilder.kept_lock import Preferences
from envbuilder.locked import Lock, LockedBase
from envbuilder.lockfile import Lockfile
from envbuilder.target import Target
from envbuilder.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.engine import Engine
    from envbuilder.environment_spec import EnvironmentSpec
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

    engine: Engine | None = None
    """What builds wheels on the base."""

    @classmethod
    def of_base(cls, base: BaseImage, *, engine: Engine | None = None, cuda: str | None = None) -> Place:
        """Return what an image on this base is."""
        target = Target.of_image(base.interpreter, base.platform, cuda=cuda)
        return cls(target=target, python_version=base.interpreter.version, base=base, engine=engine)

    def workshop(self, machine: Machine, *, model: Path | None) -> Workshop:
        """Return where wheels that no index offers are made, for the model in that directory."""
        return Workshop(
            machine=machine,
            target=self.target,
            python_version=self.python_version,
            model=model,
            base=self.base,
            engine=self.engine,
        )

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
    model: Path | None = None,
    allow_source: Iterable[str] = (),
) -> Lock:
    """Find the exact packages for the spec; an earlier answer is kept where `preferences` say so.

    Conda packages are found first, and what they provide is not installed by pip again. Wheels that the requirements
    name by path are files of the directory `model`; packages in `allow_source` are built where nobody offers a wheel.
    Raises LockImpossibleError naming the lines of the model's files that the solver's explanation mentions.
    """
    preferences = preferences or Preferences()
    conda_packages = _conda(spec, place.target, machine, preferences) if spec.needs_conda else ()
    python = next((one.version for one in conda_packages if one.name == "python"), place.python_version)
    workshop = replace(
        place.workshop(machine, model=model),
        python_version=python,
        allowed=frozenset(canonicalize_name(name) for name in allow_source),
        indexes=spec.indexes,
        exclude_newer=preferences.exclude_newer,
    )
    packages = wheel_lock.find(spec, conda_packages, workshop=workshop, preferences=preferences)
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
    from envbuilder import conda  # noqa: PLC0415 - nine in ten models need none of it
    from envbuilder.conda_settings import CondaSettings  # noqa: PLC0415

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


def _channel_places(machine: Machine) -> object:
    from envbuilder.conda_settings import CondaSettings  # noqa: PLC0415 - nine in ten models need none of it

    return CondaSettings.from_environ(dict(machine.settings.conda_environ), settings=machine.settings).places


def lock_once(
    spec: EnvironmentSpec,
    place: Place,
    *,
    machine: Machine,
    tool_version: str,
    model: Path | None = None,
    allow_source: Iterable[str] = (),
) -> tuple[Lock, bool]:
    """Return the lock kept for this spec, place and index, or make and keep it; True when it was kept already."""
    settings = machine.settings
    base = place.base.digest if place.base is not None else None
    asked = [spec.packages_digest, base, asdict(place.target), place.python_version, sorted(allow_source)]
    key = digest.of_json([asked, settings.places, _channel_places(machine) if spec.needs_conda else None])
    path = machine.locks / f"{digest.hex_of(key)}.conda-lock.yml"
    if path.exists():
        try:
            return Lockfile.parse(path.read_text(encoding="utf-8"), file=str(path)).locks[0], True
        except InvalidFileError:
            path.unlink()
    made = lock(spec, place, machine=machine, tool_version=tool_version, model=model, allow_source=allow_source)
    disk.write_file(path, Lockfile.of([made]).to_text().encode())
    return made, False
