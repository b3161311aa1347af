"""The package lists and the packages of Debian archives, by way of the cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from envbuilder import digest
from envbuilder.bases import debian_download, debian_index, debian_unpack
from envbuilder.errors import Source
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    import requests

    from envbuilder.bases.debian_index import Package
    from envbuilder.bases.debian_release import IndexFile
    from envbuilder.bases.debian_unpack import Unpacked
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

_THREADS: Final = 2
"""For unpacking: xz lets go of the interpreter's lock, the rest of the work does not."""


class DebianPackages:
    """The package lists and the packages of the archives, by way of the cache."""

    def __init__(self, settings: Settings, opened: requests.Session, reporter: Reporter) -> None:
        self._cache = settings.cache_dir / "debian"
        self._settings = settings
        self._opened = opened
        self._reporter = reporter

    def index(self, files: list[IndexFile]) -> debian_index.PackageIndex:
        """Return the packages of the lists."""
        wanted = [
            debian_download.Wanted(
                path=self._cache / "indexes" / (digest.hex_of(file.digest) + file.compression),
                urls=file.urls,
                digest=file.digest,
                size=file.size,
            )
            for file in files
        ]
        self._fetch(wanted)
        return debian_index.read(
            (debian_index.decompressed(item.path.read_bytes(), file.compression), file.archive_url)
            for item, file in zip(wanted, files, strict=True)
        )

    def unpacked(self, packages: tuple[Package, ...]) -> list[tuple[Package, Unpacked]]:
        """Return the packages with what is in them."""
        wanted = [
            debian_download.Wanted(
                path=self._cache / "packages" / f"{digest.hex_of(package.digest)}.deb",
                urls=(package.url,),
                digest=package.digest,
                size=package.size,
            )
            for package in packages
        ]
        self._fetch(wanted)
        with ThreadPoolExecutor(_THREADS) as pool:
            contents = pool.map(_unpack, wanted)
            return list(zip(packages, contents, strict=True))

    def _fetch(self, wanted: list[debian_download.Wanted]) -> None:
        debian_download.fetch(wanted, opened=self._opened, settings=self._settings, reporter=self._reporter)


def _unpack(wanted: debian_download.Wanted) -> Unpacked:
    return debian_unpack.unpack(wanted.path.read_bytes(), Source(file=without_credentials(wanted.urls[0])))
