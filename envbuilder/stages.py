"""The stages in order: read, resolve, lock, plan, build, try, tag, run. Each can be the last one."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envbuilder import (
    cache_lock,
    disk,
    engine_choice,
    kept_lock,
    locking,
    model_environment,
    publishing,
    sandbox,
    server_kit,
    system_packages,
)
from envbuilder.choices import ENGINE_NAMES, EngineName
from envbuilder.errors import (
    EngineMissingError,
    InvalidFileError,
    ServingFailedError,
    Source,
)
from envbuilder.image_plan import ImagePlan
from envbuilder.image_reference import ImageReference
from envbuilder.lockfile import Lockfile
from envbuilder.locking import Place
from envbuilder.model import Model
from envbuilder.model_files import ModelFiles
from envbuilder.oci_artifact import Artifact
from envbuilder.oci_image import Platform
from envbuilder.publishing import Destination
from envbuilder.reporter import Timings
from envbuilder.target import IMAGE_SUBDIRS, Target
from envbuilder.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.choices import Choices
    from envbuilder.digest import Digest
    from envbuilder.engine import BuiltImage, Engine, Running
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.gpu_needs import GpuNeeds
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine
    from envbuilder.registry.push import Pushed
    from envbuilder.smoke import SmokeReport
    from envbuilder.system_needs import SystemNeeds
    from envbuilder.workshop import Workshop


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build made, and how long each stage took."""

    references: tuple[str, ...]
    engine: str
    image: BuiltImage
    base: str
    lock_digest: str
    packages: int
    system: SystemNeeds
    gpu: GpuNeeds | None
    smoke: SmokeReport | None
    existed: bool
    """True when an image with the same content was there, so nothing was built."""

    pushed: Pushed | None
    sbom: Digest | None = None
    """Of the manifest that attaches the bill of materials to the pushed image; None where it is not attached."""

    seconds: tuple[tuple[str, float], ...]

    @property
    def digest(self) -> Digest:
        """What follows the name: the registry's where the image was pushed, else the engine's."""
        return self.pushed.digest if self.pushed is not None else self.image.digest

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the types of JSON."""
        return {
            "reference": self.references[0],
            "references": list(self.references),
            "digest": self.digest,
            "engine": self.engine,
            "base": self.base,
            "lock_digest": self.lock_digest,
            "packages": self.packages,
            "system_packages": [one.to_dict() for one in self.system.packages],
            "gpu": self.gpu.to_dict() if self.gpu is not None else None,
            "unknown_libraries": [{"name": one.name, "needed_by": list(one.needed_by)} for one in self.system.unknown],
            "size": self.image.size,
            "layers": [
                {"comment": item.comment, "digest": item.digest, "size": item.size, "reused": item.reused}
                for item in self.image.layers
            ],
            "smoke": self.smoke.to_dict() if self.smoke is not None else None,
            "existed": self.existed,
            "pushed": self.pushed.to_dict() if self.pushed is not None else None,
            "sbom": self.sbom,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds},
        }


@cache_lock.used
@disk.readable_by_all()
def make_lock(model: str | Path, choices: Choices, *, machine: Machine) -> Lockfile:
    """Lock the model's environment for each chosen platform: on the chosen or the default base, or on none.

    What the lockfile at `choices.output`, else the workspace's, holds already stays as long as it fits; its platforms
    are those to lock for where none are chosen.
    """
    timings = Timings(machine.reporter)
    read = model_environment.read_model(model, machine=machine)
    with timings.stage("resolve"):
        spec = model_environment.resolve_model(read, choices)
    model_environment.tell_repairs(spec, machine)
    earlier = kept_lock.earlier(lock_output(spec.packages_digest, choices))
    if earlier is not None and not choices.platforms:
        choices = replace(choices, platforms=tuple(lock.subdir for lock in earlier.locks))
    made = []
    for subdir in engine_choice.subdirs_of(choices):
        preferences = kept_lock.preferences(earlier, subdir, update=choices.update, exclude_newer=choices.exclude_newer)
        place = _place(spec, subdir, choices, earlier, machine=machine, timings=timings)
        with timings.stage("lock", subdir) as note:
            lock = locking.lock(
                spec,
                place,
                machine=machine,
                tool_version=__version__,
                preferences=preferences,
                model=read.directory,
                allow_source=choices.may_be_built,
            )
            note.text = _counted(lock)
        made.append(lock)
    return Lockfile.of(made)


def _place(
    spec: EnvironmentSpec,
    subdir: str,
    choices: Choices,
    earlier: Lockfile | None,
    *,
    machine: Machine,
    timings: Timings,
) -> Place:
    platform = next((one for one, known in IMAGE_SUBDIRS.items() if known == subdir), None)
    before = earlier.lock_for(subdir) if earlier is not None else None
    without = choices.no_base or (choices.base is None and before is not None and before.base is None)
    if platform is None or without:
        return Place.without_base(spec, Target(subdir=subdir, cuda=choices.cuda))
    _, engine = engine_choice.choose_engine(choices, machine)
    base = engine_choice.base_image(spec, engine, choices, Platform.parse(platform), machine=machine, timings=timings)
    return Place.of_base(base, engine=engine, cuda=choices.cuda)


def _counted(lock: Lock) -> str:
    conda = f"{len(lock.conda_packages)} conda packages, " if lock.conda_packages else ""
    return f"{conda}{len(lock.packages)} packages"


def lock_output(packages_digest: str, choices: Choices) -> Path | None:
    """Return the file that a lock is for: the one chosen, else the workspace's for what is asked, else none."""
    if choices.output is not None or choices.workspace is None:
        return choices.output
    return kept_lock.workspace_file(choices.workspace.directory, packages_digest)


