"""Which archives to ask for a suite and its pockets: the settings' mirrors, else the machine's apt sources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from envbuilder.bases import apt_sources
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.bases.apt_sources import AptSource

Distribution = Literal["debian", "ubuntu"]

_SUITE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")
_ROLLING: Final = ("sid", "unstable", "experimental")
"""Suites that take updates and security fixes themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A place that may serve a suite, and whose signature counts for it."""

    url: str
    signed_by: str = ""
    check_valid_until: bool = True
    origin: str = ""
    """What its Release must say it is; empty when the user named the archive and so vouches for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pocket:
    """A suite as archives name it, and the archives to ask for it, best first."""

    suite: str
    archives: tuple[Archive, ...]
    is_required: bool = False
    """True for the suite itself; the pockets of updates and security fixes may be missing."""


def pockets(suite: str, distribution: Distribution, mirrors: tuple[str, ...], root: Path) -> tuple[Pocket, ...]:
    """Return where to look for `suite`, its updates and its security fixes.

    Raises BaseImageError when the name is no suite's, or neither mirrors nor apt sources serve the distribution.
    """
    if not _SUITE.match(suite):
        raise BaseImageError(f"`{suite}` is not the name of a suite", fix="use a codename such as `bookworm`")
    if mirrors:
        main, security = _of_mirrors(distribution, mirrors)
    else:
        main, security = _of_machine(distribution, apt_sources.read(root), root)
    base = Pocket(suite=suite, archives=main, is_required=True)
    if suite in _ROLLING:
        return (base,)
    return (
        base,
        Pocket(suite=f"{suite}-updates", archives=main),
        Pocket(suite=f"{suite}-security", archives=security),
    )


def _of_mirrors(
    distribution: Distribution, mirrors: tuple[str, ...]
) -> tuple[tuple[Archive, ...], tuple[Archive, ...]]:
    archives = tuple(Archive(url=url.rstrip("/")) for url in mirrors)
    security = tuple(archive for archive in archives if archive.url.endswith("-security"))
    main = tuple(archive for archive in archives if archive not in security)
    if not main:
        raise BaseImageError(
            "the Debian mirrors have no archive besides the security one",
            where=Source(file="ENVBUILDER_DEBIAN_MIRRORS"),
            fix="add the URL of the archive itself to ENVBUILDER_DEBIAN_MIRRORS",
        )
    # Ubuntu's archive holds all pockets; Debian's security fixes have an archive of their own.
    return main, (*security, *main) if distribution == "ubuntu" else security


def _of_machine(
    distribution: Distribution, sources: tuple[AptSource, ...], root: Path
) -> tuple[tuple[Archive, ...], tuple[Archive, ...]]:
    own = _own_codename(distribution, root)
    fitting = [
        source
        for source in sources
        if "main" in source.components
        and (source.names(distribution) or (own and any(name.split("-")[0] == own for name in source.suites)))
    ]
    security = [source for source in fitting if all("security" in name for name in source.suites)]
    main = [source for source in fitting if source not in security]
    if not main:
        raise BaseImageError(
            f"this machine's apt sources have no archive of {distribution}",
            where=Source(file=str(root / "etc" / "apt")),
            fix="set ENVBUILDER_DEBIAN_MIRRORS to the URL of an archive (and of its `-security` one, after a space)",
        )
    if distribution == "ubuntu":
        security += main
    return tuple(_archive(source, distribution) for source in main), tuple(
        _archive(source, distribution) for source in security
    )


def _archive(source: AptSource, distribution: Distribution) -> Archive:
    return Archive(
        url=source.url,
        signed_by=source.signed_by,
        check_valid_until=source.check_valid_until,
        origin=distribution,
    )


def _own_codename(distribution: Distribution, root: Path) -> str:
    """Return the codename of the machine's own suite when it runs the distribution, else nothing."""
    path = root / "etc" / "os-release"
    if not path.is_file():
        return ""
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    values = {name: value.strip("\"'") for name, _, value in pairs}
    return values.get("VERSION_CODENAME", "") if values.get("ID") == distribution else ""
