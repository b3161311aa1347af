"""How rattler reaches channels: mirrors, logins and retries, as a value, and as rattler's own client.

rattler is imported where a client is made, which only child processes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from rattler.networking import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What lets one into channels."""

    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What an address begins with, and what is asked instead; may hold tokens."""

    logins: tuple[tuple[str, str, str], ...] = ()
    """Host, beginning of the path, and the `Authorization` header for it."""

    retries: int = 3
    answer_seconds: int = 300


def client(access: Access) -> Client:
    """Return a client with rattler's standard parts, and with the mirrors and logins before them."""
    from rattler.networking import Client  # noqa: PLC0415
    from rattler.networking.middleware import (  # noqa: PLC0415
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        MirrorMiddleware,
        RetryMiddleware,
    )

    def login(host: str, path: str) -> dict[str, str] | None:
        for known, beginning, authorization in access.logins:
            if host == known and path.startswith(beginning):
                return {"Authorization": authorization}
        return None

    return Client(
        [
            RetryMiddleware(access.retries),
            *([MirrorMiddleware({of: list(by) for of, by in access.mirrors})] if access.mirrors else []),
            *([AddHeadersMiddleware(login)] if access.logins else []),
            AuthenticationMiddleware(),
        ],
        timeout=access.answer_seconds,
    )


def host_and_path(url: str) -> tuple[str, str]:
    """Return what a login is for: the host, and how the path begins."""
    parts = urlsplit(url)
    return parts.hostname or "", f"{parts.path.rstrip('/')}/"