def make_plan(
    given: str | Path | Model, engine: Engine, choices: Choices, *, machine: Machine, timings: Timings
) -> ImagePlan:
    """Read, resolve, lock and plan."""
    with timings.stage("read"):
        model = given if isinstance(given, Model) else model_environment.read_model(given, machine=machine)
    with timings.stage("resolve"):
        spec = model_environment.resolve_model(model, choices)
    model_environment.tell_repairs(spec, machine)
    _tell_routes(spec, machine)
    platform = engine_choice.platform_of(choices)
    base = engine_choice.base_image(spec, engine, choices, platform, machine=machine, timings=timings)
    place = Place.of_base(base, engine=engine, cuda=choices.cuda)
    with timings.stage("lock") as note:
        workspace = choices.workspace.directory if choices.workspace is not None else None
        found = choices.lock or kept_lock.find(spec, workspace=workspace, model=model.directory)
        if found is not None:
            lock, kept = kept_lock.read(found, spec, base), True
        else:
            lock, kept = locking.lock_once(
                spec,
                place,
                machine=machine,
                tool_version=__version__,
                model=model.directory,
                allow_source=choices.may_be_built,
            )
        note.text = f"{_counted(lock)}{', kept from before' if kept else ''}"
    _have_direct_wheels(lock, spec, place.workshop(machine, model=model.directory))
    activation: tuple[tuple[str, str], ...] = ()
    if lock.conda_packages:
        with timings.stage("activation"):
            from envbuilder import activation as conda_activation  # noqa: PLC0415 - nine in ten models need none of it

            activation = conda_activation.variables(lock, spec, base, engine, machine=machine)
    with timings.stage("system packages") as note:
        system = system_packages.find(lock, spec, base, machine=machine)
        addition = system_packages.addition(system, base, engine, machine=machine)
        note.text = ", ".join(system.names) or "none"
    kit = server_kit.load(base.interpreter.minor, base_reference=base.reference)
    packages = server_kit.packages(kit, interpreter=base.interpreter, platform=base.platform, machine=machine)
    with timings.stage("hash"):
        files = ModelFiles.read(model.directory)
    return ImagePlan(
        base=base,
        lock=lock,
        kit=kit,
        server_packages=packages,
        spec=spec,
        model=model,
        files=files,
        tool_version=__version__,
        activation=activation,
        system=system,
        addition=addition,
        gpu=_gpu_needs(lock, choices, machine),
        templates=choices.templates,
    )


def _gpu_needs(lock: Lock, choices: Choices, machine: Machine) -> GpuNeeds | None:
    """Return what the packages' CUDA asks of the machine that serves, and tell where its driver is too old."""
    found = choices.gpu_table.find(lock.packages)
    warning = found.warning(choices.cuda) if found is not None else None
    if warning is not None:
        machine.reporter.warning(warning)
    return found


