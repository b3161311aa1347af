"""What is locked: exact wheels and conda packages, for one target. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.conda_package import CondaPackage
    from envbuilder.digest import Digest
    from envbuilder.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """What a wheel was built from."""

    url: str
    """Of an archive, or `git+https://HOST/REPOSITORY@COMMIT`; without credentials."""

    digest: Digest
    """Of the archive's bytes, or of the tree of the commit."""

    subdirectory: str | None = None
    """Where in it the project is."""

    tools: tuple[LockedPackage, ...] = ()
    """What it was built with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One exact wheel."""

    name: str
    """Normalized."""

    version: str
    url: str
    """Without credentials. `./wheels/FILE` is a file of the model; a wheel with a `source` has its file name alone."""

    sha256: Digest
    dependencies: tuple[str, ...] = ()
    """Normalized names of the locked packages it needs."""

    source: WheelSource | None = None
    """Where it was built here, because nobody offers it as a wheel."""

    is_direct: bool = False
    """Whether its URL was asked for, where no index may have it."""

    @property
    def filename(self) -> str:
        """The wheel's file name, which carries its tags."""
        return unquote(PurePosixPath(urlsplit(self.url).path).name)

    @property
    def is_of_index(self) -> bool:
        """Whether an index has the wheel; else who installs it must be given the file."""
        return self.source is None and not self.is_direct and not self.is_of_model

    @property
    def is_of_model(self) -> bool:
        """Whether the wheel comes with the model."""
        return self.url.startswith("./")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBase:
    """The base image that was locked for."""

    reference: str
    """As the user named it."""

    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything that goes into an environment, for one target."""

    packages: tuple[LockedPackage, ...]
    """The wheels, sorted by name."""

    conda_packages: tuple[CondaPackage, ...] = ()
    """Sorted by name; where there are any, Python is one of them."""

    target: Target
    base: LockedBase | None = None
    """None: the lock is for no image in particular."""

    packages_digest: Digest
    """Of what was asked for."""

    python_version: str
    """In full as the base image or the conda packages have it; without them, as far as it was asked for."""

    tool_version: str
    """Of the envbuilder that made the lock."""

    @property
    def subdir(self) -> str:
        """Conda's word for the machine, e.g. `linux-64`."""
        return self.target.subdir

    @property
    def channels(self) -> tuple[str, ...]:
        """Where the conda packages come from, without credentials."""
        return tuple(
            dict.fromkeys(one.url.rpartition("/")[0].removesuffix(f"/{one.subdir}") for one in self.conda_packages)
        )

    @property
    def pins(self) -> tuple[str, ...]:
        """The wheels as lines of a requirements file; those that no index offers are left out."""
        return tuple(f"{one.name}=={one.version}" for one in self.packages if one.is_of_index or one.source is not None)

    @property
    def digest(self) -> Digest:
        """The digest of what is locked; the version of the tool that locked it does not count."""
        return digest.of_json(
            {
                "target": [self.target.subdir, self.target.glibc, self.target.macos, self.target.cuda],
                "base": self.base.digest if self.base is not None else None,
                "python": self.python_version,
                "packages": [[one.name, one.version, one.sha256] for one in self.packages],
                "conda": [[one.name, one.version, one.build, one.sha256] for one in self.conda_packages],
            }
        )
