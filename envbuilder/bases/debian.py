"""Base images put together from Debian packages: signed indexes, a closure, one layer; no root, no dpkg."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, layer, network
from envbuilder.bases import debian_archives, debian_closure, debian_record, debian_rootfs
from envbuilder.bases.debian_packages import DebianPackages
from envbuilder.bases.debian_release import ReleaseSource
from envbuilder.errors import BaseImageError, Source
from envbuilder.oci_image import Image, Platform, RunConfig

if TYPE_CHECKING:
    from envbuilder.bases.debian_archives import Distribution
    from envbuilder.bases.debian_release import IndexFile
    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

RECIPE_VERSION: Final = 2
"""Part of the cache key: raise it when the same packages would give other files."""

_ARCHITECTURES: Final = ("amd64", "arm64")
"""Named alike by OCI and Debian."""

_CONFIG: Final = RunConfig(
    env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8"))
)


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
        indexes = source.index_files(pockets, architecture)
        record = settings.cache_dir / "debian" / "bases" / f"{digest.hex_of(_key(indexes, architecture))}.json"
        comment = f"{distribution} {suite}"
        known = debian_record.read(record, store, comment=comment)
        if known is None:
            packages = DebianPackages(settings, opened, reporter)
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