def _have_direct_wheels(lock: Lock, spec: EnvironmentSpec, workshop: Workshop) -> None:
    if not all(one.is_of_index for one in lock.packages):
        from envbuilder import direct_wheels  # noqa: PLC0415 - few models have any

        direct_wheels.have(lock, spec.requirements, workshop)


def _tell_routes(spec: EnvironmentSpec, machine: Machine) -> None:
    if spec.routes:
        routes = ", ".join(one.text for one in spec.routes)
        machine.reporter.warning(f"the image serves on :8080; it does not serve {routes}")


@cache_lock.used
@disk.readable_by_all()
def build(
    model: str | Path | Model, choices: Choices, *, machine: Machine, engine: tuple[str, Engine] | None = None
) -> BuildReport:
    """Make the model's image, try it, and only then name it; an `engine` is given with its name, if it is chosen."""
    timings = Timings(machine.reporter)
    if choices.output is not None and choices.output.exists():
        raise InvalidFileError(
            "the output exists already", where=Source(file=str(choices.output)), fix="remove it, or choose another name"
        )
    name, builder = engine or engine_choice.choose_engine(choices, machine)
    engine_choice.check_templates(name, choices)
    destination = Destination.of(choices, name, machine=machine, timings=timings) if choices.push else None
    plan = make_plan(model, builder, choices, machine=machine, timings=timings)
    references = _references(choices.tag, plan)
    found = None if choices.rebuild else builder.find(references[-1], machine=machine)
    published = None
    if destination is not None and not choices.rebuild and (found is not None or choices.output is None):
        published = destination.find(references[-1], plan)
    report: SmokeReport | None = None
    if found is not None:
        image = found
    elif published is not None:
        image = publishing.built(published)
    else:
        choices = _triable(choices, plan, name, machine)
        # The name of the content says that the image was tried.
        references = references if choices.smoke else references[:1]
        image, report = _made(plan, name, builder, choices, machine=machine, timings=timings)
    if found is not None or published is None:
        with timings.stage("tag"):
            builder.tag(image, references, machine=machine)
    if choices.output is not None:
        with timings.stage("write", str(choices.output)):
            _write(builder, name, image, references, choices.output, plan, machine)
    pushed = sbom = None
    if destination is not None:
        with timings.stage("push", destination.reference.name) as note:
            pushed = destination.push(published, lambda: builder.push(image, plan, references, machine=machine))
            note.text = pushed.to_text()
        if published is None:
            with timings.stage("bill of materials"):
                from envbuilder.audit import cyclonedx  # noqa: PLC0415

                sbom = destination.attach(
                    pushed,
                    lambda: _sbom(builder, image, references, plan, machine),
                    media_type=cyclonedx.MEDIA_TYPE,
                    title=cyclonedx.TITLE,
                )
    return BuildReport(
        references=references,
        engine=name,
        image=image,
        base=plan.base.reference,
        lock_digest=plan.lock.digest,
        packages=len(plan.lock.packages) + len(plan.lock.conda_packages),
        system=plan.system,
        gpu=plan.gpu,
        smoke=report,
        existed=found is not None or published is not None,
        pushed=pushed,
        sbom=sbom,
        seconds=tuple(timings.seconds.items()),
    )


def _triable(choices: Choices, plan: ImagePlan, engine: str, machine: Machine) -> Choices:
    """Return the choices without the try where the image cannot run here, and tell that."""
    if not choices.smoke or engine != "oci" or sandbox.runs(plan.base.platform):
        return choices
    machine.reporter.warning(
        f"the image is for `{plan.base.platform}` and cannot be tried here: it gets no name after its content"
    )
    return replace(choices, smoke=False)


def _made(
    plan: ImagePlan, name: str, engine: Engine, choices: Choices, *, machine: Machine, timings: Timings
) -> tuple[BuiltImage, SmokeReport | None]:
    """Build the image, and try it unless that is not wanted."""
    with timings.stage("build", name) as note:
        image = engine.build(plan, machine=machine)
        made = sum(not item.reused for item in image.layers)
        note.text = f"{made} of {len(image.layers)} layers made"
    if not choices.smoke:
        return image, None
    with timings.stage("smoke test") as note:
        report = engine.try_image(image, plan, machine=machine)
        note.text = f"ready after {report.startup_seconds:.1f} s, example {report.example}"
    if report.example == "none":
        machine.reporter.warning(f"started, but not asked to predict: {plan.model.example_reason}")
    return image, report


