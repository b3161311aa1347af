"""Debian packages put on a base that exists: a closure against what its dpkg has, unpacked into one layer.

No maintainer script is run, and none is needed for libraries: the loader looks into Debian's directories of libraries
without being told. dpkg's status is continued, so that scanners and dpkg itself see what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, network
from envbuilder.bases import apt_sources, debian_archives, debian_closure, debian_index, debian_rootfs
from envbuilder.bases.debian_index import Relation
from envbuilder.bases.debian_packages import DebianPackages
from envbuilder.bases.debian_release import ReleaseSource
from envbuilder.errors import BaseImageError, Source, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.base_image import BaseImage
    from envbuilder.bases.debian_archives import Distribution
    from envbuilder.bases.debian_index import Package
    from envbuilder.bases.debian_unpack import Unpacked
    from envbuilder.bases.dpkg_state import DpkgState
    from envbuilder.digest import Digest
    from envbuilder.layer import Entry
    from envbuilder.machine import Machine

RECIPE_VERSION: Final = 1
"""Raise it when the same packages would give other files."""

_DISTRIBUTIONS: Final[dict[str, Distribution]] = {"debian": "debian", "ubuntu": "ubuntu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """The exact packages that are put on a base, dependencies included, and the status that they continue."""

    packages: tuple[Package, ...]
    status: str
    """dpkg's, of the base; empty where it keeps a file for each package instead, as distroless images do."""

    @property
    def digest(self) -> Digest:
        """The digest of all that decides on the files."""
        return digest.of_json(
            [RECIPE_VERSION, [[one.name, one.digest] for one in self.packages], digest.of_bytes(_bytes(self.status))]
        )

    @property
    def versions(self) -> tuple[str, ...]:
        """The packages as people and labels name them, e.g. `libgomp1=12.2.0-14`."""
        return tuple(f"{one.name}={one.version}" for one in self.packages)


def resolve(names: Mapping[str, Source | None], base: BaseImage, state: DpkgState, *, machine: Machine) -> Addition:
    """Return what putting the named packages on the base takes; with each name comes where it is asked for.

    One that nobody asked for and the suite does not have is told. The settings' mirrors are asked, else the base's own
    apt sources, else this machine's. Raises BaseImageError for a base that has no packages of Debian or Ubuntu, or a
    suite without a package; UnreachableError.
    """
    distribution = _DISTRIBUTIONS.get(base.system.distribution)
    if distribution is None or not base.system.suite or not state.text:
        raise BaseImageError(
            f"no Debian packages can be put on `{base.reference}`: "
            f"{'its dpkg has no status' if distribution else 'it is neither Debian nor Ubuntu'}",
            where=Source(file=base.reference),
            fix="choose a base that has them, or one of Debian, e.g. `debian:bookworm` or a `-slim` image",
        )
    installed = debian_index.installed(state.text)
    with disk.temporary_directory(machine.probes) as own:
        state.write(own)
        roots = [own, Path("/")] if apt_sources.read(own) and not machine.settings.debian_mirrors else [Path("/")]
        failure: UnreachableError | BaseImageError | None = None
        for root in roots:
            try:
                index = _index(base, distribution, root, machine)
            except (UnreachableError, BaseImageError) as cause:
                failure = failure or cause
                continue
            packages = debian_closure.addition(index, base.system.suite, names, installed)
            for name in names:
                if not any(one.satisfies(Relation(name=name)) for one in (*installed.values(), *packages)):
                    machine.reporter.warning(f"the suite `{base.system.suite}` has no package `{name}` in `main`")
            return Addition(packages=packages, status=state.status)
        raise failure or AssertionError


def _index(base: BaseImage, distribution: Distribution, root: Path, machine: Machine) -> debian_index.PackageIndex:
    pockets = debian_archives.pockets(base.system.suite, distribution, machine.settings.debian_mirrors, root)
    with network.session(machine.settings) as opened:
        source = ReleaseSource(
            distribution=distribution, settings=machine.settings, opened=opened, reporter=machine.reporter, root=root
        )
        files = source.index_files(pockets, base.platform.architecture)
        return DebianPackages(machine.settings, opened, machine.reporter).index(files)


def entries(addition: Addition, *, machine: Machine) -> tuple[Entry, ...]:
    """Return the files of the addition, downloading the packages that the cache does not hold.

    Warns of packages that a script would have set up.
    """
    with network.session(machine.settings) as opened:
        unpacked = DebianPackages(machine.settings, opened, machine.reporter).unpacked(addition.packages)
    scripted = [package.name for package, content in unpacked if content.scripts]
    if scripted:
        machine.reporter.warning(
            f"maintainer scripts are not run; these system packages have some: {', '.join(scripted)}"
        )
    tree = debian_rootfs.tree_of(unpacked)
    remembered = [entry for package, content in unpacked for entry in debian_rootfs.file_lists(package, content)]
    for entry in (*remembered, *_status(addition, unpacked)):
        tree[entry.path] = entry
    return tuple(tree[path] for path in sorted(tree))


def _status(addition: Addition, unpacked: list[tuple[Package, Unpacked]]) -> list[Entry]:
    if not addition.status:
        return [
            debian_rootfs.text_entry(f"var/lib/dpkg/status.d/{package.name}", debian_rootfs.stanza(content))
            for package, content in unpacked
        ]
    new = {package.name for package, _ in unpacked}
    kept = [
        stanza.strip("\n") + "\n"
        for stanza in addition.status.split("\n\n")
        if stanza.strip() and next(iter(debian_index.installed(stanza)), None) not in new
    ]
    text = "\n".join((*kept, *(debian_rootfs.stanza(content) for _, content in unpacked)))
    return [debian_rootfs.text_entry("var/lib/dpkg/status", text)]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
