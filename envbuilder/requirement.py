"""One line of a pip list, told apart: a requirement, an option, a reference to a place, or a problem.

Pure. Credentials are taken out of a line before anything else looks at it, so no value here ever holds one.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import NormalizedName, canonicalize_name, canonicalize_version

from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.problems import shown

if TYPE_CHECKING:
    from packaging.specifiers import Specifier

MAX_LINE: Final = 20_000

_OPTIONS: Final = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
}
_WITH_VALUE: Final = frozenset(
    {
        *_OPTIONS.values(),
        "--extra-index-url",
        "--trusted-host",
        "--no-binary",
        "--only-binary",
        "--use-feature",
        "--pypi-url",
    }
)
_FLAGS: Final = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes", "--use-pep517"})
_PER_REQUIREMENT: Final = frozenset({"--hash", "--global-option", "--install-option", "--config-settings"})
_ARCHIVES: Final = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_VCS: Final = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HASH: Final = re.compile(r"(sha256|sha384|sha512):[0-9a-f]+")
_COMMENT: Final = re.compile(r"(^|\s)#.*$")
_ARBITRARY_VERSION: Final = re.compile(r"[A-Za-z0-9.+!_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that is asked for, in the words of PEP 508."""

    name: NormalizedName
    extras: tuple[str, ...] = ()
    specifier: str = ""
    """Sorted and without spaces, such as `<3,>=2.2`."""
    marker: str | None = None
    url: str | None = None
    """Where it is to be fetched from (`name @ url`), without credentials."""
    hashes: tuple[str, ...] = ()
    """The only artifacts that are accepted (`sha256:…`); empty means any."""
    written: str
    """The line as it was written, without credentials."""
    source: Source

    @classmethod
    def parse(cls, text: str, *, source: Source) -> Requirement:
        """Read one requirement such as `requests[socks]>=2; python_version > "3.0"`."""
        found = classify(text, source=source)
        problems = tuple(item for item in found if isinstance(item, Problem))
        if problems:
            raise InvalidFileError(problems)
        if len(found) == 1 and isinstance(found[0], cls):
            return found[0]
        raise InvalidFileError(
            f"`{shown(redact(text))}` is not a requirement", where=source, fix="write `name==version`"
        )

    @property
    def text(self) -> str:
        """The line in its one canonical spelling, without hashes."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        place = f" @ {self.url}" if self.url else self.specifier
        marker = f"{' ' if self.url else ''}; {self.marker}" if self.marker else ""
        return f"{self.name}{extras}{place}{marker}"

    @property
    def meaning(self) -> str:
        """What is compared: equal for `numpy==1.0` and `NumPy == 1.0.0`."""
        clauses = ParsedRequirement(f"x{self.specifier}").specifier
        specifier = ",".join(sorted(_canonical(clause) for clause in clauses))
        hashes = "".join(f" --hash={digest}" for digest in self.hashes)
        return f"{self.name}[{','.join(self.extras)}]{specifier} @ {self.url};{self.marker}{hashes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipOption:
    """An option of pip in a list of requirements: something to decide on, never passed through."""

    name: str
    """The long spelling, such as `--extra-index-url`."""
    value: str
    """Without credentials; empty for a flag."""
    written: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectReference:
    """A place instead of a package's name: a URL, a repository or a path."""

    kind: Literal["url", "repository", "path"]
    location: str
    written: str
    source: Source


PipLine: TypeAlias = Requirement | PipOption | DirectReference | Problem


def classify(line: str, *, source: Source) -> tuple[PipLine, ...]:
    """Tell what one line of a pip list is; empty for a comment or a blank line, several for several options."""
    text = _COMMENT.sub("", redact(line)).strip()
    if not text:
        return ()
    if not text.replace("\t", " ").isprintable() or len(text) > MAX_LINE:
        return (
            Problem(
                what=f"`{shown(text)}` holds control characters or is too long for one requirement",
                where=source,
                fix="write one requirement per line, in plain characters",
            ),
        )
    if text.startswith("-"):
        return _options(text, source=source)
    reference = _direct_reference(text, source=source)
    return (reference or _requirement(text, source=source),)


def redact(text: str) -> str:
    """Return `text` with the credentials of every URL in it replaced by `***`."""
    # What is too long to be read in bounded time is not shown either; `classify` refuses it.
    if len(text) > MAX_LINE:
        return "*" * (MAX_LINE + 1)
    cleaned = re.sub(r"(?<=://)[^\s'\"]*", lambda found: _redact_authority(found[0]), text)
    cleaned = re.sub(r"(^|[\s=+])[^\s/@:=+]{1,1000}:[^\s/@]{1,1000}@(?=[^\s])", r"\1***@", cleaned)
    return re.sub(r"/t/[^/\s]+", "/t/***", cleaned)


