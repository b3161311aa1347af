"""What the user chose for one run; what is left open is decided by the workspace, or by the stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from envbuilder import gpu_needs
from envbuilder.template_set import TemplateSet
from envbuilder.workspace_yaml import WorkspaceYaml

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.gpu_needs import GpuTable
    from envbuilder.workspace import Workspace
    from envbuilder.workspace_defaults import Defaults

EngineName = Literal["auto", "docker", "podman", "oci"]
ENGINE_NAMES: Final = ("docker", "podman", "oci")
"""In the order in which `auto` tries them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose."""

    engine: EngineName | None = None
    """None: the workspace's, else `auto`."""

    python: str | None = None
    """A Python version that wins over what the model asks for."""

    environment: str | None = None
    """An environment for this build: `NAME:VERSION`, `NAME@LABEL`, a file, or YAML in braces."""

    workspace: Workspace | None = None
    repairs: bool = True
    """Mend known breakages of old pins by the rules of `repair`."""

    base: str | None = None
    platform: str | None = None
    """Of an image."""

    platforms: tuple[str, ...] = ()
    """Platforms of images, or subdirs, to lock for: for `make_lock`."""

    no_base: bool = False
    """Lock for no image in particular; for `make_lock`."""

    cuda: str | None = None
    """The newest CUDA that the driver of the machines knows that it will run on; None: no GPU is counted on."""

    lock: Path | None = None
    """None: the workspace's for what is asked, else the one beside the model, else one that is made and kept here."""

    update: tuple[str, ...] = ()
    """Packages that a lock that exists is not to hold back; for `make_lock`."""

    exclude_newer: str | None = None
    """What was uploaded after this date does not exist; for `make_lock`."""

    allow_source: tuple[str, ...] = ()
    """Packages that may be built from source."""

    tag: str | None = None
    output: Path | None = None
    """A layout directory, or an archive when it ends in `.tar`."""

    push: bool = False
    """Bring the image to the registry that the tag names."""

    smoke: bool = True
    rebuild: bool = False
    """Build even where an image with the same content exists."""

    @property
    def says(self) -> WorkspaceYaml:
        """What the workspace says; nothing, where there is none."""
        return self.workspace.says if self.workspace is not None else WorkspaceYaml()

    @property
    def may_be_built(self) -> tuple[str, ...]:
        """The packages that the user or the workspace lets be built from source."""
        return (*self.allow_source, *self.says.allow_source)

    @property
    def defaults(self) -> Defaults:
        """What the workspace says of what was not chosen."""
        return self.says.defaults

    @property
    def gpu_table(self) -> GpuTable:
        """What is known of GPUs."""
        return self.workspace.gpu_table if self.workspace is not None else gpu_needs.load()

    @property
    def templates(self) -> TemplateSet:
        """The workspace's templates of the Dockerfile."""
        return self.workspace.templates if self.workspace is not None else TemplateSet()
