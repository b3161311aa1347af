"""Base images put together from Debian packages: signed indexes, a closure, one layer; no root, no dpkg."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, layer, network
from envbuilder.bases import (
    debian_archives,
    debian_closure,
    debian_download,
    debian_index,
    debian_record,
    debian_rootfs,
    debian_unpack,
)
from envbuilder.bases.debian_release import ReleaseSource
from envbuilder.errors import BaseImageError, Source
from envbuilder.oci_image import Image, Platform, RunConfig
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    import requests

    from envbuilder.bases.debian_archives import Distribution
    from envbuilder.bases.debian_index import Package
    from envbuilder.bases.debian_release import IndexFile
    from envbuilder.bases.debian_unpack import Unpacked
    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

RECIPE_VERSION: Final = 1
"""Part of the cache key: raise it when the same packages would give other files."""

_ARCHITECTURES: Final = ("amd64", "arm64")
"""Named alike by OCI and Debian."""

_CONFIG: Final = RunConfig(
    env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8"))
)
_THREADS: Final = 2
"""For unpacking: xz lets go of the interpreter's lock, the rest of the work does not."""


def assemble(
    suite: str,
    *,
    distribution: Distribution = "debian",
    architecture: str,
    store: ImageStore,
    settings: Settings,
    reporter: Reporter,
    root: Path = Path("/"),
) -> Image:
    """Return a minimal image with the suite's Python, its layer in the store.

    Archives are the settings' mirrors, else the apt sources below `root`, where the keyrings are too. Raises
    BaseImageError when the suite cannot be had whole and verified, UnreachableError when the archive does not answer.
    """
    if architecture not in _ARCHITECTURES:
        raise BaseImageError(
            f"no base images are assembled for the architecture `{architecture}`",
            where=Source(file=f"{distribution}:{suite}"),
            fix=f"use one of {', '.join(f'`{name}`' for name in _ARCHITECTURES)}",
        )
    platform = Platform(os="linux", architecture=architecture)
    pockets = debian_archives.pockets(suite, distribution, settings.debian_mirrors, root)
    with network.session(settings) as opened:
        source = ReleaseSource(
            distribution=distribution, settings=settings, opened=opened, reporter=reporter, root=root
        )
        releases = [release for pocket in pockets if (release := source.find(pocket)) is not None]
        indexes = [release.index_file(architecture) for release in releases]
        record = settings.cache_dir / "debian" / "bases" / f"{digest.hex_of(_key(indexes, architecture))}.json"
        comment = f"{distribution} {suite}"
        known = debian_record.read(record, store, comment=comment)
        if known is None:
            packages = _Packages(settings, opened, reporter)
            chosen = debian_closure.resolve(packages.index(indexes), suite)
            entries = debian_rootfs.entries(packages.unpacked(chosen))
            known = layer.write_layer(store, entries, comment=comment)
            debian_record.write(record, known, packages={package.name: package.version for package in chosen})
    return Image(platform=platform, config=_CONFIG, layers=(known,))


def _key(indexes: list[IndexFile], architecture: str) -> Digest:
    return digest.of_json(
        {
            "recipe": RECIPE_VERSION,
            "layout": layer.LAYOUT_VERSION,
            "architecture": architecture,
            "indexes": [index.digest for index in indexes],
        }
    )


class _Packages:
    """The package lists and the packages of the archives, by way of the cache."""

    def __init__(self, settings: Settings, opened: requests.Session, reporter: Reporter) -> None:
        self._cache = settings.cache_dir / "debian"
        self._settings = settings
        self._opened = opened
        self._reporter = reporter

    def index(self, files: list[IndexFile]) -> debian_index.PackageIndex:
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
