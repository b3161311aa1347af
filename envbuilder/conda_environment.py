"""The conda packages of a lock on this machine: fetched with what the spec and the settings know of their channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder import conda
from envbuilder.base_image import Interpreter
from envbuilder.conda_settings import CondaSettings
from envbuilder.errors import Source
from envbuilder.image_plan import ENVIRONMENT_PREFIX
from envbuilder.installer import conda_packages
from envbuilder.pip_line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.base_image import BaseImage
    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine


def fetcher(spec: EnvironmentSpec, machine: Machine) -> Callable[[Iterable[CondaPackage]], None]:
    """Return what fetches conda packages with the credentials and mirrors of the spec's channels."""
    settings = CondaSettings.from_environ(dict(machine.settings.conda_environ), settings=machine.settings)
    access = conda.access((*spec.tool_match_specs, *spec.match_specs), spec.channels, settings)
    return lambda packages: conda_packages.fetch(packages, access=access, machine=machine)


def fetcher_for(lock: Lock, machine: Machine) -> Callable[[Iterable[CondaPackage]], None]:
    """Return what fetches a lock's conda packages where nothing else is known of their channels than the settings."""
    if not lock.conda_packages:
        return lambda _packages: None
    settings = CondaSettings.from_environ(dict(machine.settings.conda_environ), settings=machine.settings)
    channels = [Line.of(url, source=Source(file="the lock", key="metadata.channels")) for url in lock.channels]
    access = conda.access((), channels, settings)
    return lambda packages: conda_packages.fetch(packages, access=access, machine=machine)


def interpreter(lock: Lock, base: BaseImage) -> Interpreter:
    """Return the environment's own Python, which runs on the base's C library."""
    return Interpreter(
        version=lock.python_version, executable=f"{ENVIRONMENT_PREFIX}/bin/python", glibc=base.interpreter.glibc
    )
