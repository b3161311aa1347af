"""The machine that the work is done on: its settings, its caches, and who hears about progress."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envbuilder.image_store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envbuilder.package_index import PackageIndex
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Settings, caches and reporter of one run. Every cache is named by content and safe to delete."""

    settings: Settings
    reporter: Reporter

    def asking(self, indexes: Iterable[PackageIndex]) -> Machine:
        """Return the machine with the package indexes of an environment before, or instead of, its own."""
        return replace(self, settings=self.settings.asking(indexes))

    @property
    def store(self) -> ImageStore:
        """The images that the embedded engine made, and every layer blob."""
        return ImageStore(self.settings.cache_dir / "images")

    @property
    def wheels(self) -> Path:
        """Downloaded wheels and those that were built here, by sha256."""
        return self.settings.cache_dir / "wheels"

    @property
    def sources(self) -> Path:
        """Fetched source archives by sha256, and exported commits of Git repositories."""
        return self.settings.cache_dir / "sources"

    @property
    def builds(self) -> Path:
        """Records of wheels that were built from source, by what they were built from."""
        return self.settings.cache_dir / "builds"

    @property
    def conda_packages(self) -> Path:
        """Downloaded conda packages, by sha256, and what is known of each."""
        return self.settings.cache_dir / "conda" / "packages"

    @property
    def trees(self) -> Path:
        """Installed wheels and conda packages with their bytecode, by package and Python version."""
        return self.settings.cache_dir / "trees"

    @property
    def snapshots(self) -> Path:
        """Unpacked layers, by diff id."""
        return self.settings.cache_dir / "snapshots"

    @property
    def layers(self) -> Path:
        """Records of layers in the store, by what they were made from."""
        return self.settings.cache_dir / "layers"

    @property
    def probes(self) -> Path:
        """What base images were found to provide, by digest."""
        return self.settings.cache_dir / "probes"

    @property
    def locks(self) -> Path:
        """Locks made for a spec and a base when nobody named a file for them."""
        return self.settings.cache_dir / "locks"

    @property
    def models(self) -> Path:
        """Models that were fetched by URI, by content, and what their URIs meant."""
        return self.settings.cache_dir / "models"

    @property
    def environments(self) -> Path:
        """Environments of this machine that models are served in, by lock."""
        return self.settings.cache_dir / "environments"

    @property
    def servers(self) -> Path:
        """The server's own environments, by what is in them."""
        return self.settings.cache_dir / "servers"

    @property
    def prefixes(self) -> Path:
        """Locks of the environment directories that are being made."""
        return self.settings.cache_dir / "prefixes"

    @property
    def logs(self) -> Path:
        """Whole logs of engine builds."""
        return self.settings.cache_dir / "logs"
