"""The Debian packages of a base, as dpkg's status file lists them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder.audit.component import purl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FIELD: Final = re.compile(r"([A-Za-z0-9-]+):[ \t]*(.*)")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianPackage:
    """One installed package."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    distribution: str
    """e.g. `debian`."""

    release: str
    """e.g. `debian-12`; empty where nobody knows."""

    depends: tuple[str, ...] = ()
    """Names; of alternatives all."""

    provides: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """Unique in a bill."""
        return f"deb:{self.name}:{self.architecture}@{self.version}"

    @property
    def purl(self) -> str:
        """The package URL."""
        return purl(
            "deb", self.name, self.version, namespace=self.distribution, arch=self.architecture, distro=self.release
        )


def parse(status: str, *, os_release: str) -> tuple[DebianPackage, ...]:
    """Read the installed packages, sorted by name; stanzas that are none are left out."""
    system = dict(_assigned(os_release))
    distribution = system.get("ID", "debian")
    release = f"{distribution}-{system['VERSION_ID']}" if "VERSION_ID" in system else ""
    found = []
    for stanza in re.split(r"\n\s*\n", status):
        fields = _fields(stanza)
        name, version = fields.get("package", ""), fields.get("version", "")
        # distroless images have no `Status` in their stanzas.
        if not _NAME.match(name) or not version or not fields.get("status", "installed").endswith("installed"):
            continue
        source, _, inside = fields.get("source", name).partition(" ")
        found.append(
            DebianPackage(
                name=name,
                version=version,
                architecture=fields.get("architecture", "all"),
                source=source,
                source_version=inside.strip("() ") or version,
                distribution=distribution,
                release=release,
                depends=tuple(_names(fields.get("depends", ""), fields.get("pre-depends", ""))),
                provides=tuple(_names(fields.get("provides", ""))),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.name, one.architecture)))


def _fields(stanza: str) -> dict[str, str]:
    matches = (_FIELD.match(line) for line in stanza.splitlines())
    return {match[1].lower(): match[2].strip() for match in matches if match is not None}


def _names(*texts: str) -> Iterator[str]:
    for text in texts:
        for part in re.split(r"[,|]", text):
            name = part.strip().partition(" ")[0].partition(":")[0]
            if name:
                yield name


def _assigned(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if sign:
            yield key.strip(), value.strip().strip("\"'")
