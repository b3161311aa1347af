"""The Docker engine: builds a rendered Dockerfile with BuildKit where a client can, else with the classic builder."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from docker.errors import ImageNotFound

from envbuilder import build_context, smoke
from envbuilder.build_context import BuildContext
from envbuilder.engine import Running
from envbuilder.engine.docker import base as docker_base
from envbuilder.engine.docker import buildkit, context_base
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import container as docker_container
from envbuilder.engine.docker import environment as docker_environment
from envbuilder.engine.docker import files as docker_files
from envbuilder.engine.docker import index as docker_index
from envbuilder.engine.docker import layers as docker_layers
from envbuilder.engine.docker import log as docker_log
from envbuilder.engine.docker import push as docker_push
from envbuilder.engine.docker import step as docker_step
from envbuilder.errors import EngineMissingError
from envbuilder.image_plan import PORT
from envbuilder.image_reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.base_request import BaseRequest
    from envbuilder.bases import BaseReference
    from envbuilder.build_context import Variant
    from envbuilder.build_step import Step, StepEnded
    from envbuilder.engine import BuiltImage, Mount
    from envbuilder.file_state import FileState
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform
    from envbuilder.process import Finished
    from envbuilder.registry.push import Pushed
    from envbuilder.smoke import SmokeReport

_PING_SECONDS: Final = 5
_QUESTION_SECONDS: Final = 60
_CHUNK: Final = 1 << 20


def available(machine: Machine) -> str | None:
    """Return None when the engine answers, else the reason why it cannot be used."""
    try:
        with docker_client.opened(machine, timeout=_PING_SECONDS) as client:
            client.ping()
    except EngineMissingError as missing:
        return missing.problems[0].what
    return None


def base_image(reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
    """Have the base in the engine, pulled or loaded, and know the Python it provides."""
    with docker_client.opened(machine) as client:
        return docker_base.have(reference, platform=platform, client=client, machine=machine)


def build_base(request: BaseRequest, directory: Path, *, platform: Platform, machine: Machine) -> BaseImage:
    """Build a base from a context, and know the Python it provides."""
    with docker_client.opened(machine, timeout=None) as client:
        return context_base.have(request, directory, platform=platform, client=client, machine=machine)


def run_in_base(base: BaseImage, step: Step, *, machine: Machine) -> StepEnded:
    """Run a program in a container of the base; its files go in and out through the engine."""
    with docker_client.opened(machine) as client:
        return docker_step.run(client, base, step, machine=machine)


def build(plan: ImagePlan, *, machine: Machine) -> BuiltImage:
    """Make the image, without a tag."""
    begin = time.time()
    machine = machine.asking(plan.spec.indexes)
    with docker_client.opened(machine, timeout=None) as client, docker_log.kept(machine, plan.content_tag) as log:
        program = buildkit.find(client, machine)
        variant: Variant = "classic" if program is None else "buildkit"

        def make(context: BuildContext, *, apt: str = "") -> str:
            if program is None:
                return docker_classic.build(client, context, apt=apt, log=log, machine=machine)
            return buildkit.build(program, client, context, apt=apt, log=log, machine=machine)

        apt = docker_index.apt_list(plan, machine.settings)
        if plan.templates.texts:
            # What others wrote need not come apart where the model begins.
            identity = make(build_context.make(plan, variant=variant, machine=machine), apt=apt)
        else:
            if docker_environment.find(plan, client) is None:
                context = build_context.make(plan, variant=variant, part="environment", machine=machine)
                docker_environment.keep(make(context, apt=apt), plan, client)
            identity = make(BuildContext.of_model(plan, environment=docker_environment.name(plan), variant=variant))
        return docker_layers.built(client.images.get(identity), since=begin)


def try_image(image: BuiltImage, plan: ImagePlan, *, machine: Machine) -> SmokeReport:
    """Run the image's own smoke test in a container: no network, read-only root, no capabilities."""
    model = str(plan.model.directory)
    with docker_client.opened(machine) as client:
        ended = docker_container.run(client, image.identity, command=smoke.COMMAND, timeout=smoke.TIMEOUT)
    if ended is None:
        return smoke.read(b"", (f"no answer within {smoke.TIMEOUT} s",), model=model)
    for line in ended.log:
        machine.reporter.line("smoke", line)
    return smoke.read(ended.stdout, ended.log, model=model)


