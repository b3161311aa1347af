"""A Git repository that a requirement names, at a branch, a tag or a commit. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envbuilder.errors import InvalidFileError
from envbuilder.problems import shown
from envbuilder.secret import redact
from envbuilder.source_tree import subdirectory_of

if TYPE_CHECKING:
    from envbuilder.errors import Source
    from envbuilder.secret import Secret

_SCHEMES: Final = ("https", "http", "ssh")
_HOST: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~/%+@,=-]+")
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+#@-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_FIX: Final = "write `name @ git+https://HOST/PATH.git@TAG`, or `…@COMMIT`"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRepository:
    """Where a source is, and at which point of its history."""

    url: str
    """As git is given it: without credentials; over ssh with the user."""

    ref: str | None = None
    """A branch, a tag, a whole or a short commit; None is what the server offers first."""

    subdirectory: str = ""
    host: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    """User and password, for http and https."""

    source: Source

    @classmethod
    def parse(cls, url: str, *, secret: Secret | None = None, source: Source) -> GitRepository:
        """Read `git+https://HOST/PATH@REF#subdirectory=DIR`; `secret` is the same with credentials.

        Raises InvalidFileError for another way to fetch, and for what git could take for an option.
        """
        try:
            return cls._parse(url, secret, source)
        except ValueError as cause:
            # What stands in brackets is no address.
            what = f"`{shown(redact(url))}` does not name a Git repository"
            raise InvalidFileError(what, where=source, fix=_FIX) from cause

    @classmethod
    def _parse(cls, url: str, secret: Secret | None, source: Source) -> GitRepository:
        place = redact(url)
        kind, plus, rest = url.partition("+")
        if kind.lower() != "git" or not plus:
            raise InvalidFileError(f"`{shown(place)}` is not a Git repository", where=source, fix=_FIX)
        parts = urlsplit(rest)
        if parts.scheme not in _SCHEMES:
            raise InvalidFileError(
                f"repositories are not fetched by `{shown(parts.scheme)}:`",
                where=source,
                fix="offer it by `git+https:` or `git+ssh:`",
            )
        path, at, ref = parts.path.rpartition("@")
        path, ref = (path, unquote(ref)) if at else (parts.path, "")
        host = parts.netloc.rpartition("@")[2].lower()
        is_ref = not ref or (_REF.fullmatch(ref) and ".." not in ref and "@{" not in ref)
        if not (_HOST.fullmatch(host) and _PATH.fullmatch(path) and is_ref and not (at and not ref)):
            raise InvalidFileError(f"`{shown(place)}` does not name a Git repository", where=source, fix=_FIX)
        login = _login(secret.value if secret is not None else rest)
        user = ""
        if parts.scheme == "ssh" and login is not None:
            if not _USER.fullmatch(login[0]):
                raise InvalidFileError(f"`{shown(place)}` has no user that ssh knows", where=source, fix=_FIX)
            user = f"{login[0]}@"
        return cls(
            url=f"{parts.scheme}://{user}{host}{path}",
            ref=ref or None,
            subdirectory=subdirectory_of(url),
            host=f"{parts.scheme}://{host}",
            login=login if parts.scheme != "ssh" else None,
            source=source,
        )

    @property
    def shown(self) -> str:
        """What people are told."""
        return f"git+{self.url}" + (f"@{self.ref}" if self.ref is not None else "")

    @property
    def commit(self) -> str | None:
        """The whole commit, where `ref` is one."""
        return self.ref if self.ref is not None and _COMMIT.fullmatch(self.ref) else None


def _login(url: str) -> tuple[str, str] | None:
    authority, at, _ = urlsplit(url.removeprefix("git+")).netloc.rpartition("@")
    user, _, password = authority.partition(":")
    # What people write before a host out of habit; over https it lets nobody in.
    is_habit = user == "git" and not password and not url.removeprefix("git+").startswith("ssh:")
    return (unquote(user), unquote(password)) if at and not is_habit else None
