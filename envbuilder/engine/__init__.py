"""Engines make images: one small protocol, implemented by modules and listed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.base_request import BaseRequest
    from envbuilder.bases import BaseReference
    from envbuilder.build_step import Step, StepEnded
    from envbuilder.digest import Digest
    from envbuilder.file_state import FileState
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform
    from envbuilder.process import Finished
    from envbuilder.registry.push import Pushed
    from envbuilder.smoke import SmokeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """A layer of a built image as people are shown it."""

    comment: str
    digest: Digest
    size: int
    """Bytes as stored: compressed where the engine compresses."""

    reused: bool
    """True when nothing had to be made for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that an engine holds."""

    identity: str
    """What the engine knows it by: a manifest digest, or an image id."""

    digest: Digest
    layers: tuple[BuiltLayer, ...]
    """From the base up."""

    labels: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container that serves."""

    url: str
    wait: Callable[[], int]
    """Waits until it ends by itself and returns its exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or directory of this machine that a container sees."""

    source: Path
    target: str
    """Absolute path in the container."""

    writable: bool = False


class Engine(Protocol):
    """What the stages need of an engine; modules satisfy it."""

    def available(self, machine: Machine) -> str | None:
        """Return None when the engine answers, else the reason why it cannot be used."""

    def base_image(self, reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
        """Have the base here, and know the Python it provides."""

    def build_base(self, request: BaseRequest, directory: Path, *, platform: Platform, machine: Machine) -> BaseImage:
        """Build a base from the context in `directory`, and know its Python; raises BuildFailedError."""

    def run_in_base(self, base: BaseImage, step: Step, *, machine: Machine) -> StepEnded:
        """Run a program in the base with no network, no rights and a read-only root."""

    def build(self, plan: ImagePlan, *, machine: Machine) -> BuiltImage:
        """Make the image, without a tag; raises BuildFailedError."""

    def try_image(self, image: BuiltImage, plan: ImagePlan, *, machine: Machine) -> SmokeReport:
        """Run the image with no network, a read-only root and no rights; raises SmokeTestFailedError."""

    def tag(self, image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> None:
        """Give the image these names, taking them from the image that had them."""

    def push(self, image: BuiltImage, plan: ImagePlan, references: tuple[str, ...], *, machine: Machine) -> Pushed:
        """Bring the image and its environment's own to the registry, and give it these names there, the first last."""

    def find(self, reference: str, *, machine: Machine) -> BuiltImage | None:
        """Return the image with this name, if the engine has it."""

    def run(self, image: BuiltImage, command: tuple[str, ...], *, timeout: float, machine: Machine) -> bytes:
        """Run a program of the image with no network, a read-only root and no rights; return what it printed."""

    def read(self, image: BuiltImage, path: str, *, machine: Machine) -> bytes | None:
        """Return a file of the image, by its absolute path; None where there is none. Nothing of it is started."""

    def files(self, image: BuiltImage, path: str, *, machine: Machine) -> dict[str, FileState]:
        """Return the files and links below a directory of the image, from its layers."""

    def archive(self, image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> Iterable[bytes]:
        """Give the bytes of an archive that `docker load` reads."""

    def predict(
        self,
        image: BuiltImage,
        arguments: tuple[str, ...],
        mounts: tuple[Mount, ...],
        *,
        on_output: Callable[[str], None],
        machine: Machine,
    ) -> Finished:
        """Run the image's `predict` over mounted files as the user of this process: no network, a read-only root."""

    def running(self, image: BuiltImage, *, port: int, machine: Machine) -> AbstractContextManager[Running]:
        """Serve on 127.0.0.1:`port` while the block lasts, passing the container's log to the reporter."""
