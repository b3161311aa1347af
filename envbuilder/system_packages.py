"""What the image gets from Debian besides its base: what its wheels need, and what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder import conda_environment, system_needs, system_table
from envbuilder.errors import BaseImageError, Problem
from envbuilder.installer import conda_packages, wheel_libraries
from envbuilder.system_needs import SystemNeeds

if TYPE_CHECKING:
    from envbuilder.base_image import BaseImage
    from envbuilder.bases.debian_addition import Addition
    from envbuilder.engine import Engine
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine


def find(lock: Lock, spec: EnvironmentSpec, base: BaseImage, *, machine: Machine) -> SystemNeeds:
    """Return what the locked packages need of the system and the base lacks; tells what cannot be had.

    Reads the locked wheels, which are fetched where nobody read them yet. Raises BaseImageError where packages are
    asked for on a base that has none of Debian's.
    """
    carried = wheel_libraries.read(lock.packages, machine.asking(spec.indexes), architecture=base.platform.architecture)
    needs = system_needs.find(
        carried,
        base.system,
        system_table.load(),
        asked=spec.system_packages,
        present=_of_conda(lock, spec, machine),
    )
    for one in needs.unknown:
        machine.reporter.warning(
            f"{', '.join(one.needed_by)} needs the library `{one.name}`, which neither the packages nor the base have; "
            "`system_packages` of an amendment adds a Debian package that does"
        )
    if not needs.packages or base.system.is_of_debian:
        return needs
    _refuse_asked(needs, base)
    for package in needs.packages:
        machine.reporter.warning(
            f"{', '.join(package.needed_by)} needs {', '.join(package.libraries) or package.name}, which "
            f"`{base.reference}` lacks; only bases of Debian's family get system packages"
        )
    return SystemNeeds(unknown=needs.unknown, driven=needs.driven)


def _refuse_asked(needs: SystemNeeds, base: BaseImage) -> None:
    problems = tuple(
        Problem(
            what=f"the system package `{one.name}` is asked for, and `{base.reference}` has no Debian packages",
            where=one.source,
            fix="choose a base of Debian's family, or one that has what is in the package: `--base NAME`",
        )
        for one in needs.packages
        if one.source is not None
    )
    if problems:
        raise BaseImageError(problems)


def addition(needs: SystemNeeds, base: BaseImage, engine: Engine, *, machine: Machine) -> Addition | None:
    """Return the exact packages where envbuilder puts them on the base itself; None where apt in the build does.

    apt is used where the engine runs it in the build and the base has it.
    """
    if not needs.packages or (base.image is None and base.system.has_apt):
        return None
    from envbuilder.bases import debian_addition, dpkg_state  # noqa: PLC0415 - slow to import, and few models need it

    state = dpkg_state.read(
        base, ask=lambda asked, step: engine.run_in_base(asked, step, machine=machine), machine=machine
    )
    wanted = {one.name: one.source for one in needs.packages}
    return debian_addition.resolve(wanted, base, state, machine=machine)


def _of_conda(lock: Lock, spec: EnvironmentSpec, machine: Machine) -> tuple[str, ...]:
    """Return the libraries at the top of a conda environment's `lib`, where its Python lets the loader look."""
    if not lock.conda_packages:
        return ()
    conda_environment.fetcher(spec, machine)(lock.conda_packages)
    return tuple(name for one in lock.conda_packages for name in conda_packages.facts(one, machine).libraries)
