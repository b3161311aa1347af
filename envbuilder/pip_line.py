"""One line of a pip list, told apart: a requirement, an option, or a problem. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from envbuilder.errors import Problem, Source
from envbuilder.fields import Stated
from envbuilder.problems import shown
from envbuilder.requirement import Requirement, read
from envbuilder.secret import MAX_LENGTH, Secret, redact

_OPTIONS: Final = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
    "--pypi-url": "--index-url",
}
_WITH_VALUE: Final = frozenset(
    {
        *_OPTIONS.values(),
        "--extra-index-url",
        "--trusted-host",
        "--no-binary",
        "--only-binary",
        "--use-feature",
    }
)
_FLAGS: Final = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes", "--use-pep517"})
_PER_REQUIREMENT: Final = frozenset({"--hash", "--global-option", "--install-option", "--config-settings"})
_COMMENT: Final = re.compile(r"(^|\s)#.*$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Stated[str]):
    """A line as it was written, without credentials, and where it stands."""

    secret: Secret | None = None
    """The whole line, where it holds credentials."""

    @classmethod
    def of(cls, text: str, *, source: Source) -> Line:
        """Take the credentials out of `text`."""
        secret = Secret.find(text)
        return cls(value=text if secret is None else secret.shown, source=source, secret=secret)

    @property
    def raw(self) -> str:
        """The line with its credentials."""
        return self.value if self.secret is None else self.secret.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PipOption:
    """An option of pip in a list of requirements: something to decide on, never passed through."""

    name: str
    """The long spelling, such as `--extra-index-url`."""
    value: str
    """Without credentials; empty for a flag."""
    secret: Secret | None = None
    """The value, where it holds credentials."""
    written: str
    source: Source


PipLine: TypeAlias = Requirement | PipOption | Problem


def classify(line: Line) -> tuple[PipLine, ...]:
    """Tell what one line of a pip list is; empty for a comment or a blank line, several for several options."""
    text, raw = (_COMMENT.sub("", one).strip() for one in (line.value, line.raw))
    if not text:
        return ()
    if not text.replace("\t", " ").isprintable() or len(text) > MAX_LENGTH:
        return (
            Problem(
                what=f"`{shown(text)}` holds control characters or is too long for one requirement",
                where=line.source,
                fix="write one requirement per line, in plain characters",
            ),
        )
    if text.startswith("-"):
        return _options(text, raw, source=line.source)
    return (read(text, raw, source=line.source),)


def _options(text: str, raw: str, *, source: Source) -> tuple[PipLine, ...]:
    words = list(zip(text.split(), raw.split(), strict=False))
    found: list[PipLine] = []
    while words:
        try:
            name, value, secret = _option(words)
        except _NotAnOptionError as error:
            return (*found, Problem(what=str(error), where=source, fix=error.fix))
        option = PipOption(name=name, value=value, secret=secret, written=text, source=source)
        if name == "--editable":
            found += [option, read(value, value if secret is None else secret.value, source=source)]
        else:
            found.append(option)
    return tuple(found)


class _NotAnOptionError(Exception):
    """Says which word is not an option, and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def _option(words: list[tuple[str, str]]) -> tuple[str, str, Secret | None]:
    """Take one option and its value from the front of `words`, each a word without and with its credentials."""
    word, raw = words.pop(0)
    name, equals, value = _split(word)
    _, _, raw_value = _split(raw)
    name = _OPTIONS.get(name, name)
    if name in _FLAGS and not equals:
        return name, "", None
    if name not in _WITH_VALUE:
        near = difflib.get_close_matches(name, sorted(_WITH_VALUE | _FLAGS | _PER_REQUIREMENT), n=1)
        raise _NotAnOptionError(
            f"`{shown(name)}` is not an option that a list of requirements may hold",
            f"did you mean `{near[0]}`?" if near else "remove the line",
        )
    if not equals and words:
        value, raw_value = words.pop(0)
    value, raw_value = value.strip("'\""), raw_value.strip("'\"")
    if not value:
        raise _NotAnOptionError(f"`{name}` has no value", f"write `{name} VALUE`")
    # What looks like credentials only as a value of its own, such as `user:password@host`.
    value = redact(value)
    return name, value, Secret(shown=value, value=raw_value) if value != raw_value else None


def _split(word: str) -> tuple[str, str, str]:
    name, equals, value = word.partition("=")
    if not name.startswith("--") and len(name) > 2:  # noqa: PLR2004 `-rfile` is `-r file`
        name, equals, value = word[:2], "=", word[2:].removeprefix("=")
    return name, equals, value