@cache_lock.used
@disk.readable_by_all()
def render(model: str | Path, choices: Choices, output: Path, *, machine: Machine) -> None:
    """Write the build context, Dockerfile included, to the new directory `output`."""
    from envbuilder import build_context  # noqa: PLC0415 - Jinja is needed only here and by Docker

    timings = Timings(machine.reporter)
    _, engine = engine_choice.choose_engine(choices, machine)
    plan = make_plan(model, engine, choices, machine=machine, timings=timings)
    with timings.stage("render", str(output)):
        build_context.make(plan, variant="buildkit", machine=machine).write(output)


def _references(tag: str | None, plan: ImagePlan) -> tuple[str, ...]:
    """Return the names the image gets: the given one (or one from the model's folder) and the one of its content."""
    chosen = ImageReference.parse_name_tag(tag if tag is not None else name_of(plan.model))
    return tuple(dict.fromkeys((str(chosen), str(chosen.with_tag(plan.content_tag)))))


def name_of(model: Model) -> str:
    """Return the name that an image of the model gets where none is chosen."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in model.name.lower())
    return "-".join(part for part in letters.split("-") if part) or "model"


def _sbom(engine: Engine, image: BuiltImage, references: tuple[str, ...], plan: ImagePlan, machine: Machine) -> bytes:
    """Return the bill of materials of the image; its bytes follow from the image's content and its repository."""
    from envbuilder.audit import audited, cyclonedx  # noqa: PLC0415 - of use where an image leaves the machine
    from envbuilder.audit.bill import Subject  # noqa: PLC0415

    subject = Subject(
        # Not after the model's folder, which is another one on another machine.
        name=ImageReference.parse(references[0]).repository.rpartition("/")[2],
        model_digest=plan.files.digest,
        mlflow_version=plan.model.mlmodel.mlflow_version,
    )
    # The embedded engine adds nothing to the base but these; apt takes what the day offers.
    key = [plan.base.digest, str(plan.base.platform), plan.addition.digest if plan.addition is not None else None]
    is_embedded = plan.base.image is not None
    debian = audited.debian_in(engine, image, machine, key=key if is_embedded else None)
    return cyclonedx.to_bytes(audited.bill_of(plan.lock, subject, debian, machine))


def _write(
    engine: Engine,
    name: str,
    image: BuiltImage,
    references: tuple[str, ...],
    output: Path,
    plan: ImagePlan,
    machine: Machine,
) -> None:
    if output.suffix == ".tar":
        with disk.replaced_file(output) as stream:
            for chunk in engine.archive(image, references, machine=machine):
                stream.write(chunk)
    elif name == "oci":
        from envbuilder.audit import cyclonedx  # noqa: PLC0415

        manifest = machine.store.image(image.digest).descriptor()
        data = _sbom(engine, image, references, plan, machine)
        sbom = Artifact(media_type=cyclonedx.MEDIA_TYPE, data=data, subject=manifest, title=cyclonedx.TITLE)
        machine.store.export(manifest, references, output, attached=(sbom,))
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
    check_free(port)
    reasons = []
    for name in ENGINE_NAMES if engine == "auto" else (engine,):
        candidate = engine_choice.engine_module(name)
        reason = candidate.available(machine)
        found = candidate.find(reference, machine=machine) if reason is None else None
        if found is not None:
            with (
                cache_lock.serving(machine.settings.cache_dir),
                disk.readable_by_all(),
                candidate.running(found, port=port, machine=machine) as container,
            ):
                yield container
            return
        reasons.append(f"`{name}`: {reason or 'has no image of that name'}")
    raise EngineMissingError(
        f"no engine here has the image `{reference}`\n" + "\n".join(f"    {reason}" for reason in reasons),
        fix="build it with `envbuilder build MODEL -t NAME:TAG`",
    )


def check_free(port: int) -> None:
    """Raise ServingFailedError where somebody listens on the port of the loopback address."""
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
