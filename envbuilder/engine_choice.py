"""Engine, platform and base of an image: those that were chosen, else the workspace's, else a default."""

from __future__ import annotations

import platform
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import locking, server_kit
from envbuilder.bases import BaseReference
from envbuilder.choices import ENGINE_NAMES
from envbuilder.errors import BaseImageError, EngineMissingError, InvalidFileError, Source
from envbuilder.oci_image import Platform
from envbuilder.target import IMAGE_SUBDIRS, SUBDIRS

if TYPE_CHECKING:
    from envbuilder.base_image import BaseImage
    from envbuilder.base_request import BaseRequest
    from envbuilder.choices import Choices
    from envbuilder.engine import Engine
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.machine import Machine
    from envbuilder.reporter import Timings


def engine_module(name: str) -> Engine:
    """Return the engine called `name`; they are imported when asked for, since each pulls in a library."""
    if name not in ENGINE_NAMES:
        raise InvalidFileError(
            f"there is no engine `{name}`", where=Source(file="--engine"), fix="use `auto`, `docker`, `podman` or `oci`"
        )
    engine: Engine = import_module(f"envbuilder.engine.{name}")
    return engine


def choose_engine(choices: Choices, machine: Machine) -> tuple[str, Engine]:
    """Return the engine to use: the chosen one if it can be used, or the first that answers for `auto`.

    Raises EngineMissingError with the reason of each that cannot be used.
    """
    reasons = []
    stated = choices.defaults.engine
    name = choices.engine or (stated.value if stated is not None else "auto")
    for candidate in ENGINE_NAMES if name == "auto" else (name,):
        engine = engine_module(candidate)
        reason = engine.available(machine)
        if reason is None:
            return candidate, engine
        reasons.append(f"`{candidate}`: {reason}")
    raise EngineMissingError(
        "no engine can be used here\n" + "\n".join(f"    {reason}" for reason in reasons),
        fix="start Docker or Podman, or allow the sandbox of the embedded engine; `envbuilder doctor` tells more",
    )


def check_templates(name: str, choices: Choices) -> None:
    """Raise EngineMissingError where the workspace has templates of a Dockerfile that the engine does not write."""
    templates = choices.templates
    if name == "oci" and templates.texts:
        raise EngineMissingError(
            f"the workspace changes the Dockerfile ({', '.join(templates.names)}), and the embedded engine writes none",
            where=Source(file=templates.folder),
            fix="start Docker or Podman and pass `--engine docker` or `--engine podman`, or move the templates away",
        )


def platform_of(choices: Choices) -> Platform:
    """Return the platform to build for; raises InvalidFileError for one that envbuilder makes no images for."""
    text = choices.platform or _default_platform(choices)
    spelled = next((one for one, subdir in IMAGE_SUBDIRS.items() if text in (one, subdir)), None)
    if spelled is None:
        raise InvalidFileError(
            f"no images are made for `{text}`",
            where=Source(file="--platform"),
            fix="use " + " or ".join(f"`{known}`" for known in IMAGE_SUBDIRS),
        )
    return Platform.parse(spelled)


def subdirs_of(choices: Choices) -> tuple[str, ...]:
    """Return the subdirs to lock for, in whatever spelling they were chosen; raises InvalidFileError."""
    found = []
    for text in choices.platforms or (_default_platform(choices),):
        subdir = IMAGE_SUBDIRS.get(text, text)
        if subdir not in SUBDIRS:
            raise InvalidFileError(
                f"nothing is locked for `{text}`",
                where=Source(file="--platform"),
                fix="use " + ", ".join(f"`{known}`" for known in (*IMAGE_SUBDIRS, *SUBDIRS)),
            )
        found.append(subdir)
    return tuple(dict.fromkeys(found))


def _default_platform(choices: Choices) -> str:
    stated = choices.defaults.platform
    machines = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}
    return stated.value if stated is not None else machines.get(platform.machine(), f"linux/{platform.machine()}")


def default_base(spec: EnvironmentSpec) -> str:
    """Return the base for the Python that is asked for: the official slim image.

    Raises BaseImageError when the server runs on no Python that is allowed.
    """
    asked = spec.python.value
    allowed = [minor for minor in server_kit.minors() if asked.allows_minor(minor)]
    if not allowed:
        known = server_kit.minors()
        raise BaseImageError(
            f"no base image provides Python {asked.text}: envbuilder serves Python {known[0]} to {known[-1]}",
            where=spec.python.source,
            fix=f"ask for python>={known[0]} there",
        )
    return f"python:{asked.exact or allowed[-1]}-slim"


def base_image(
    spec: EnvironmentSpec, engine: Engine, choices: Choices, platform: Platform, *, machine: Machine, timings: Timings
) -> BaseImage:
    """Have the base here, and check the Python that it provides."""
    stated = spec.base or choices.defaults.base_for(spec.python.value)
    named = choices.base or (stated.image if stated is not None else None)
    with timings.stage("base", named or (stated.text if stated is not None else default_base(spec))) as note:
        if named is not None:
            base = engine.base_image(BaseReference.parse(named), platform=platform, machine=machine)
        elif stated is not None:
            base = engine.build_base(stated, _context(stated), platform=platform, machine=machine)
        else:
            base = _default_base(spec, engine, platform, machine)
        note.text = f"Python {base.interpreter.version}"
    locking.check_python(spec, base, machine)
    return base


def _default_base(spec: EnvironmentSpec, engine: Engine, platform: Platform, machine: Machine) -> BaseImage:
    """Return the slim image of the exact Python that is asked for; where there is none, of its minor version."""
    name = default_base(spec)
    try:
        return engine.base_image(BaseReference.parse(name), platform=platform, machine=machine)
    except BaseImageError as cause:
        exact = spec.python.value.exact
        if exact is None or not cause.is_absent:
            raise
        other = f"python:{'.'.join(exact.split('.')[:2])}-slim"
        machine.reporter.warning(f"the registry has no `{name}`, so the base is `{other}`")
        return engine.base_image(BaseReference.parse(other), platform=platform, machine=machine)


def _context(stated: BaseRequest) -> Path:
    """Return the directory of a build context, which the environment names from where it is itself."""
    context = stated.context or ""
    if "://" in context:
        raise BaseImageError(
            f"the base is to be built from `{context}`; contexts are built from a directory only",
            where=stated.source,
            fix="fetch it into the workspace, and give its directory as `path`",
        )
    return Path(stated.source.file).parent / context
