"""A place that packages are looked up in, in the words of pip: an index, one more index, or a page of links. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from envbuilder.problems import shown
from envbuilder.secret import Secret
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.errors import Source
    from envbuilder.fields import Stated
    from envbuilder.problems import Problems

IndexKind = Literal["index_url", "extra_index_url", "find_links"]
KINDS: Final[tuple[IndexKind, ...]] = get_args(IndexKind)

_TOKEN: Final = re.compile(r"/t/[^/?#]+(?=/|\Z)")
"""How the indexes of conda's servers spell a token, as its channels do: `https://HOST/t/TOKEN/OWNER/simple`."""

_FOLDER: Final = re.compile(r"file:|[./~]|(?![A-Za-z][A-Za-z0-9+.-]*:)")
_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/@*%+,=?&\[\]-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndex:
    """One place; `index_url` replaces the machine's own index, the others are asked besides."""

    kind: IndexKind
    url: str
    """Without credentials."""
    secret: Secret | None = None
    """The URL with its credentials, where it has some."""
    source: Source

    @property
    def address(self) -> str:
        """The URL with its credentials: for the program that asks there, and nobody else."""
        return self.url if self.secret is None else self.secret.value

    @property
    def meaning(self) -> str:
        """What is compared: kind and place, whoever asks there."""
        return f"{self.kind} {normal_url(self.url)}"


def is_index_url(url: str) -> bool:
    """Whether `url`, shown without credentials, is one that packages can be looked up at."""
    return _URL.fullmatch(url) is not None


def normal_url(url: str) -> str:
    """Return the URL in the one spelling in which places are compared: no credentials, no slash at the end."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    return f"{scheme.lower()}://{host.lower()}{slash}{path}".rstrip("/")


def read(kind: IndexKind, stated: Stated[str], problems: Problems) -> PackageIndex | None:
    """Read a URL that the workspace states; what is wrong with it is added to `problems`."""
    secret = Secret.find(stated.value)
    url = stated.value if secret is None else secret.shown
    if kind == "find_links" and not is_index_url(url) and _FOLDER.match(url):
        problems.add(
            f"`{shown(url)}` is a folder of this machine, where nobody else finds what a lock names",
            where=stated.source,
            fix="serve it, e.g. `python -m http.server --directory FOLDER`, and name the URL of that",
        )
        return None
    if not is_index_url(url):
        problems.add(
            f"`{shown(url)}` is not the URL of a package index", where=stated.source, fix="write `https://HOST/simple`"
        )
        return None
    return PackageIndex(kind=kind, url=url, secret=secret, source=stated.source)


def without_token(url: str, addresses: Iterable[str]) -> str:
    """Return `url` without the token in its path that one of the indexes at `addresses` has at the same place."""
    for before, token in tokens(addresses):
        if url.startswith(f"{before}{token}/"):
            return before + url[len(before) + len(token) :]
    return url


def with_token(url: str, addresses: Iterable[str]) -> str:
    """Return `url`, which a lock names without a token, with that of the index at the same place."""
    for before, token in tokens(addresses):
        if url.startswith(f"{before}/") and not url.startswith(f"{before}{token}/"):
            return f"{before}{token}{url[len(before) :]}"
    return url


def tokens(addresses: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Give what is before the token in an address, without user and password, and the token as it is written."""
    for address in addresses:
        plain = without_credentials(address)
        found = _TOKEN.search(plain)
        if found is not None:
            yield plain[: found.start()], found[0]
