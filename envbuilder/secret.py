"""Texts that hold credentials: kept whole for the program that needs them, shown without. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_LENGTH: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A text with credentials in it, such as a URL with a password."""

    shown: str
    """The same text with `***` in place of the credentials."""
    value: str = field(repr=False)

    @classmethod
    def find(cls, text: str) -> Secret | None:
        """Return `text` as a secret where it holds credentials, else None."""
        shown = redact(text)
        return cls(shown=shown, value=text) if shown != text else None


def redact(text: str) -> str:
    """Return `text` with the credentials of every URL in it replaced by `***`.

    White space is never part of what is replaced: the words of the result stand for the words of `text`.
    """
    # What is too long to be read in bounded time is not shown either.
    if len(text) > MAX_LENGTH:
        return "*" * (MAX_LENGTH + 1)
    # A URL may hold another one: a proxy's, or the next of a list.
    cleaned = re.sub(
        r"(git\+[a-z]{1,5})?://((?:(?!://)[^\s'\"])*)",
        lambda found: f"{found[1] or ''}://{_redact_authority(found[2], is_repository=found[1] is not None)}",
        text,
    )
    # `NAME:TAG@sha256:…` is an image.
    cleaned = re.sub(r"(^|[\s=+]|//)[^\s/@:=+]{1,1000}:[^\s/@]{1,1000}@(?!sha256:)(?=[^\s])", r"\1***@", cleaned)
    # A token of conda's servers behind a host that stands without a scheme; `./t/NAME.whl` is a path.
    return re.sub(r"(?<![\w./-])(\w[\w-]{0,62}(?:\.[\w-]{1,63}){1,9}(?::\d{1,5})?/t/)[^/\s]+", r"\1***", cleaned)


def printable(text: str) -> str:
    """Return `text` without control characters."""
    return "".join(character if character.isprintable() else "�" for character in text)


def visible(text: str) -> str:
    """Return `text` fit for people: without credentials, and without control characters."""
    return printable(redact(text))


def _redact_authority(rest: str, *, is_repository: bool) -> str:
    """Redact what follows `://`: user and password, conda's `/t/TOKEN`, and a query (signatures, tokens)."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # `HOST:PORT/PATH@REF`; elsewhere an `@` in the path is more likely the end of a password that has a `/`.
    is_at_ref = is_repository and re.search(r"[^:]:\d{1,5}$", authority) is not None
    if "@" in authority:
        user, _, host = authority.rpartition("@")
        rest = (authority if user == "git" else f"***@{host}") + rest[len(authority) :]
    elif re.search(r":(?!\d+$)", authority.rpartition("]")[2]) or (":" in authority and "@" in rest and not is_at_ref):
        # A password with an unquoted `/`, `?` or `#` in it ends the authority early.
        rest = f"***@{rest.rpartition('@')[2]}" if "@" in rest else "***"
    rest = re.sub(r"/t/[^/?#]+", "/t/***", rest)
    return re.sub(r"\?[^#]*", "?***", rest)
