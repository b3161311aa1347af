"""Who is let in to the package indexes: logins from an index's own URL, from .netrc, and from the `keyring` program.

uv finds the same by itself while it locks. What is downloaded later, and what a build is told, asks here: a lock's URLs
hold no credentials, so those of the place that a file came from are found again by its host.
"""

from __future__ import annotations

import netrc
import threading
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from requests.auth import HTTPBasicAuth

from envbuilder import package_index, process
from envbuilder.errors import EngineMissingError, Source
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from requests import PreparedRequest

    from envbuilder.settings import Settings

_KEYRING_SECONDS: Final = 60.0
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(slots=True)
class IndexLogins:
    """The logins of the settings' package indexes; lets in a session's requests when it is its `auth`."""

    settings: Settings
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _passwords: dict[tuple[str, str], str] = field(default_factory=dict)
    """What the keyring said, by place and user."""

    def find(self, url: str) -> tuple[str, str] | None:
        """Return user and password for `url`: its own, those of the index on the same host, .netrc's, the keyring's.

        Raises EngineMissingError when the keyring is to be asked and its program is not there.
        """
        index = self._index(url)
        user, password = _own(url)
        if not user and index is not None:
            user, password = _own(index)
        if user and password:
            return user, password
        known = self._netrc(urlsplit(url).hostname or "")
        if known is not None and (not user or known[0] == user):
            return known
        if user and self.settings.keyring:
            password = self._from_keyring(without_credentials(index or url), user)
        return (user, password) if user else None

    def complete(self, url: str) -> str:
        """Return `url` with its login in it, for a program that can ask nobody."""
        login = self.find(url)
        if login is None:
            return url
        scheme, _, rest = without_credentials(url).partition("://")
        return f"{scheme}://{quote(login[0], safe='')}:{quote(login[1], safe='')}@{rest}"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the login into a request, as a session of `requests` asks for."""
        login = self.find(request.url or "")
        request.url = package_index.with_token(request.url or "", self.settings.index_addresses)
        if login is None:
            return request
        admitted: PreparedRequest = HTTPBasicAuth(login[0].encode(), login[1].encode())(request)
        return admitted

    def _index(self, url: str) -> str | None:
        """Return the index with a login on the same host whose path has the most in common with that of `url`."""
        same = [one for one in self.settings.index_addresses if _own(one)[0] and _host(one) == _host(url)]

        def common(one: str) -> int:
            return len(commonprefix((urlsplit(one).path, urlsplit(url).path)))  # noqa: RUF071 - as pip does

        return max(same, key=common, default=None)

    def _netrc(self, host: str) -> tuple[str, str] | None:
        environ = dict(self.settings.environ)
        file = Path(environ.get("NETRC") or Path(environ.get("HOME", "/")) / ".netrc")
        try:
            found = netrc.netrc(str(file)).authenticators(host)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            # As pip and uv do: a file that is meant for others is nobody's hindrance.
            return None
        return (found[0], found[2] or "") if found is not None and found[0] else None

    def _from_keyring(self, place: str, user: str) -> str:
        """Ask for the password as uv does: by the URL of the index, then by its host."""
        with self._lock:
            if (place, user) not in self._passwords:
                answers = (self._keyring(service, user) for service in (place, urlsplit(place).netloc))
                self._passwords[place, user] = next((one for one in answers if one), "")
            return self._passwords[place, user]

    def _keyring(self, service: str, user: str) -> str:
        environ = {**self.settings.program_environ(), **dict(self.settings.keyring_environ)}
        try:
            finished = process.run(("keyring", "get", service, user), environ=environ, timeout=_KEYRING_SECONDS)
        except (FileNotFoundError, PermissionError) as cause:
            raise EngineMissingError(
                "the keyring is to be asked for a password, and there is no `keyring` program on the PATH",
                where=Source(file=service),
                fix="`pip install keyring`, or write `keyring: disabled` (ENVBUILDER_KEYRING=disabled)",
            ) from cause
        except TimeoutError:
            # It may wait for somebody who unlocks it.
            return ""
        return finished.stdout.decode(errors="replace").rstrip("\r\n") if finished.ok else ""


def _own(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
