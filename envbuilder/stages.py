"""The stages in order: read, resolve, lock, plan, build, try, tag, run. Each can be the last one."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

from envbuilder import disk, locking, resolution, server_kit
from envbuilder.bases import BaseReference
from envbuilder.errors import BaseImageError, EngineMissingError, InvalidFileError, ServingFailedError, Source
from envbuilder.image_plan import ImagePlan
from envbuilder.image_reference import ImageReference
from envbuilder.lockfile import SUBDIRS
from envbuilder.model import Model
from envbuilder.oci_image import Platform
from envbuilder.reporter import Timings
from envbuilder.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.engine import BuiltImage, Engine, Running
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.lockfile import Lock
    from envbuilder.machine import Machine
    from envbuilder.smoke import SmokeReport

EngineName = Literal["auto", "docker", "oci"]
ENGINE_NAMES: Final = ("docker", "oci")
"""In the order in which `auto` tries them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose; what is left open is decided here."""

    engine: EngineName = "auto"
    python: str | None = None
    """A Python version that wins over what the model asks for."""

    base: str | None = None
    platform: str | None = None
    lock: Path | None = None
    tag: str | None = None
    output: Path | None = None
    """A layout directory, or an archive when it ends in `.tar`."""

    smoke: bool = True
    rebuild: bool = False
    """Build even where an image with the same content exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build made, and how long each stage took."""

    references: tuple[str, ...]
    engine: str
    image: BuiltImage
    base: str
    lock_digest: str
    packages: int
    smoke: SmokeReport | None
    existed: bool
    """True when an image with the same content was there, so nothing was built."""

    seconds: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the types of JSON."""
        return {
            "reference": self.references[0],
            "references": list(self.references),
            "digest": self.image.digest,
            "engine": self.engine,
            "base": self.base,
            "lock_digest": self.lock_digest,
            "packages": self.packages,
            "size": self.image.size,
            "layers": [
                {"comment": item.comment, "digest": item.digest, "size": item.size, "reused": item.reused}
                for item in self.image.layers
            ],
            "smoke": self.smoke.to_dict() if self.smoke is not None else None,
            "existed": self.existed,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds},
        }


def engine_module(name: str) -> Engine:
    """Return the engine called `name`; they are imported when asked for, since each pulls in a library."""
    if name not in ENGINE_NAMES:
        raise InvalidFileError(
            f"there is no engine `{name}`", where=Source(file="--engine"), fix="use `auto`, `docker` or `oci`"
        )
    engine: Engine = import_module(f"envbuilder.engine.{name}")
    return engine


def choose_engine(name: EngineName, machine: Machine) -> tuple[str, Engine]:
    """Return the engine to use: the named one if it can be used, or the first that answers for `auto`.

    Raises EngineMissingError with the reason of each that cannot be used.
    """
    reasons = []
    for candidate in ENGINE_NAMES if name == "auto" else (name,):
        engine = engine_module(candidate)
        reason = engine.available(machine)
        if reason is None:
            return candidate, engine
        reasons.append(f"`{candidate}`: {reason}")
    raise EngineMissingError(
        "no engine can be used here\n" + "\n".join(f"    {reason}" for reason in reasons),
        fix="start Docker, or allow the sandbox of the embedded engine; `envbuilder doctor` tells more",
    )


def resolve(model: Path, *, python: str | None = None) -> EnvironmentSpec:
    """Read the model and say what environment it asks for; `python` wins over the model's own version."""
    return _resolved(Model.read(model), python)


def _resolved(model: Model, python: str | None) -> EnvironmentSpec:
    spec = resolution.resolve(model)
    return spec if python is None else resolution.with_python(spec, python, source=Source(file="--python"))


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


def platform_of(choices: Choices) -> Platform:
    """Return the platform to build for; raises InvalidFileError for one that envbuilder makes no images for."""
    text = choices.platform or _own_platform()
    if text not in SUBDIRS:
        raise InvalidFileError(
            f"no images are made for `{text}`",
            where=Source(file="--platform"),
            fix="use " + " or ".join(f"`{known}`" for known in SUBDIRS),
        )
    return Platform.parse(text)


def _own_platform() -> str:
    import platform  # noqa: PLC0415 - the module's name is the function's subject elsewhere

    return {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}.get(
        platform.machine(), f"linux/{platform.machine()}"
    )


@disk.readable_by_all()
def make_lock(model: Path, choices: Choices, *, machine: Machine) -> Lock:
    """Lock the model's environment anew, on the chosen or the default base."""
    timings = Timings(machine.reporter)
    with timings.stage("resolve"):
        spec = resolve(model, python=choices.python)
    _, engine = choose_engine(choices.engine, machine)
    base = _base(spec, engine, choices, machine, timings)
    with timings.stage("lock") as note:
        made = locking.lock(spec, base, machine=machine, tool_version=__version__)
        note.text = f"{len(made.packages)} packages"
    return made


def make_plan(
    model_path: Path, engine: Engine, choices: Choices, *, machine: Machine, timings: Timings
) -> tuple[ImagePlan, EnvironmentSpec]:
    """Read, resolve, lock and plan."""
    with timings.stage("read"):
        model = Model.read(model_path)
    with timings.stage("resolve"):
        spec = _resolved(model, choices.python)
    base = _base(spec, engine, choices, machine, timings)
    with timings.stage("lock") as note:
        if choices.lock is not None:
            lock, kept = locking.read(choices.lock, spec, base), True
        else:
            lock, kept = locking.lock_once(spec, base, machine=machine, tool_version=__version__)
        note.text = f"{len(lock.packages)} packages{', kept from before' if kept else ''}"
    kit = server_kit.load(base.interpreter.minor, base_reference=base.reference)
    packages = server_kit.packages(kit, interpreter=base.interpreter, platform=base.platform, machine=machine)
    return (
        ImagePlan(base=base, lock=lock, kit=kit, server_packages=packages, model=model, tool_version=__version__),
        spec,
    )


