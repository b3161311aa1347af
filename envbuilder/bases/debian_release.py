"""Signed Release files: fetched, verified, kept for a day, and asked for the index of an architecture."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from debian.deb822 import Deb822

from envbuilder import digest, disk, network
from envbuilder.bases import debian_keys
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import requests

    from envbuilder.bases.debian_archives import Archive, Distribution, Pocket
    from envbuilder.digest import Digest
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

MAXIMUM_AGE: Final = 24 * 60 * 60
"""Seconds for which a fetched Release (or that there is none) is believed without asking again."""

_FORMATS: Final = (".xz", ".gz", "")
_DIGEST_LINE: Final = re.compile(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A list of packages, as the Release vouches for it."""

    urls: tuple[str, ...]
    """Where to try: by content first, where the archive does that."""

    digest: Digest
    size: int
    compression: str
    """`.xz`, `.gz` or nothing."""

    archive_url: str
    """What the file names in it are relative to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A verified Release of one pocket at one archive."""

    archive: Archive
    pocket: str
    text: str

    def index_file(self, architecture: str) -> IndexFile:
        """Return the `main` packages of a Debian architecture; raises BaseImageError when the Release lists none."""
        stanza = Deb822(self.text)
        files = {name: (value, size) for value, size, name in _DIGEST_LINE.findall(stanza.get("SHA256", ""))}
        directory = f"main/binary-{architecture}"
        base = _suite_url(self.archive, self.pocket)
        for compression in _FORMATS:
            name = f"{directory}/Packages{compression}"
            if name not in files:
                continue
            hexdigest, size = files[name]
            by_hash = (f"{base}/{directory}/by-hash/SHA256/{hexdigest}",)
            return IndexFile(
                urls=(*(by_hash if stanza.get("Acquire-By-Hash", "").lower() == "yes" else ()), f"{base}/{name}"),
                digest=digest.of_hex(hexdigest),
                size=int(size),
                compression=compression,
                archive_url=self.archive.url,
            )
        raise BaseImageError(
            f"`{self.pocket}` has no packages for the architecture `{architecture}`",
            where=Source(file=without_credentials(base)),
            fix=f"use one of its architectures: {stanza.get('Architectures', 'unknown')}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSource:
    """What finding the Release of a pocket needs besides the pocket."""

    distribution: Distribution
    settings: Settings
    opened: requests.Session
    reporter: Reporter
    root: Path

    def index_files(self, pockets: Iterable[Pocket], architecture: str) -> list[IndexFile]:
        """Return the package lists of the pockets that there are, for a Debian architecture."""
        releases = [release for pocket in pockets if (release := self.find(pocket)) is not None]
        return [release.index_file(architecture) for release in releases]

    def find(self, pocket: Pocket) -> Release | None:
        """Return the pocket's Release from the first archive that has it; None for an optional one that none has.

        Raises BaseImageError when none has a required pocket; where none has a good one, what was wrong at the first
        that failed: BaseImageError for a Release that is not what it must be, UnreachableError for no answer.
        """
        failure: UnreachableError | BaseImageError | None = None
        for archive in pocket.archives:
            try:
                release = self._of_archive(archive, pocket.suite)
            except (UnreachableError, BaseImageError) as cause:
                failure = failure or cause
                continue
            if release is not None:
                return release
        if failure is not None:
            raise failure
        if pocket.is_required:
            raise BaseImageError(
                f"no {self.distribution} archive of this machine has the suite `{pocket.suite}`",
                where=Source(file=" ".join(without_credentials(archive.url) for archive in pocket.archives)),
                fix="check the suite's name; for one that was archived, set ENVBUILDER_DEBIAN_MIRRORS",
            )
        self.reporter.warning(f"no archive serves `{pocket.suite}`: the base image is made without it")
        return None

    def _of_archive(self, archive: Archive, suite: str) -> Release | None:
        """Return the archive's verified Release, or None when it has no such suite (or is of another origin)."""
        path = self._cache_path(archive, suite)
        kept = _load(path)
        if kept is not None and self.settings.offline:
            return self._verified(kept, archive, suite)
        if kept is not None and 0 <= time.time() - kept["fetched"] < MAXIMUM_AGE:
            # A kept one that is damaged, or whose key was withdrawn meanwhile, is worth asking for again.
            with suppress(BaseImageError):
                release = self._verified(kept, archive, suite)
                if release is None or not self._has_expired(release):
                    return release
        fetched = self._fetch(archive, suite)
        release = self._verified(fetched, archive, suite)
        if release is not None and self._has_expired(release):
            raise BaseImageError(
                f"the Release of `{suite}` expired ({Deb822(release.text).get('Valid-Until')})",
                where=Source(file=without_credentials(_suite_url(archive, suite))),
                fix="use an up-to-date mirror; for one frozen on purpose, set `Check-Valid-Until: no` in apt's source",
            )
        disk.write_file(path, json.dumps({**fetched, "fetched": int(time.time())}).encode())
        return release

    def _cache_path(self, archive: Archive, suite: str) -> Path:
        name = digest.hex_of(digest.of_bytes(_suite_url(archive, suite).encode()))
        return self.settings.cache_dir / "debian" / "releases" / f"{name}.json"

    def _fetch(self, archive: Archive, suite: str) -> dict[str, str]:
        base = _suite_url(archive, suite)
        inline = self._get(f"{base}/InRelease")
        if inline is not None:
            return {"inline": inline.decode("utf-8", "surrogateescape")}
        release = self._get(f"{base}/Release")
        if release is None:
            return {}
        signature = self._get(f"{base}/Release.gpg")
        if signature is None:
            raise BaseImageError(
                f"the Release of `{suite}` is not signed",
                where=Source(file=without_credentials(base)),
                fix="use a mirror that passes on InRelease or Release.gpg",
            )
        return {"release": release.decode("utf-8", "surrogateescape"), "signature": signature.decode("latin-1")}

    def _get(self, url: str) -> bytes | None:
        try:
            with network.get(self.opened, url, settings=self.settings) as response:
                return response.content
        except UnreachableError as cause:
            if _is_absent(cause):
                return None
            raise

    def _verified(self, kept: dict[str, Any], archive: Archive, suite: str) -> Release | None:
        where = Source(file=without_credentials(_suite_url(archive, suite)))
        if "inline" not in kept and "release" not in kept:
            return None
        certs = debian_keys.certificates(archive, self.distribution, self.root)
        if "inline" in kept:
            data = debian_keys.signed_inline(_bytes(kept["inline"]), certs, where)
        else:
            signature = str(kept.get("signature")).encode("latin-1")
            data = debian_keys.signed_detached(_bytes(kept["release"]), signature, certs, where)
        text = data.decode("utf-8", "replace")
        stanza = Deb822(text)
        if archive.origin and stanza.get("Origin", "").lower() != archive.origin:
            return None
        if suite not in (stanza.get("Suite"), stanza.get("Codename")):
            raise BaseImageError(
                f"the archive answers with the suite `{stanza.get('Codename')}` when asked for `{suite}`",
                where=where,
                fix="use another mirror: this one mixes up its suites",
            )
        return Release(archive=archive, pocket=suite, text=text)

    def _has_expired(self, release: Release) -> bool:
        until = Deb822(release.text).get("Valid-Until")
        if not until or not release.archive.check_valid_until:
            return False
        return _parse_date(until) < datetime.now(timezone.utc)


def _suite_url(archive: Archive, suite: str) -> str:
    return f"{archive.url}/dists/{suite}"


def _parse_date(text: str) -> datetime:
    """Return the moment; an unreadable one counts as long past, since it cannot be checked."""
    try:
        # `UTC`, as Release files write it, is unknown to RFC 5322 and gives a naive value.
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=timezone.utc)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("fetched"), int) else None


def _bytes(text: object) -> bytes:
    return str(text).encode("utf-8", "surrogateescape")


def _is_absent(error: UnreachableError) -> bool:
    return any(problem.what.startswith("the server answered 404") for problem in error.problems)
