"""The packages of a suite: index files read into stanzas by name, of which only those asked for are parsed."""

from __future__ import annotations

import gzip
import lzma
import operator
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from debian.deb822 import Packages
from debian.debian_support import Version

from envbuilder import digest
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.digest import Digest

_PACKAGE: Final = b"Package: "
_OPERATORS: Final = {
    "<<": operator.lt,
    "<=": operator.le,
    "<": operator.le,  # the forms that policy 7.1 calls obsolete mean `or equal`
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.ge,
    ">>": operator.gt,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One alternative of a dependency: a name and perhaps a version, e.g. `libc6 (>= 2.36)`."""

    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Tell whether a package (or a provision) of `version` satisfies the relation."""
        if not self.operator:
            return True
        if not version:
            return False
        return bool(_OPERATORS[self.operator](Version(version), Version(self.version)))

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One version of a binary package, as an index describes it."""

    name: str
    version: str
    architecture: str
    multi_arch: str
    url: str
    digest: Digest
    size: int
    needs: tuple[tuple[Relation, ...], ...]
    """Pre-Depends and Depends: each a choice of alternatives."""

    provides: tuple[Relation, ...]

    def satisfies(self, relation: Relation) -> bool:
        """Tell whether the package is, or provides, what the relation asks for."""
        if self.name == relation.name:
            return relation.accepts(self.version)
        return any(item.name == relation.name and relation.accepts(item.version) for item in self.provides)


class PackageIndex:
    """All packages of the pockets of a suite; a name gives its highest version."""

    def __init__(self) -> None:
        self._stanzas: dict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        self._parsed: dict[str, Package | None] = {}
        self._providing: list[bytes] | None = None

    def add(self, text: bytes, archive_url: str) -> None:
        """Add the stanzas of an index file."""
        for stanza in text.split(b"\n\n"):
            start = stanza.find(_PACKAGE)
            if start > 0 and stanza[start - 1 : start] != b"\n":
                start = stanza.find(b"\n" + _PACKAGE) + 1
            if start < 0 or not stanza:
                continue
            end = stanza.find(b"\n", start)
            name = stanza[start + len(_PACKAGE) : end if end >= 0 else None].strip()
            self._stanzas[name].append((stanza, archive_url))

    def __len__(self) -> int:
        return len(self._stanzas)

    def get(self, name: str) -> Package | None:
        """Return the highest version of the package, or None when no pocket has it."""
        if name not in self._parsed:
            versions = [_parse(stanza, url) for stanza, url in self._stanzas.get(name.encode(), ())]
            # Among equal versions the first pocket wins, so that the same indexes give the same choice.
            self._parsed[name] = max(versions, key=lambda package: Version(package.version), default=None)
        return self._parsed[name]

    def providers(self, name: str) -> tuple[Package, ...]:
        """Return the packages that provide `name`, sorted by their own."""
        if self._providing is None:
            self._providing = [
                own for own, items in self._stanzas.items() if any(b"\nProvides: " in stanza for stanza, _ in items)
            ]
        word = re.compile(rb"\nProvides: (?:[^\n]*[ ,])?" + re.escape(name.encode()) + rb"(?![a-z0-9+.-])")
        found = sorted(own for own in self._providing if any(word.search(stanza) for stanza, _ in self._stanzas[own]))
        packages = (self.get(own.decode()) for own in found)
        return tuple(package for package in packages if package and any(item.name == name for item in package.provides))


def installed(status: str) -> dict[str, Package]:
    """Return what dpkg's status says is installed, by name; packages of another architecture count with the own."""
    found = {}
    for text in re.split(r"\n{2,}", status.strip()):
        stanza = Packages(text.encode("utf-8", "surrogateescape"))
        # A distroless image has no Status lines: what is in its status.d is there.
        if "Package" not in stanza or not stanza.get("Status", "install ok installed").endswith(" installed"):
            continue
        relations: Any = stanza.relations
        found[stanza["Package"]] = Package(
            name=stanza["Package"],
            version=stanza.get("Version", ""),
            architecture=stanza.get("Architecture", ""),
            multi_arch=stanza.get("Multi-Arch", "no"),
            url="",
            digest=digest.of_bytes(b""),
            size=0,
            needs=(),
            provides=tuple(_relation(item) for group in relations["provides"] for item in group),
        )
    return found


def _parse(stanza: bytes, archive_url: str) -> Package:
    parsed = Packages(stanza)
    try:
        relations: Any = parsed.relations
        return Package(
            name=parsed["Package"],
            version=parsed["Version"],
            architecture=parsed["Architecture"],
            multi_arch=parsed.get("Multi-Arch", "no"),
            url=f"{archive_url}/{parsed['Filename']}",
            digest=digest.of_hex(parsed["SHA256"]),
            size=int(parsed["Size"]),
            needs=tuple(
                tuple(_relation(item) for item in group) for group in (*relations["pre-depends"], *relations["depends"])
            ),
            provides=tuple(_relation(item) for group in relations["provides"] for item in group),
        )
    except (KeyError, ValueError) as cause:
        raise BaseImageError(
            f"the package list has a stanza that cannot be read ({cause}): `{parsed.get('Package', '?')}`",
            where=Source(file=archive_url),
            fix="use another mirror",
        ) from cause


def _relation(item: Any) -> Relation:  # noqa: ANN401 - python-debian's parsed relation is a loose mapping
    symbol, version = item["version"] or ("", "")
    return Relation(name=item["name"], operator=symbol, version=version)


def decompressed(data: bytes, compression: str) -> bytes:
    """Return the text of an index file; raises BaseImageError when it is damaged."""
    try:
        match compression:
            case ".xz":
                return lzma.decompress(data)
            case ".gz":
                return gzip.decompress(data)
            case _:
                return data
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as cause:
        raise BaseImageError(f"a package list is damaged ({cause})", fix="use another mirror") from cause


def read(files: Iterable[tuple[bytes, str]]) -> PackageIndex:
    """Return the index of the given texts and the URLs of their archives."""
    index = PackageIndex()
    for text, archive_url in files:
        index.add(text, archive_url)
    return index
