"""A package that is asked for in the words of PEP 508, or by the place it is fetched from.

Pure. Credentials are taken out of a line before anything else looks at it; a URL that had some is kept as a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    canonicalize_version,
    is_normalized_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.problems import shown
from envbuilder.secret import Secret, redact

if TYPE_CHECKING:
    from packaging.specifiers import Specifier

_ARCHIVES: Final = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HASH: Final = re.compile(r"(sha256|sha384|sha512):[0-9a-f]+")
_ARBITRARY_VERSION: Final = re.compile(r"[A-Za-z0-9.+!_-]+")
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+)://(?P<host>[^/?#]+)(?P<path>[^#]*)(?:#(?P<fragment>.*))?")
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/?#@!*+,=%&\[\]-]+")
_SCHEMES: Final = ("https", "http", "git+https", "git+http", "git+ssh")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]+)?")
_REPOSITORY: Final = re.compile(r"(git|hg|svn|bzr)\+", re.IGNORECASE)
_NAMED: Final = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^\]]*\])?\s*@")
_EXTRAS: Final = re.compile(r"(?P<place>.*?)(?P<extras>\[[A-Za-z0-9._, -]*\])?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that is asked for, in the words of PEP 508."""

    name: NormalizedName
    extras: tuple[str, ...] = ()
    specifier: str = ""
    """Sorted and without spaces, such as `<3,>=2.2`."""
    marker: str | None = None
    url: str | None = None
    """Where it is to be fetched from (`name @ url`), without credentials: https, or a Git repository."""
    secret: Secret | None = None
    """The same URL with its credentials, where it had some."""
    path: str | None = None
    """A wheel that lies in the model directory, relative to that."""
    hashes: tuple[str, ...] = ()
    """The only artifacts that are accepted (`sha256:…`); empty means any."""
    written: str
    """The line as it was written, without credentials."""
    source: Source

    @classmethod
    def parse(cls, text: str, *, source: Source) -> Requirement:
        """Read one requirement such as `requests[socks]>=2; python_version > "3.0"`; raise `InvalidFileError`."""
        found = read(redact(text), text, source=source)
        if isinstance(found, Problem):
            raise InvalidFileError((found,))
        return found

    @property
    def is_direct(self) -> bool:
        """Whether it is fetched from one place, not looked up in an index."""
        return self.url is not None or self.path is not None

    @property
    def text(self) -> str:
        """The line in its one canonical spelling, without hashes."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        place = f" @ {self.url or f'./{self.path}'}" if self.is_direct else self.specifier
        marker = f"{' ' if self.is_direct else ''}; {self.marker}" if self.marker else ""
        return f"{self.name}{extras}{place}{marker}"

    @property
    def meaning(self) -> str:
        """What is compared: equal for `numpy==1.0` and `NumPy == 1.0.0`."""
        clauses = ParsedRequirement(f"x{self.specifier}").specifier
        specifier = ",".join(sorted(_canonical(clause) for clause in clauses))
        hashes = "".join(f" --hash={digest}" for digest in self.hashes)
        place = self.url if self.path is None else f"./{self.path}"
        return f"{self.name}[{','.join(self.extras)}]{specifier} @ {place};{self.marker}{hashes}"


class _RefusedError(Exception):
    """Says what is wrong with a requirement, and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


_NAME_IT: Final = "write `name @ URL`, or `name==version` of a released version"


def read(text: str, raw: str, *, source: Source) -> Requirement | Problem:
    """Read one requirement: `text` is without credentials, `raw` the same with them."""
    body, *options = re.split(r"\s(?=--)", text.strip())
    raw_body = re.split(r"\s(?=--)", raw.strip())[0]
    try:
        _check_plain(text)
        hashes = [_hash(option) for option in options]
        parsed = _parsed(_with_name(body))
        place = _Place.of(parsed.url) if parsed.url is not None else _Place()
        secret = None
        if place.url is not None and raw_body != body:
            raw_url = _Place.of(str(_parsed(_with_name(raw_body)).url), checked=False).url
            secret = Secret(shown=place.url, value=str(raw_url))
    except _RefusedError as error:
        return Problem(what=str(error), where=source, fix=error.fix)
    except RecursionError:
        return Problem(what="a marker is nested too deep", where=source, fix="write a simpler marker")
    return Requirement(
        name=canonicalize_name(parsed.name),
        extras=tuple(sorted({canonicalize_name(extra) for extra in parsed.extras})),
        specifier=",".join(sorted(str(clause) for clause in parsed.specifier)),
        marker=str(parsed.marker) if parsed.marker is not None else None,
        url=place.url,
        secret=secret,
        path=place.path,
        hashes=tuple(sorted({*hashes, *place.hashes})),
        written=text,
        source=source,
    )


def is_place(text: str) -> bool:
    """Whether `text` names a place (a URL, a repository, a path) without saying which package is there."""
    if _NAMED.match(text):
        return False
    place = text.partition(";")[0].strip()
    return bool(
        _SCHEME.match(place)
        or place.startswith((".", "/", "~"))
        or "/" in place
        or _without_extras(place)[0].lower().endswith(_ARCHIVES)
    )


def _check_plain(text: str) -> None:
    if not text.replace("\t", " ").isprintable():
        raise _RefusedError(
            f"`{shown(text)}` holds control characters", "write one requirement per line, in plain characters"
        )


