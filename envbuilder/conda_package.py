"""Exact conda packages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote, urlsplit

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.digest import Digest

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_WORD: Final = re.compile(r"[A-Za-z0-9_.+!-]+\Z")
_FILENAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]*(\.conda|\.tar\.bz2)\Z")
_MD5: Final = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaPackage:
    """One exact conda package, as its channel describes it."""

    name: str
    version: str
    build: str
    build_number: int = 0
    subdir: str
    """That of its channel's folder; `noarch` for packages that run everywhere."""

    url: str
    """Without credentials and tokens, and the channel's own where a mirror served it."""

    sha256: Digest
    md5: str | None = None
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    size: int | None = None
    license: str | None = None
    noarch: Literal["python", "generic"] | None = None
    python_site_packages_path: str | None = None
    """Where a Python keeps its packages, when it says so."""

    purls: tuple[str, ...] | None = None
    """What it is called elsewhere, when its channel says so: `pkg:pypi/torch@2.3.1`."""

    @property
    def filename(self) -> str:
        """The name of the package's file."""
        return unquote(PurePosixPath(urlsplit(self.url).path).name)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CondaPackage:
        """Read a record of repodata.json with its `url`; raises ValueError when it cannot be one.

        Names, versions and builds become names of files, so they are held to conda's grammar.
        """
        noarch = record.get("noarch")
        size = record.get("size")
        found = cls(
            name=_checked(_NAME, record.get("name"), "name"),
            version=_checked(_WORD, record.get("version"), "version"),
            build=_checked(_WORD, record.get("build"), "build string"),
            build_number=int(record.get("build_number") or 0),
            subdir=_checked(_NAME, record.get("subdir"), "subdir"),
            url=str(record.get("url")),
            sha256=digest.of_hex(str(record.get("sha256") or "")),
            md5=_checked(_MD5, record["md5"], "md5") if record.get("md5") is not None else None,
            depends=_texts(record.get("depends")),
            constrains=_texts(record.get("constrains")),
            size=size if isinstance(size, int) else None,
            license=str(record["license"]) if record.get("license") is not None else None,
            noarch="python" if noarch == "python" else "generic" if noarch else None,
            python_site_packages_path=record.get("python_site_packages_path"),
            purls=tuple(sorted(_texts(record["purls"]))) if record.get("purls") is not None else None,
        )
        _checked(_FILENAME, found.filename, "file name")
        return found


def _checked(grammar: re.Pattern[str], value: object, what: str) -> str:
    text = str(value)
    if not grammar.match(text):
        message = f"{text!r} is not a {what}"
        raise ValueError(message)
    return text


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