def _base(spec: EnvironmentSpec, engine: Engine, choices: Choices, machine: Machine, timings: Timings) -> BaseImage:
    reference = BaseReference.parse(choices.base or default_base(spec))
    with timings.stage("base", reference.text) as note:
        base = engine.base_image(reference, platform=platform_of(choices), machine=machine)
        note.text = f"Python {base.interpreter.version}"
    locking.check_python(spec, base, machine)
    return base


@disk.readable_by_all()
def build(model: Path, choices: Choices, *, machine: Machine) -> BuildReport:
    """Make the model's image, try it, and only then name it."""
    timings = Timings(machine.reporter)
    if choices.output is not None and choices.output.exists():
        raise InvalidFileError(
            "the output exists already", where=Source(file=str(choices.output)), fix="remove it, or choose another name"
        )
    name, engine = choose_engine(choices.engine, machine)
    plan, _ = make_plan(model, engine, choices, machine=machine, timings=timings)
    references = _references(choices.tag, model, plan)
    found = None if choices.rebuild else engine.find(references[-1], machine=machine)
    if found is None and not choices.smoke:
        # The name of the content says that the image was tried.
        references = references[:1]
    report: SmokeReport | None = None
    if found is None:
        with timings.stage("build", name) as note:
            image = engine.build(plan, machine=machine)
            made = sum(not item.reused for item in image.layers)
            note.text = f"{made} of {len(image.layers)} layers made"
        if choices.smoke:
            with timings.stage("smoke test") as note:
                report = engine.try_image(image, plan, machine=machine)
                note.text = f"ready after {report.startup_seconds:.1f} s, example {report.example}"
            if report.example == "none":
                machine.reporter.warning(f"started, but not asked to predict: {plan.model.example_reason}")
    else:
        image = found
    with timings.stage("tag"):
        engine.tag(image, references, machine=machine)
    if choices.output is not None:
        with timings.stage("write", str(choices.output)):
            _write(engine, name, image, references, choices.output, machine)
    return BuildReport(
        references=references,
        engine=name,
        image=image,
        base=plan.base.reference,
        lock_digest=plan.lock.digest,
        packages=len(plan.lock.packages),
        smoke=report,
        existed=found is not None,
        seconds=tuple(timings.seconds.items()),
    )


@disk.readable_by_all()
def render(model: Path, choices: Choices, output: Path, *, machine: Machine) -> None:
    """Write the build context, Dockerfile included, to the new directory `output`."""
    from envbuilder import build_context  # noqa: PLC0415 - Jinja is needed only here and by Docker

    timings = Timings(machine.reporter)
    _, engine = choose_engine(choices.engine, machine)
    plan, _ = make_plan(model, engine, choices, machine=machine, timings=timings)
    with timings.stage("render", str(output)):
        build_context.make(plan, variant="buildkit", machine=machine).write(output)


def _references(tag: str | None, model: Path, plan: ImagePlan) -> tuple[str, ...]:
    """Return the names the image gets: the given one (or one from the model's folder) and the one of its content."""
    chosen = ImageReference.parse_name_tag(tag) if tag is not None else _name_of(model)
    return tuple(dict.fromkeys((str(chosen), str(chosen.with_tag(plan.content_tag)))))


def _name_of(model: Path) -> ImageReference:
    folder = model.resolve()
    folder = folder.parent if folder.is_file() else folder
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.name.lower())
    return ImageReference.parse_name_tag("-".join(part for part in letters.split("-") if part) or "model")


def _write(
    engine: Engine, name: str, image: BuiltImage, references: tuple[str, ...], output: Path, machine: Machine
) -> None:
    if output.suffix == ".tar":
        with disk.replaced_file(output) as stream:
            for chunk in engine.archive(image, references, machine=machine):
                stream.write(chunk)
    elif name == "oci":
        machine.store.export(machine.store.image(image.digest).descriptor(), references, output)
    else:
        raise InvalidFileError(
            f"the engine `{name}` writes archives, not layout directories",
            where=Source(file=str(output)),
            fix="choose a name that ends in `.tar`, or `--engine oci`",
        )


@contextmanager
def run(image: str, *, engine: EngineName = "auto", port: int = 8080, machine: Machine) -> Iterator[Running]:
    """Serve a built image on 127.0.0.1:`port` while the block lasts.

    Raises EngineMissingError when no usable engine has an image of that name.
    """
    reference = str(ImageReference.parse(image))
    _check_free(port)
    reasons = []
    for name in ENGINE_NAMES if engine == "auto" else (engine,):
        candidate = engine_module(name)
        reason = candidate.available(machine)
        found = candidate.find(reference, machine=machine) if reason is None else None
        if found is not None:
            with disk.readable_by_all(), candidate.running(found, port=port, machine=machine) as container:
                yield container
            return
        reasons.append(f"`{name}`: {reason or 'has no image of that name'}")
    raise EngineMissingError(
        f"no engine here has the image `{reference}`\n" + "\n".join(f"    {reason}" for reason in reasons),
        fix="build it with `envbuilder build MODEL -t NAME:TAG`",
    )


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as cause:
            raise ServingFailedError(
                f"port {port} of 127.0.0.1 cannot be used ({cause.strerror})",
                where=Source(file="--port"),
                fix="choose another one with `-p`",
            ) from cause