def _hash(option: str) -> str:
    name, _, value = re.sub(r"\s+", "=", option.strip(), count=1).partition("=")
    if name != "--hash" or not _HASH.fullmatch(value):
        raise _RefusedError(
            f"`{shown(option)}` is not accepted after a requirement",
            "only `--hash=sha256:…` may follow; remove the rest",
        )
    return value


def _parsed(body: str) -> ParsedRequirement:
    if "\\" in body.partition(";")[2]:
        # `packaging` would take `\x0a` for the end of a line.
        raise _RefusedError(f"`{shown(body)}` has a backslash in its marker", "write the marker without it")
    try:
        parsed = ParsedRequirement(body)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise _RefusedError(
            f"`{shown(redact(body))}` is not a requirement: {shown(redact(reason), limit=200)}",
            "write `name`, `name==version` or `name>=low,<high`",
        ) from error
    for name in (parsed.name, *parsed.extras):
        # `packaging` reads names with `_` at the end, and not what it writes for them.
        if not is_normalized_name(canonicalize_name(name)):
            raise _RefusedError(f"`{shown(name)}` is not a name", "end the name with a letter or a digit")
    # `int()` refuses to read thousands of digits, and no version has them.
    if re.search(r"\d{100}", f"{parsed.specifier} {parsed.marker}"):
        raise _RefusedError("a number of more than 100 digits is not part of a version", "write `name==version`")
    for clause in parsed.specifier:
        if clause.operator == "===" and not _ARBITRARY_VERSION.fullmatch(clause.version):
            raise _RefusedError(f"`{shown(clause.version)}` is not a version", "write `name==version`")
    return parsed


def _with_name(body: str) -> str:
    """Put the name of the package before a bare place, by PEP 508: `name[extras] @ place ; marker`."""
    if not is_place(body):
        return body
    whole, semicolon, marker = body.partition(";")
    place, extras = _without_extras(whole.strip())
    file = re.split(r"[?#]", place, maxsplit=1)[0].rpartition("/")[2].replace("%2B", "+")
    egg = re.search(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)(\[[A-Za-z0-9._, -]*\])?", place)
    name = ""
    try:
        if egg is not None:
            name, extras = egg[1], extras or egg[2] or ""
        elif file.lower().endswith(".whl"):
            name = parse_wheel_filename(file)[0]
        elif not place.startswith(("git", "hg", "svn", "bzr")):
            name = parse_sdist_filename(file)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        pass
    if not name:
        is_url = _REPOSITORY.match(place) or re.match(r"[A-Za-z0-9+.-]*://", place)
        if not is_url or place.lower().startswith("file:"):
            _path(place)
        raise _RefusedError(f"`{shown(redact(place))}` does not say which package is there", _NAME_IT)
    return f"{name}{extras} @ {place}" + (f" ; {marker}" if semicolon else "")


def _without_extras(place: str) -> tuple[str, str]:
    found = _EXTRAS.fullmatch(place)
    return (found["place"], found["extras"] or "") if found is not None else (place, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a package is fetched from."""

    url: str | None = None
    path: str | None = None
    hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, *, checked: bool = True) -> _Place:
        """Tell a URL from a path; `checked=False` takes credentials of any characters."""
        is_url = _REPOSITORY.match(text) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(//|[^/])", text)
        if not is_url or text.lower().startswith("file:"):
            return cls(path=_path(text))
        found = _URL.fullmatch(text)
        host = found["host"].rpartition("@")[2] if found is not None else ""
        if found is None or not _HOST.fullmatch(host) or (checked and not _URL_CHARACTERS.fullmatch(text)):
            hint = "write `git+ssh://git@HOST/PATH.git`" if text.startswith("git") else "quote what is special with `%`"
            raise _RefusedError(f"`{shown(redact(text))}` is not a URL that packages can be fetched from", hint)
        scheme = found["scheme"].lower()
        if scheme not in _SCHEMES:
            raise _RefusedError(
                f"packages are not fetched by `{shown(scheme)}:`", "offer the package by https, in Git or in an index"
            )
        user, at, _ = found["host"].rpartition("@")
        fragments = [part for part in (found["fragment"] or "").split("&") if part and not part.startswith("egg=")]
        hashes = tuple(part.replace("=", ":", 1) for part in fragments if _HASH.fullmatch(part.replace("=", ":", 1)))
        kept = "&".join(part for part in fragments if part.replace("=", ":", 1) not in hashes)
        url = f"{scheme}://{user}{at}{host.lower()}{found['path']}{'#' if kept else ''}{kept}"
        return cls(url=url, hashes=hashes)


def _path(text: str) -> str:
    """Return a wheel's path relative to the model directory; everything else is refused."""
    path = re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE)
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith(("/", "~")) or "\\" in path or ".." in parts or ":" in path:
        raise _RefusedError(
            f"`{shown(text)}` is a path outside the model directory",
            "put the wheel into the model directory, or publish the package to an index",
        )
    if not path.lower().endswith(".whl"):
        raise _RefusedError(
            f"`{shown(text)}` is a path of something that is not a wheel",
            "build a wheel of it and put that into the model directory, or publish it to an index",
        )
    return "/".join(parts)


def _canonical(clause: Specifier) -> str:
    if clause.operator == "===":
        return str(clause)
    version = canonicalize_version(clause.version, strip_trailing_zero=clause.operator != "~=")
    return f"{clause.operator}{version}"
