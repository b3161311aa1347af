"""The embedded engine: no daemon, no root; images are assembled from the lock, tried and run in a sandbox."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from envbuilder import bases, disk, docker_archive, process, sandbox, smoke, snapshot
from envbuilder.base_image import BaseImage
from envbuilder.bases import BaseReference
from envbuilder.engine import BuiltImage, BuiltLayer, Running, assembly, layer_files, probe, sandbox_step, still_probe
from envbuilder.errors import BaseImageError, BuildFailedError, Source
from envbuilder.image_plan import MODEL_DIRECTORY
from envbuilder.image_reference import ImageReference
from envbuilder.oci_image import Descriptor, Image, Layer
from envbuilder.registry import push as registry_push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from envbuilder.base_request import BaseRequest
    from envbuilder.build_step import Step, StepEnded
    from envbuilder.engine import Mount
    from envbuilder.file_state import FileState
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform
    from envbuilder.registry.push import Pushed
    from envbuilder.smoke import SmokeReport


def available(machine: Machine) -> str | None:
    """Return None when this machine lets us make sandboxes, which trying and running an image needs."""
    del machine
    return sandbox.is_allowed()


def base_image(reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
    """Bring the base into the store and ask its Python what it is, once per digest."""
    found, image = bases.fetch(reference, platform=platform, machine=machine)
    provided = _probe(reference.text, image, machine)
    return BaseImage(
        reference=reference.text,
        pinned=reference.name_in_engine(found) if reference.is_assembled else f"{reference.text}@{found}",
        digest=found,
        platform=image.platform,
        interpreter=provided.interpreter,
        system=provided.system,
        environ=image.config.env,
        labels=image.config.labels,
        image=image,
    )


def build_base(request: BaseRequest, directory: Path, *, platform: Platform, machine: Machine) -> BaseImage:
    """Refuse: a Dockerfile is for an engine that runs its commands."""
    del directory, platform, machine
    raise BaseImageError(
        f"the base is to be built from `{request.context}`; the embedded engine builds no Dockerfile",
        where=request.source,
        fix="start Docker and pass `--engine docker`; or build it yourself, and name it by `image` or `--base NAME`",
    )


def run_in_base(base: BaseImage, step: Step, *, machine: Machine) -> StepEnded:
    """Run a program over the unpacked base in a sandbox."""
    if not sandbox.runs(base.platform):
        raise BaseImageError(
            f"`{base.reference}` is for `{base.platform}`, and something has to run in it that does not run here",
            where=Source(file="--platform"),
            fix="leave out what is built from source or needs system packages, or build on a machine of that platform",
        )
    root = snapshot.of_chain(_layers_of(base).layers, store=machine.store, snapshots=machine.snapshots)
    return sandbox_step.run(root, step, machine=machine)


def _layers_of(base: BaseImage) -> Image:
    if base.image is None:
        raise BaseImageError(f"`{base.reference}` is held by another engine", fix="choose that engine")
    return base.image


def build(plan: ImagePlan, *, machine: Machine) -> BuiltImage:
    """Make the layers that are not in the store yet, then the manifest."""
    base = _layers_of(plan.base)
    # A layer with a comment is one of ours.
    made: list[tuple[Layer, bool]] = [(replace(item, comment=""), True) for item in base.layers]
    compiler = _compiler(plan.base, machine)
    made += assembly.layers(plan, base, compiler=compiler, machine=machine.asking(plan.spec.indexes))
    image = Image(platform=base.platform, config=plan.config, layers=tuple(item for item, _ in made))
    descriptor = machine.store.add_image(image)
    return _built(descriptor, image, reused=tuple(reused for _, reused in made))


def _compiler(base: BaseImage, machine: Machine) -> Image | None:
    """Return an image of this machine's platform with the very Python of the base: bytecode is the same on all.

    None where there is none, and that is told.
    """
    if sandbox.runs(base.platform):
        return _layers_of(base)
    reference = BaseReference.parse(base.reference)
    twin: BaseImage | None = None
    with suppress(BaseImageError):
        twin = base_image(reference, platform=sandbox.own_platform(), machine=machine)
    asked = base.interpreter
    if twin is not None and (twin.interpreter.version, twin.interpreter.executable) == (
        asked.version,
        asked.executable,
    ):
        return twin.image
    machine.reporter.warning(
        f"no Python {asked.version} of `{base.reference}` runs on this machine: the packages come without bytecode, "
        "and are compiled at each start"
    )
    return None


def try_image(image: BuiltImage, plan: ImagePlan, *, machine: Machine) -> SmokeReport:
    """Run the image's own smoke test in a sandbox: no network, read-only root, no capabilities."""
    value = machine.store.image(image.digest)
    box = _sandbox(value, machine, command=smoke.COMMAND)
    try:
        finished = sandbox.run(box, timeout=smoke.TIMEOUT, on_line=lambda line: machine.reporter.line("smoke", line))
    except TimeoutError:
        return smoke.read(b"", (f"no answer within {smoke.TIMEOUT} s",), model=str(plan.model.directory))
    return smoke.read(finished.stdout, finished.tail, model=str(plan.model.directory))