def _redact_authority(rest: str) -> str:
    """Redact what follows `://`: user and password, and the values of a query (signatures, tokens)."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        user, _, host = authority.rpartition("@")
        rest = (authority if user == "git" else f"***@{host}") + rest[len(authority) :]
    elif re.search(r":(?!\d+$)", authority.rpartition("]")[2]) or (":" in authority and "@" in rest):
        # A password with an unquoted `/`, `?` or `#` in it ends the authority early.
        rest = f"***@{rest.rpartition('@')[2]}" if "@" in rest else "***"
    return re.sub(r"\?[^#]*", "?***", rest)


def _options(text: str, *, source: Source) -> tuple[PipLine, ...]:
    words = re.split(r"\s+", text)
    found: list[PipLine] = []
    while words:
        name, value, problem = _option(words)
        if problem is not None:
            return (*found, Problem(what=problem[0], where=source, fix=problem[1]))
        found.append(PipOption(name=name, value=_redact_value(value), written=text, source=source))
    return tuple(found)


def _option(words: list[str]) -> tuple[str, str, tuple[str, str] | None]:
    """Take one option and its value from the front of `words`."""
    word = words.pop(0)
    name, equals, value = word.partition("=")
    if not name.startswith("--") and len(name) > 2:  # noqa: PLR2004 `-rfile` is `-r file`
        name, equals, value = word[:2], "=", word[2:].removeprefix("=")
    name = _OPTIONS.get(name, name)
    if name in _FLAGS and not equals:
        return name, "", None
    if name not in _WITH_VALUE:
        near = difflib.get_close_matches(name, sorted(_WITH_VALUE | _FLAGS | _PER_REQUIREMENT), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "remove the line"
        return name, "", (f"`{shown(name)}` is not an option that a list of requirements may hold", hint)
    if not equals and words:
        value = words.pop(0)
    value = value.strip("'\"")
    return (name, value, None) if value else (name, "", (f"`{name}` has no value", f"write `{name} VALUE`"))


def _redact_value(value: str) -> str:
    """Redact `user:password@host`, which pip accepts without a scheme too."""
    return value if _SCHEME.search(value) or ":" not in value or "@" not in value else f"***@{value.rpartition('@')[2]}"


def _direct_reference(text: str, *, source: Source) -> DirectReference | None:
    location = text.partition(";")[0].strip()
    kind: Literal["url", "repository", "path"]
    if _VCS.match(location):
        kind = "repository"
    elif location.lower().startswith("file:"):
        kind = "path"
    elif _SCHEME.match(location):
        kind = "url"
    elif " @ " in location or re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?\s*@", location):
        return None
    elif location.startswith((".", "/", "~")) or "/" in location or location.lower().endswith(_ARCHIVES):
        kind = "path"
    else:
        return None
    return DirectReference(kind=kind, location=location, written=text, source=source)


def _requirement(text: str, *, source: Source) -> Requirement | Problem:
    body, *options = re.split(r" (?=--)", " ".join(text.split()))
    hashes = []
    for option in options:
        name, _, value = re.sub(r"\s+", "=", option, count=1).partition("=")
        if name != "--hash" or not _HASH.fullmatch(value):
            return Problem(
                what=f"`{shown(option)}` is not accepted after a requirement",
                where=source,
                fix="only `--hash=sha256:…` may follow; remove the rest",
            )
        hashes.append(value)
    try:
        parsed = ParsedRequirement(body)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        return Problem(
            what=f"`{shown(body)}` is not a requirement: {shown(reason, limit=200)}",
            where=source,
            fix="write `name`, `name==version` or `name>=low,<high`",
        )
    except RecursionError:
        return Problem(what="a marker is nested too deep", where=source, fix="write a simpler marker")
    for clause in parsed.specifier:
        if clause.operator == "===" and not _ARBITRARY_VERSION.fullmatch(clause.version):
            return Problem(
                what=f"`{shown(clause.version)}` is not a version", where=source, fix="write `name==version`"
            )
    return Requirement(
        name=canonicalize_name(parsed.name),
        extras=tuple(sorted({canonicalize_name(extra) for extra in parsed.extras})),
        specifier=",".join(sorted(str(clause) for clause in parsed.specifier)),
        marker=str(parsed.marker) if parsed.marker is not None else None,
        url=parsed.url,
        hashes=tuple(sorted(set(hashes))),
        written=text,
        source=source,
    )


def _canonical(clause: Specifier) -> str:
    if clause.operator == "===":
        return str(clause)
    version = canonicalize_version(clause.version, strip_trailing_zero=clause.operator != "~=")
    return f"{clause.operator}{version}"
