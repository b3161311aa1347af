"""One thing that an image consists of, with every name that others know it by. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from envbuilder.digest import Digest

Kind = Literal["pypi", "conda", "deb", "part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What somebody else calls a component: a package URL, and how that is known."""

    purl: str
    basis: Literal["lock", "channel", "dist-info", "name", "dpkg", "sbom"]
    """`name` is a guess: the project has the package's name, or the one that is known for it."""

    @property
    def is_guess(self) -> bool:
        """Whether only the name speaks for it."""
        return self.basis == "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A package."""

    ref: str
    """Unique in a bill, and the same in every bill of the same packages."""

    kind: Kind
    name: str
    version: str
    identities: tuple[Identity, ...]
    """The package's own first."""

    sha256: Digest | None = None
    md5: str | None = None
    url: str | None = None
    license: str | None = None
    """An SPDX expression."""

    license_text: str | None = None
    """What the package says of its licence, where that is no expression."""

    size: int | None = None
    """Bytes of the archive; None where it is not in the caches."""

    depends: tuple[str, ...] = ()
    """The refs of the components that it needs, sorted."""

    notes: tuple[tuple[str, str], ...] = ()
    """What else there is to say, by name."""

    @property
    def purl(self) -> str:
        """The package's own URL."""
        return self.identities[0].purl


def purl(kind: str, name: str, version: str, *, namespace: str = "", **qualifiers: str) -> str:
    """Return the package URL of that name: qualifiers sorted, everything escaped as the specification wants it."""
    path = "/".join(quote(part, safe="") for part in (*namespace.split("/"), name) if part)
    asked = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in sorted(qualifiers.items()) if value)
    return f"pkg:{kind}/{path}@{quote(version, safe=':')}" + (f"?{asked}" if asked else "")
