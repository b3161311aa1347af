"""Where wheels are made that no index offers: the machine, the base image and what may be built. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.engine import Engine
    from envbuilder.machine import Machine
    from envbuilder.package_index import PackageIndex
    from envbuilder.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What may be built from source, and where."""

    machine: Machine
    target: Target
    python_version: str
    model: Path | None = None
    """The model's directory."""

    allowed: frozenset[str] = frozenset()
    """Normalized names of the packages that may be built."""

    base: BaseImage | None = None
    """None: nothing can be built."""

    engine: Engine | None = None
    indexes: tuple[PackageIndex, ...] = ()
    exclude_newer: str | None = None
