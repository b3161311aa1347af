"""The files of `templates/`: in the installed package, or at the top of a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def read(name: str) -> bytes:
    """Return a file, e.g. `installer/uv.txt`."""
    return _folder().joinpath(*name.split("/")).read_bytes()


def names() -> tuple[str, ...]:
    """Return the names of the Dockerfile's templates, sorted."""
    return tuple(sorted(item.name for item in _folder().joinpath("dockerfile").iterdir()))


def _folder() -> Traversable:
    package = resources.files("envbuilder")
    installed = package.joinpath("templates")
    return installed if installed.is_dir() else Path(str(package)).parent / "templates"