def tag(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> None:
    """Name the image in the engine."""
    names = [ImageReference.parse_name_tag(reference) for reference in references]
    with docker_client.opened(machine) as client:
        held = client.images.get(image.identity)
        for name in names:
            held.tag(name.name, tag=name.tag)


def push(image: BuiltImage, plan: ImagePlan, references: tuple[str, ...], *, machine: Machine) -> Pushed:
    """Let the engine push the image, and the environment's own that it is built from."""
    names = [ImageReference.parse_name_tag(reference) for reference in references]
    names.append(names[0].with_tag(plan.environment_tag))
    with docker_client.opened(machine, timeout=None) as client:
        environment = docker_environment.find(plan, client)
        if environment is None:
            names.pop()
        else:
            environment.tag(names[-1].name, tag=names[-1].tag)
        steps = [docker_push.push(name, client=client, machine=machine) for name in reversed(names)]
    return replace(
        steps[-1],
        references=references[::-1],
        uploaded=sum(step.uploaded for step in steps),
        mounted=sum(step.mounted for step in steps),
        present=len(image.layers) - sum(step.uploaded + step.mounted for step in steps),
        size=sum(step.size for step in steps),
        is_counted=all(step.is_counted for step in steps),
    )


def find(reference: str, *, machine: Machine) -> BuiltImage | None:
    """Return the image with this name, if the engine has it."""
    with docker_client.opened(machine) as client:
        try:
            return docker_layers.built(client.images.get(reference), since=None)
        except ImageNotFound:
            return None


def run(image: BuiltImage, command: tuple[str, ...], *, timeout: float, machine: Machine) -> bytes:
    """Run a program of the image in a container; return what it printed, nothing where it took too long."""
    with docker_client.opened(machine) as client:
        program, arguments = command[:1], command[1:]
        ended = docker_container.run(client, image.identity, command=arguments, entrypoint=program, timeout=timeout)
    return ended.stdout if ended is not None else b""


def read(image: BuiltImage, path: str, *, machine: Machine) -> bytes | None:
    """Return a file of the image, out of a container that is never started."""
    with docker_client.opened(machine) as client:
        return docker_files.read(client, image.identity, path)


def files(image: BuiltImage, path: str, *, machine: Machine) -> dict[str, FileState]:
    """Return the files below a directory of the image, out of a container that is never started."""
    with docker_client.opened(machine, timeout=None) as client:
        return docker_files.below(client, image.identity, path)


def archive(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> Iterable[bytes]:
    """Give the bytes of an archive that `docker load` reads; the names are given to the image first."""
    tag(image, references, machine=machine)
    return _saved(references or (image.identity,), machine)


def predict(
    image: BuiltImage,
    arguments: tuple[str, ...],
    mounts: tuple[Mount, ...],
    *,
    on_output: Callable[[str], None],
    machine: Machine,
) -> Finished:
    """Run the image's `predict` over mounted files as the user of this process, in a container without a network."""
    with docker_client.opened(machine, timeout=None) as client:
        return docker_container.predicting(
            client,
            image.identity,
            command=("predict", *arguments),
            mounts=mounts,
            on_output=on_output,
            on_line=lambda line: machine.reporter.line("predict", line),
        )


@contextmanager
def running(image: BuiltImage, *, port: int, machine: Machine) -> Iterator[Running]:
    """Serve on 127.0.0.1:`port` from a container with a read-only root and no capabilities."""
    with (
        docker_client.opened(machine, timeout=None) as client,
        docker_container.serving(
            client,
            image.identity,
            inside=PORT,
            port=port,
            on_line=lambda line: machine.reporter.line("run", line),
        ) as wait,
    ):
        yield Running(url=f"http://127.0.0.1:{port}", wait=wait)


def _saved(references: tuple[str, ...], machine: Machine) -> Iterator[bytes]:
    with docker_client.opened(machine) as client:
        api = client.api
        # The SDK's own method takes a single name.
        url = f"{api.base_url}/v{api.api_version}/images/get"
        with api.get(url, params={"names": list(references)}, stream=True) as response:
            response.raise_for_status()
            yield from response.iter_content(_CHUNK)


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
