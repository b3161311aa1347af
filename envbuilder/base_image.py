"""The base image as the later stages see it: what it is, and the Python it provides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from envbuilder.base_system import BaseSystem

if TYPE_CHECKING:
    from envbuilder.digest import Digest
    from envbuilder.oci_image import Image, Platform

REPOSITORY: Final = "envbuilder-base"
"""Where engines are given the bases that no registry has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python inside an image."""

    version: str
    """In full, e.g. `3.11.2`."""

    executable: str
    """Absolute path, links resolved, e.g. `/usr/bin/python3.11`."""

    glibc: str
    """Version of the C library it runs on, e.g. `2.36`."""

    @property
    def minor(self) -> str:
        """The version's first two parts, e.g. `3.11`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def directory(self) -> str:
        """The directory of the executable."""
        return self.executable.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """What an image is built on."""

    reference: str
    """As the user named it."""

    pinned: str
    """As an engine must name it to get exactly this image, e.g. `python:3.11-slim@sha256:…`."""

    digest: Digest
    platform: Platform
    interpreter: Interpreter
    system: BaseSystem = field(default_factory=BaseSystem)
    environ: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...] = ()
    image: Image | None = None
    """Its layers, for the engine that assembles; None where another engine holds them."""