def tag(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> None:
    """Name the image in the store's index."""
    value = machine.store.image(image.digest)
    machine.store.tag(value.descriptor(), *references)


def push(image: BuiltImage, plan: ImagePlan, references: tuple[str, ...], *, machine: Machine) -> Pushed:
    """Bring the image to the registry, and its environment as an image that others can be built from."""
    value = machine.store.image(image.digest)
    environment = replace(
        value, config=plan.environment_config, layers=tuple(item for item in value.layers if item.comment != "model")
    )
    machine.store.add_image(environment)
    names = [ImageReference.parse_name_tag(reference) for reference in reversed(references)]
    return registry_push.push(
        ((environment, (names[0].with_tag(plan.environment_tag),)), (value, tuple(names))),
        store=machine.store,
        settings=machine.settings,
        reporter=machine.reporter,
    )


def find(reference: str, *, machine: Machine) -> BuiltImage | None:
    """Return the image with this name, if it is in the store with all its layers."""
    descriptor = machine.store.references().get(reference)
    if descriptor is None or not machine.store.has(descriptor.digest):
        return None
    try:
        image = machine.store.image(descriptor.digest)
    except BuildFailedError:
        # What is damaged is made again.
        return None
    if not all(machine.store.holds(item.blob) for item in image.layers):
        return None
    return _built(descriptor, image, reused=(True,) * len(image.layers))


def run(image: BuiltImage, command: tuple[str, ...], *, timeout: float, machine: Machine) -> bytes:
    """Run a program of the image in a sandbox; return what it printed, nothing where it took too long."""
    value = machine.store.image(image.digest)
    # What is unpacked already may be a tree that a layer was made from, and not the layer.
    with disk.temporary_directory(machine.snapshots) as work:
        root = snapshot.of_chain(value.layers, store=machine.store, snapshots=work)
        box = sandbox.Sandbox(lower=(root,), command=command, environ=value.config.env)
        try:
            return sandbox.run(box, timeout=timeout).stdout
        except TimeoutError:
            return b""


def read(image: BuiltImage, path: str, *, machine: Machine) -> bytes | None:
    """Return a file of the image."""
    return layer_files.read(machine.store.image(image.digest), path, machine.store)


def files(image: BuiltImage, path: str, *, machine: Machine) -> dict[str, FileState]:
    """Return the files below a directory of the image, from the blobs and not from what was unpacked."""
    return layer_files.below(machine.store.image(image.digest), path, machine.store)


def archive(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> Iterable[bytes]:
    """Give the bytes of an archive that `docker load` reads."""
    return docker_archive.stream(machine.store.image(image.digest), references, machine.store)


def predict(
    image: BuiltImage,
    arguments: tuple[str, ...],
    mounts: tuple[Mount, ...],
    *,
    on_output: Callable[[str], None],
    machine: Machine,
) -> process.Finished:
    """Run the image's `predict` over mounted files as the user of this process, in a sandbox without a network."""
    value = machine.store.image(image.digest)
    box = replace(
        _sandbox(value, machine, command=("predict", *arguments)),
        binds=tuple(sandbox.Bind(source=one.source, target=one.target, writable=one.writable) for one in mounts),
        # Without a right, but the owner of what this process may write.
        root=os.geteuid() == 0,
    )
    return sandbox.run(box, on_line=lambda line: machine.reporter.line("predict", line), on_output=on_output)


@contextmanager
def running(image: BuiltImage, *, port: int, machine: Machine) -> Iterator[Running]:
    """Serve on 127.0.0.1:`port` from a sandbox that shares this machine's network."""
    value = machine.store.image(image.digest)
    box = _sandbox(value, machine, command=("serve", "--host", "127.0.0.1", "--port", str(port)), network=True)
    with (
        sandbox.command_of(box) as command,
        process.started(command, environ={}, on_line=lambda line: machine.reporter.line("run", line)) as child,
    ):
        yield Running(url=f"http://127.0.0.1:{port}", wait=child.wait)


def _sandbox(image: Image, machine: Machine, *, command: tuple[str, ...], network: bool = False) -> sandbox.Sandbox:
    config = image.config
    environ = dict(config.env)
    return sandbox.Sandbox(
        lower=_unpacked(image, machine),
        command=(*config.entrypoint, *command),
        environ=tuple(environ.items()),
        network="host" if network else "none",
        cwd=config.working_dir or MODEL_DIRECTORY,
    )


def _unpacked(image: Image, machine: Machine) -> tuple[Path, ...]:
    """Return the image's directories: one for the base, one for each layer that envbuilder made."""
    ours = [item for item in image.layers if item.comment]
    base = [item for item in image.layers if not item.comment]
    chain = snapshot.of_chain(base, store=machine.store, snapshots=machine.snapshots)
    return (
        chain,
        *(snapshot.of_layer(item, store=machine.store, snapshots=machine.snapshots) for item in ours),
    )


def _probe(reference: str, image: Image, machine: Machine) -> probe.Found:
    def ask() -> bytes:
        root = snapshot.of_chain(image.layers, store=machine.store, snapshots=machine.snapshots)
        python = _python(reference, image, root)
        if not sandbox.runs(image.platform):
            return still_probe.read(root, python, environ=dict(image.config.env), reference=reference)
        box = sandbox.Sandbox(
            lower=(root,),
            command=(python, *probe.ARGUMENTS),
            environ=image.config.env,
        )
        finished = sandbox.run(box, timeout=60)
        if not finished.ok:
            raise probe.does_not_run(reference, finished.tail)
        return finished.stdout

    diff_ids = [item.diff_id for item in image.layers]
    return probe.find(reference, diff_ids=diff_ids, environ=image.config.env, ask=ask, machine=machine)


def _python(reference: str, image: Image, root: Path) -> str:
    """Return the first `python3` on the image's PATH."""
    for folder in dict(image.config.env).get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        candidate = f"{folder.rstrip('/')}/python3"
        if os.path.lexists(root / candidate.lstrip("/")):
            return candidate
    raise probe.no_python(reference)


def _built(descriptor: Descriptor, image: Image, *, reused: tuple[bool, ...]) -> BuiltImage:
    return BuiltImage(
        identity=descriptor.digest,
        digest=descriptor.digest,
        labels=image.config.labels,
        layers=tuple(
            BuiltLayer(comment=item.comment or "base", digest=item.blob.digest, size=item.blob.size, reused=known)
            for item, known in zip(image.layers, reused, strict=True)
        ),
    )


__all__ = [
    "archive",
    "available",
    "base_image",
    "build",
    "build_base",
    "files",
    "find",
    "predict",
    "push",
    "read",
    "run",
    "run_in_base",
    "running",
    "tag",
    "try_image",
]
