"""The Podman engine: its service speaks Docker's API, so it is Docker's engine at another address.

Builds are those of the classic builder: Buildah, which is inside the service, takes no secrets over this API.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder.engine import docker
from envbuilder.engine.docker import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from envbuilder.base_image import BaseImage
    from envbuilder.base_request import BaseRequest
    from envbuilder.bases import BaseReference
    from envbuilder.build_step import Step, StepEnded
    from envbuilder.engine import BuiltImage, Mount, Running
    from envbuilder.file_state import FileState
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform
    from envbuilder.process import Finished
    from envbuilder.registry.push import Pushed
    from envbuilder.smoke import SmokeReport


def available(machine: Machine) -> str | None:
    """Return None when the service answers, else the reason why it cannot be used."""
    return docker.available(_there(machine))


def base_image(reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
    """Have the base in the engine, pulled or loaded, and know the Python it provides."""
    return docker.base_image(reference, platform=platform, machine=_there(machine))


def build_base(request: BaseRequest, directory: Path, *, platform: Platform, machine: Machine) -> BaseImage:
    """Build a base from a context, and know the Python it provides."""
    return docker.build_base(request, directory, platform=platform, machine=_there(machine))


def run_in_base(base: BaseImage, step: Step, *, machine: Machine) -> StepEnded:
    """Run a program in a container of the base; its files go in and out through the engine."""
    return docker.run_in_base(base, step, machine=_there(machine))


def build(plan: ImagePlan, *, machine: Machine) -> BuiltImage:
    """Make the image, without a tag."""
    return docker.build(plan, machine=_there(machine))


def try_image(image: BuiltImage, plan: ImagePlan, *, machine: Machine) -> SmokeReport:
    """Run the image's own smoke test in a container: no network, read-only root, no capabilities."""
    return docker.try_image(image, plan, machine=_there(machine))


def tag(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> None:
    """Name the image in the engine."""
    docker.tag(image, references, machine=_there(machine))


def push(image: BuiltImage, plan: ImagePlan, references: tuple[str, ...], *, machine: Machine) -> Pushed:
    """Let the engine push the image, and the environment's own that it is built from."""
    return docker.push(image, plan, references, machine=_there(machine))


def find(reference: str, *, machine: Machine) -> BuiltImage | None:
    """Return the image with this name, if the engine has it."""
    return docker.find(reference, machine=_there(machine))


def run(image: BuiltImage, command: tuple[str, ...], *, timeout: float, machine: Machine) -> bytes:
    """Run a program of the image in a container; return what it printed, nothing where it took too long."""
    return docker.run(image, command, timeout=timeout, machine=_there(machine))


def read(image: BuiltImage, path: str, *, machine: Machine) -> bytes | None:
    """Return a file of the image, out of a container that is never started."""
    return docker.read(image, path, machine=_there(machine))


def files(image: BuiltImage, path: str, *, machine: Machine) -> dict[str, FileState]:
    """Return the files below a directory of the image, out of a container that is never started."""
    return docker.files(image, path, machine=_there(machine))


def archive(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> Iterable[bytes]:
    """Give the bytes of an archive that `podman load` reads; the names are given to the image first."""
    return docker.archive(image, references, machine=_there(machine))


def predict(
    image: BuiltImage,
    arguments: tuple[str, ...],
    mounts: tuple[Mount, ...],
    *,
    on_output: Callable[[str], None],
    machine: Machine,
) -> Finished:
    """Run the image's `predict` over mounted files as the user of this process."""
    return docker.predict(image, arguments, mounts, on_output=on_output, machine=_there(machine))


@contextmanager
def running(image: BuiltImage, *, port: int, machine: Machine) -> Iterator[Running]:
    """Serve on 127.0.0.1:`port` from a container with a read-only root and no capabilities."""
    with docker.running(image, port=port, machine=_there(machine)) as serving:
        yield serving


def _there(machine: Machine) -> Machine:
    """Return the machine with Podman's service in Docker's place: the first that listens, else the last that may."""
    environ = dict(machine.settings.environ)
    hosts = service.podman_hosts(environ)
    environ["DOCKER_HOST"] = next((host for host in hosts if _may_listen(host)), hosts[-1])
    # A connection of Docker's with certificates, or a context, is no way to Podman.
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"):
        environ.pop(name, None)
    return replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))


def _may_listen(host: str) -> bool:
    return not host.startswith("unix://") or Path(host.removeprefix("unix://")).is_socket()


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
