"""conda's channels: from the name or URL that somebody wrote to addresses, with the credentials apart. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from envbuilder.errors import InvalidFileError
from envbuilder.secret import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.errors import Source

DEFAULTS: Final = "defaults"
_DEFAULTS_URLS: Final = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_NO_DEFAULTS: Final = "nodefaults"
_ANACONDA: Final = "https://repo.anaconda.com"
_KNOWN_SUBDIRS: Final = re.compile(
    r"/((?:linux-(?:32|64|aarch64|armv6l|armv7l|ppc64|ppc64le|riscv64|s390x))|osx-(?:64|arm64)|win-(?:32|64|arm64)|noarch)/*\Z"
)
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*\Z")
_TOKEN: Final = re.compile(r"/t/[^/]+(?=/|\Z)")
_NONE: Final[Mapping[str, tuple[Address, ...]]] = MappingProxyType({})
_FIX: Final = "write a channel's name, or its http(s) or file URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a channel is, and what lets one in."""

    url: str
    """Without credentials, token and closing slash: what is shown, locked and compared."""

    request_url: str = field(repr=False)
    """The same, with the token that is part of its path."""

    authorization: str | None = field(default=None, repr=False)
    """The value of the `Authorization` header."""

    def child(self, path: str) -> Address:
        """Return the address of what is below this one, with the same credentials."""
        return replace(self, url=f"{self.url}/{path}", request_url=f"{self.request_url}/{path}")

    @classmethod
    def parse(cls, text: str, *, where: Source) -> Address:
        """Take a URL apart; raises InvalidFileError when no channel can be there."""
        try:
            parts = urlsplit(text)
            user, password, host = parts.username, parts.password, parts.hostname
            parts.port  # noqa: B018 - reading it checks it
        except ValueError as cause:
            raise InvalidFileError(f"`{visible(text)}` is not a channel", where=where, fix=_FIX) from cause
        remote = parts.scheme in {"http", "https"}
        if not (remote and host) and not (parts.scheme == "file" and parts.path.startswith("/") and not host):
            raise InvalidFileError(f"`{visible(text)}` is not a channel", where=where, fix=_FIX)
        if parts.query or parts.fragment:
            raise InvalidFileError(
                f"`{visible(text)}` is not a channel: its URL has a query",
                where=where,
                fix="give credentials as `https://USER:PASSWORD@HOST/…`, in .netrc, or in RATTLER_AUTH_FILE",
            )
        path = parts.path.rstrip("/")
        asked = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path)
        plain = asked._replace(path=_TOKEN.sub("", path, count=1)) if remote else asked
        login = f"{unquote(user or '')}:{unquote(password or '')}" if user or password else None
        return cls(
            url=urlunsplit(plain),
            request_url=urlunsplit(asked),
            authorization=f"Basic {base64.b64encode(login.encode()).decode()}" if login is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel that is asked for; several addresses stand on one step of the priority, as those of `defaults` do."""

    name: str
    """As it was written, without credentials."""

    addresses: tuple[Address, ...]
    source: Source

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses without credentials."""
        return tuple(address.url for address in self.addresses)

    @property
    def key(self) -> str:
        """What match specs call it: its one URL, or the name of the group."""
        return self.name if len(self.addresses) > 1 else self.addresses[0].url

    @classmethod
    def find(
        cls, text: str, *, alias: Address, source: Source, named: Mapping[str, tuple[Address, ...]] = _NONE
    ) -> Channel | None:
        """Return the channel that `text` names; None for `nodefaults`.

        What is no URL is one of the `named` ones, or below one of them, else below `alias`.

        A subdir at the end says nothing about where the channel is, and is left out. Raises InvalidFileError.
        """
        written = split_subdir(text)[0]
        if written == _NO_DEFAULTS:
            return None
        if "://" not in written and (known := _below_named(written, named)):
            addresses = known
        elif written == DEFAULTS:
            addresses = tuple(Address.parse(url, where=source) for url in _DEFAULTS_URLS)
        elif "://" in written:
            addresses = (Address.parse(written, where=source),)
        elif not is_name(written):
            raise InvalidFileError(f"`{visible(written)}` is not a channel", where=source, fix=_FIX)
        elif written.startswith("pkgs/"):
            addresses = (Address.parse(f"{_ANACONDA}/{written}", where=source),)
        else:
            addresses = (alias.child(written),)
        return cls(name=visible(written), addresses=addresses, source=source)


def is_name(text: str) -> bool:
    """Whether a channel can be called so."""
    return _NAME.match(text) is not None


def _below_named(written: str, named: Mapping[str, tuple[Address, ...]]) -> tuple[Address, ...]:
    """Return the addresses of `NAME/label/dev`, where `NAME` is a named channel; the longest name counts."""
    name, rest = written, ""
    while name:
        if name in named and is_name(written):
            return tuple(one.child(rest) if rest else one for one in named[name])
        name, _, last = name.rpartition("/")
        rest = f"{last}/{rest}" if rest else last
    return ()


def split_subdir(text: str) -> tuple[str, str | None]:
    """Split `channel/linux-64` into the channel and the subdir."""
    found = _KNOWN_SUBDIRS.search(text)
    return (text[: found.start()], found[1]) if found is not None else (text.rstrip("/"), None)
