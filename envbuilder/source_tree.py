"""The unpacked source of one package, as a build sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.digest import Digest

EPOCH: Final = 315_532_800
"""The time of every file (1980-01-01, the first that a zip file can hold), and SOURCE_DATE_EPOCH of every build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A directory with the source of a package; it is gone when what gave it says so."""

    directory: Path
    digest: Digest
    """Of what the source was unpacked from, or of its files."""

    subdirectory: str = ""
    """Where in the directory the project is, with `/`; empty is the directory itself."""

    where: Source
    """What people are told it is: a URL without credentials."""

    @property
    def project(self) -> Path:
        """The directory of the project's `pyproject.toml` or `setup.py`."""
        return self.directory / self.subdirectory

    def checked(self) -> SourceTree:
        """Return the tree itself; raises InvalidFileError where the subdirectory is not a directory inside it."""
        parts = self.subdirectory.split("/") if self.subdirectory else []
        inside = all(part not in ("", ".", "..") for part in parts)
        root = self.directory.resolve()
        if not inside or not self.project.is_dir() or not self.project.resolve().is_relative_to(root):
            raise InvalidFileError(
                f"the source has no directory `{self.subdirectory}`",
                where=self.where,
                fix="name a directory of it after `#subdirectory=`, relative to its top",
            )
        return self


def subdirectory_of(url: str) -> str:
    """Return what a requirement's URL says after `#subdirectory=`, or nothing."""
    for part in urlsplit(url).fragment.split("&"):
        name, _, value = part.partition("=")
        if name == "subdirectory":
            return unquote(value).strip("/")
    return ""
