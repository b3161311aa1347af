"""Which Python is asked for, in the spellings of conda, PEP 440 and plain version numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from envbuilder.errors import InvalidFileError
from envbuilder.fields import Stated
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.errors import Source
    from envbuilder.problems import Problems

MAX_LENGTH: Final = 200

# Numbers are bounded because `int()` refuses to read thousands of digits, and no Python has them.
_CLAUSE: Final = re.compile(
    r"(?P<operator>===|==|!=|>=|<=|~=|=|>|<|)"
    r"(?P<version>\d{1,6}(?:\.\d{1,6}){0,3}(?:(?:a|b|rc|c)\d{1,3})?)"
    r"(?P<star>(?:\.?\*)?)",
    re.ASCII,
)
_FIX: Final = "write a version such as `3.11.7`, `3.11`, `3.11.*` or `>=3.10,<3.11`"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clause:
    """One comparison, such as `>=3.8`."""

    operator: str
    version: Version
    prefix: bool
    """Whether every version that begins with this one is meant."""

    def __str__(self) -> str:
        star = ".*" if self.prefix and len(self.version.release) < 3 else ""  # noqa: PLR2004
        return f"{self.operator}{self.version}{star}"

    def allows(self, version: Version) -> bool:  # noqa: PLR0911 one line per operator reads best
        same = _begins_with(version, self.version) if self.prefix else version == self.version
        match self.operator:
            case "==":
                return same
            case "!=":
                return not same
            case ">=":
                return version >= self.version
            case "<=":
                return version <= self.version
            case ">":
                return version > self.version
            case "<":
                return version < self.version
            case _:
                return (
                    version >= self.version
                    and version.release[: len(self.version.release) - 1] == (self.version.release[:-1])
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonRequest:
    """A set of Python versions, as somebody wrote it."""

    text: str
    """As written, without spaces; a leading single `=` is dropped, because it adds nothing."""
    alternatives: tuple[tuple[_Clause, ...], ...]
    """Any of these must hold; inside one, every clause must hold."""

    @classmethod
    def parse(cls, text: str, *, source: Source | None = None) -> PythonRequest:
        """Read `3.11.7`, `3.8`, `3.8.*`, `>=3.8,<3.9`, `==3.9`, `~=3.10`, `3.8|3.9`, `3.10.0rc1` or `*`.

        As in conda, a version without an operator stands for every version that begins with it: `3.8` is any 3.8.x.
        """
        # The length is bounded because reading takes time with its square.
        if len(text) > MAX_LENGTH:
            raise InvalidFileError(f"`{shown(text, limit=60)}` is not a Python version", where=source, fix=_FIX)
        compact = re.sub(r"\s*([,|<>=!~]+)\s*", r"\1", text.strip())
        if compact in {"", "*", "=*", "==*"}:
            return cls(text="*", alternatives=((),))
        alternatives = tuple(
            tuple(_clause(part, text=text, source=source) for part in alternative.split(","))
            for alternative in compact.split("|")
        )
        request = cls(text=re.sub(r"^=(?=\d)", "", compact), alternatives=alternatives)
        if not any(request._allows(version) for version in request._witnesses()):
            raise InvalidFileError(f"no Python satisfies `{compact}`", where=source, fix=_FIX)
        return request

    @property
    def exact(self) -> str | None:
        """The one version that is allowed, such as `3.11.7`, or None."""
        pins = {self._pin(alternative) for alternative in self.alternatives}
        return pins.pop() if len(pins) == 1 else None

    @property
    def minor(self) -> str | None:
        """The one minor version that is allowed, such as `3.11`, or None."""
        found = None
        for version in self._witnesses():
            if self._allows(version):
                minor = f"{version.major}.{version.minor}"
                # Two are as good as all: a long request has a million witnesses.
                if found not in {None, minor}:
                    return None
                found = minor
        return found

    @property
    def meaning(self) -> str:
        """What is compared: equal for `3.8`, `=3.8` and `3.8.*`."""
        return "|".join(sorted({",".join(sorted({str(clause) for clause in one})) for one in self.alternatives}))

    def allows(self, version: str) -> bool:
        """Whether `version` satisfies this; a pre-release does only where the request names one."""
        try:
            return self._allows(Version(version))
        except InvalidVersion:
            return False

    def allows_minor(self, minor: str) -> bool:
        """Whether some micro version of `minor` (`3.11`) satisfies this."""
        try:
            wanted = Version(minor).release[:2]
        except InvalidVersion:
            return False
        versions = (Version(f"{minor}.{micro}") for micro in self._numbers(2))
        return any(self._allows(version) for version in versions) or any(
            self._allows(clause.version) and _padded(clause.version)[:2] == wanted for clause in self._clauses()
        )

    def _allows(self, version: Version) -> bool:
        if version.is_prerelease and not any(clause.version.is_prerelease for clause in self._clauses()):
            return False
        return any(all(clause.allows(version) for clause in alternative) for alternative in self.alternatives)

    def _clauses(self) -> Iterator[_Clause]:
        for alternative in self.alternatives:
            yield from alternative

    def _numbers(self, position: int) -> set[int]:
        """Numbers at `position` of a version at which the answer of some clause can change."""
        named = {_padded(clause.version)[position] for clause in self._clauses()}
        around = {number + step for number in named for step in (-1, 0, 1)}
        return {number for number in around if number >= 0} | {0, 999}

    def _witnesses(self) -> Iterator[Version]:
        """Enough versions to tell which minor versions are allowed at all."""
        for clause in self._clauses():
            yield clause.version
        for major in self._numbers(0) - {0, 999} or {3}:
            for minor in self._numbers(1):
                for micro in self._numbers(2):
                    yield Version(f"{major}.{minor}.{micro}")

    @staticmethod
    def _pin(alternative: tuple[_Clause, ...]) -> str | None:
        for clause in alternative:
            version = clause.version
            is_whole = len(version.release) > 2  # noqa: PLR2004
            if clause.operator == "==" and (is_whole or not clause.prefix):
                candidate = "".join(map(str, version.pre or ()))
                return str(version) if is_whole else ".".join(map(str, _padded(version))) + candidate
        return None


def read(stated: Stated[str] | None, problems: Problems) -> Stated[PythonRequest] | None:
    """Read what somebody states, None where nobody does; what is wrong with it is added to `problems`."""
    if stated is None:
        return None
    try:
        return Stated(value=PythonRequest.parse(stated.value, source=stated.source), source=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None


def _clause(part: str, *, text: str, source: Source | None) -> _Clause:
    found = _CLAUSE.fullmatch(part)
    if found is None:
        raise InvalidFileError(f"`{shown(text, limit=60)}` is not a Python version", where=source, fix=_FIX)
    operator, star = found["operator"], bool(found["star"])
    version = Version(found["version"])
    if operator == "~=" and len(version.release) == 1:
        raise InvalidFileError(
            f"`{shown(text, limit=60)}` is not a Python version", where=source, fix="`~=` needs `X.Y`"
        )
    # conda reads `>=3.8.*` as `>=3.8`; only an equality has prefixes.
    prefix = operator in {"", "="} or (star and operator in {"==", "===", "!="})
    return _Clause(
        operator="==" if operator in {"", "=", "==="} else operator,
        version=version,
        prefix=prefix and not version.is_prerelease,
    )


def _padded(version: Version) -> tuple[int, int, int]:
    major, minor, micro, *_ = (*version.release, 0, 0)
    return major, minor, micro


def _begins_with(version: Version, prefix: Version) -> bool:
    count = len(prefix.release)
    return (*version.release, 0, 0, 0)[:count] == prefix.release
