"""Names of images, by the grammar of the distribution project (reference/reference.go). Pure.

`python:3.11-slim` is short for `docker.io/library/python:3.11-slim`; both are read, the short one is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from envbuilder import digest as digests
from envbuilder.errors import InvalidFileError

if TYPE_CHECKING:
    from envbuilder.digest import Digest
    from envbuilder.errors import Source

DOCKER_HUB: Final = "docker.io"

_OFFICIAL: Final = "library/"
_LONGEST_REPOSITORY: Final = 255
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9]*:[a-fA-F0-9:]*\])(?::[0-9]+)?", re.ASCII)
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """Where an image is: registry, repository, and a tag, a digest or both."""

    registry: str
    """The host, with its port where it has one."""

    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, where: Source | None = None) -> ImageReference:
        """Read a reference as people write it; without tag and digest it means the tag `latest`.

        Raises InvalidFileError that says which part is wrong and what was expected there.
        """
        rest, at, hexdigest = text.partition("@")
        name, tag = _split_tag(rest)
        registry, repository = _split_registry(name)
        if not name or _IMAGE_ID.fullmatch(text):
            raise _wrong(text, "an image's name, such as `python:3.11-slim`, not its id or nothing", where)
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"`{registry}` to be a host, such as `registry.example` or `localhost:5000`", where)
        if not _REPOSITORY.fullmatch(repository):
            raise _wrong(
                text,
                f"`{repository}` to be lower-case letters and digits, separated by `.`, `_`, `__`, `-` or `/`",
                where,
            )
        if len(repository) > _LONGEST_REPOSITORY:
            raise _wrong(text, f"at most {_LONGEST_REPOSITORY} characters before the tag", where)
        if tag is not None and not _TAG.fullmatch(tag):
            raise _wrong(
                text,
                f"the tag `{tag}` to be up to 128 letters, digits, `_`, `.` and `-`, not starting with . or -",
                where,
            )
        if not at:
            return cls(registry=registry, repository=repository, tag=tag or "latest")
        try:
            pinned = digests.parse(hexdigest)
        except ValueError as cause:
            raise _wrong(text, "`sha256:` and 64 lower-case hex digits after `@`", where) from cause
        return cls(registry=registry, repository=repository, tag=tag or "", digest=pinned)

    @classmethod
    def parse_name_tag(cls, text: str, *, where: Source | None = None) -> ImageReference:
        """Read the name for a new image: as `parse`, but a digest cannot be chosen."""
        if "@" in text:
            raise _wrong(text, "NAME:TAG without a digest; the digest follows from the content", where)
        return cls.parse(text, where=where)

    def with_tag(self, tag: str) -> ImageReference:
        """Return the reference of another tag in the same repository; raises InvalidFileError for a bad tag."""
        if not _TAG.fullmatch(tag):
            raise _wrong(tag, "a tag: up to 128 letters, digits, `_`, `.` and `-`", None)
        return replace(self, tag=tag, digest=None)

    @property
    def name(self) -> str:
        """The short form without tag and digest, e.g. `python`."""
        if self.registry != DOCKER_HUB:
            return f"{self.registry}/{self.repository}"
        short = self.repository.removeprefix(_OFFICIAL)
        if "/" in short:
            short = self.repository
        # What reads back as another image is written in full: `docker.io/localhost/x` is not the host localhost.
        faithful = _split_registry(short) == (self.registry, self.repository)
        return short if faithful else f"{self.registry}/{self.repository}"

    @property
    def canonical(self) -> str:
        """The full form, e.g. `docker.io/library/python:3.11-slim`."""
        return f"{self.registry}/{self.repository}{self._suffix()}"

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _split_tag(text: str) -> tuple[str, str | None]:
    """Part `NAME:TAG`; a colon before a slash belongs to the registry's port."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, None
    return name, tag


def _split_registry(name: str) -> tuple[str, str]:
    """Part a name into registry and repository as docker does: the first component is a host when it looks like one."""
    first, slash, rest = name.partition("/")
    is_host = slash and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower())
    registry, repository = (first, rest) if is_host else (DOCKER_HUB, name)
    if registry in (DOCKER_HUB, f"index.{DOCKER_HUB}"):
        registry = DOCKER_HUB
        if "/" not in repository:
            repository = _OFFICIAL + repository
    return registry, repository


def _wrong(text: str, expected: str, where: Source | None) -> InvalidFileError:
    return InvalidFileError(
        f"`{text}` is not an image reference: expected {expected}",
        where=where,
        fix="write [REGISTRY/]REPOSITORY[:TAG][@sha256:…], e.g. `registry.example/team/churn:1`",
    )
