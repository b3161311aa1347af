"""The package archives this machine already uses: apt's deb822 and one-line source files.

Follows sources.list(5). Reads files; uses no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from debian.deb822 import Deb822

from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ONE_LINE: Final = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")
_NO: Final = ("no", "false", "without", "off", "disable")
_GLOBAL_CHECK: Final = re.compile(
    r'^\s*Acquire::Check-Valid-Until\s+"?(?P<value>\w+)"?\s*;', re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """One archive and some of its suites, as an entry of the machine's apt sources gives them."""

    url: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    """As written: paths of keyrings, fingerprints, or an armored key; empty for the machine's trusted keys."""

    check_valid_until: bool = True
    source: Source

    def names(self, word: str) -> bool:
        """Tell whether the entry's URL or its keyrings speak of `word`."""
        return word in self.url.lower() or word in self.signed_by.lower()


def read(root: Path) -> tuple[AptSource, ...]:
    """Return the enabled binary sources below `root`/etc/apt that are reached over http(s), in apt's own order.

    Raises InvalidFileError when a file that apt would read is not text or has a stanza without its fields.
    """
    directory = root / "etc" / "apt"
    check = _checks_valid_until(directory)
    found: list[AptSource] = []
    for path in _files(directory):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as cause:
            raise InvalidFileError(
                "apt sources that are not UTF-8 text",
                where=Source(file=str(path)),
                fix="repair the file, or set ENVBUILDER_DEBIAN_MIRRORS to the archive's URL",
            ) from cause
        where = Source(file=str(path))
        found.extend(
            _deb822(text, where, check=check) if path.suffix == ".sources" else _lines(text, where, check=check)
        )
    return tuple(source for source in found if urlsplit(source.url).scheme in ("http", "https"))


def _files(directory: Path) -> list[Path]:
    parts = directory / "sources.list.d"
    candidates = [directory / "sources.list"]
    if parts.is_dir():
        candidates += sorted(path for path in parts.iterdir() if path.suffix in (".list", ".sources"))
    return [path for path in candidates if path.is_file()]


def _checks_valid_until(directory: Path) -> bool:
    """Return apt's global setting; a mirror that is frozen in time is usually told to apt this way."""
    parts = directory / "apt.conf.d"
    files = sorted(parts.iterdir()) if parts.is_dir() else []
    value = True
    for path in (*files, directory / "apt.conf"):
        if path.is_file():
            for match in _GLOBAL_CHECK.finditer(path.read_text(encoding="utf-8", errors="replace")):
                value = match["value"].lower() not in (*_NO, "0")
    return value


def _deb822(text: str, where: Source, *, check: bool) -> Iterator[AptSource]:
    for number, stanza in enumerate(Deb822.iter_paragraphs(text, use_apt_pkg=False)):
        if "deb" not in stanza.get("Types", "").split() or stanza.get("Enabled", "yes").strip().lower() in _NO:
            continue
        if not stanza.get("URIs", "").split() or not stanza.get("Suites", "").split():
            raise InvalidFileError(
                "a stanza of apt sources without `URIs` or `Suites`",
                where=where.child(number),
                fix="add the missing field, or disable the stanza with `Enabled: no`",
            )
        for url in stanza["URIs"].split():
            yield AptSource(
                url=url.rstrip("/"),
                suites=tuple(stanza["Suites"].split()),
                components=tuple(stanza.get("Components", "").split()),
                signed_by=stanza.get("Signed-By", ""),
                check_valid_until=_is_on(stanza.get("Check-Valid-Until", ""), default=check),
                source=where.child(number),
            )


def _lines(text: str, where: Source, *, check: bool) -> Iterator[AptSource]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match is None:
            continue
        options = _options(match["options"] or "")
        yield AptSource(
            url=match["uri"].rstrip("/"),
            suites=(match["suite"],),
            components=tuple(match["components"].split()),
            signed_by=options.get("signed-by", "").replace(",", " "),
            check_valid_until=_is_on(options.get("check-valid-until", ""), default=check),
            source=where.child(f"line {number}"),
        )


def _options(text: str) -> Mapping[str, str]:
    pairs = (item.partition("=") for item in text.split())
    return {name.lower(): value for name, _, value in pairs}


def _is_on(value: str, *, default: bool) -> bool:
    return value.strip().lower() not in _NO if value.strip() else default
