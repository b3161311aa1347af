"""One entry of a vulnerability database in OSV's format, and whether a version is affected by it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from debian.debian_support import version_compare
from packaging.version import InvalidVersion, Version

from envbuilder.audit import cvss

if TYPE_CHECKING:
    from collections.abc import Iterable

Rating = Literal["critical", "high", "medium", "low", "unknown"]

_NAMED: Final[dict[str, Rating]] = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}
_RATINGS: Final[tuple[Rating, ...]] = ("critical", "high", "medium", "low", "unknown")
_SCORES: Final[tuple[tuple[float, Rating], ...]] = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
_PREFERRED: Final = ("CVE-", "GHSA-", "PYSEC-", "DSA-", "DLA-")
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """What is known of one vulnerability of one package."""

    id: str
    aliases: tuple[str, ...]
    summary: str
    rating: Rating
    versions: frozenset[str]
    """Those that are affected, named one by one."""

    ranges: tuple[tuple[tuple[str, str], ...], ...]
    """Events in their order: `introduced`, `fixed`, `last_affected`, each with a version."""

    @classmethod
    def parse(cls, value: dict[str, Any], ecosystem: str, name: str) -> Advisory:
        """Read what an entry says of one package; raises ValueError, KeyError, TypeError where it is malformed."""
        affected = [one for one in value.get("affected") or () if is_of(one, ecosystem, name)]
        versions = {str(one) for item in affected for one in item.get("versions") or ()}
        ranges = [
            tuple((str(kind), str(version)) for event in one["events"] for kind, version in event.items())
            for item in affected
            for one in item.get("ranges") or ()
            if one.get("type") in {"ECOSYSTEM", "SEMVER"}
        ]
        return cls(
            id=_name(value["id"]),
            aliases=tuple(
                sorted({_name(one) for one in (*(value.get("aliases") or ()), *(value.get("upstream") or ()))})
            ),
            summary=_line(value.get("summary") or value.get("details") or ""),
            rating=_rating(value, affected),
            versions=frozenset(versions),
            ranges=tuple(ranges),
        )

    def affects(self, version: str, *, is_debian: bool) -> bool:
        """Tell whether the version is one of the affected."""
        order: Any = _Debian if is_debian else _Python
        try:
            here = order(version)
            if any(_equals(one, here, order) for one in self.versions):
                return True
            return any(_within(here, events, order) for events in self.ranges)
        except (InvalidVersion, ValueError):
            return version in self.versions

    @property
    def fixes(self) -> tuple[str, ...]:
        """The versions in which it is fixed."""
        return tuple(text for events in self.ranges for kind, text in events if kind == "fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """One vulnerability under all its names: databases know the same by several."""

    names: tuple[str, ...]
    """The best known first."""

    summary: str
    rating: Rating
    fixed: str | None


def merged(advisories: Iterable[Advisory], version: str, *, is_debian: bool) -> tuple[Vulnerability, ...]:
    """Return the advisories that affect the version, those that share a name as one."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for one in advisories:
        if not one.affects(version, is_debian=is_debian):
            continue
        names, members = {one.id, *one.aliases}, [one]
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names |= group[0]
            members += group[1]
        groups.append((names, members))
    return tuple(sorted((_joined(*group, version, is_debian=is_debian) for group in groups), key=lambda one: one.names))


def _joined(names: set[str], members: list[Advisory], version: str, *, is_debian: bool) -> Vulnerability:
    summaries = sorted((one.summary for one in members if one.summary), key=len)
    return Vulnerability(
        names=tuple(sorted(names, key=lambda name: (_preference(name), name))),
        summary=summaries[0] if summaries else "",
        rating=min((one.rating for one in members), key=_RATINGS.index),
        fixed=_lowest((fix for one in members for fix in one.fixes), version, is_debian=is_debian),
    )


def _lowest(fixes: Iterable[str], version: str, *, is_debian: bool) -> str | None:
    """Return the lowest of the versions above this one."""
    order: Any = _Debian if is_debian else _Python
    best: str | None = None
    for text in fixes:
        try:
            is_above = order(version) < order(text)
            if is_above and (best is None or order(text) < order(best)):
                best = text
        except (InvalidVersion, ValueError):
            continue
    return best


def is_of(affected: object, ecosystem: str, name: str) -> bool:
    """Tell whether an entry's member `affected` is about this package."""
    package = affected.get("package") if isinstance(affected, dict) else None
    return isinstance(package, dict) and package.get("ecosystem") == ecosystem and package.get("name") == name


def _preference(name: str) -> int:
    return next((index for index, prefix in enumerate(_PREFERRED) if name.startswith(prefix)), len(_PREFERRED))


def _rating(value: dict[str, Any], affected: list[dict[str, Any]]) -> Rating:
    scores = [
        score
        for one in (*(value.get("severity") or ()), *(one for item in affected for one in item.get("severity") or ()))
        if (score := cvss.base_score(str(one.get("score")))) is not None
    ]
    if scores:
        return next((rating for least, rating in _SCORES if max(scores) >= least), "unknown")
    specific = value.get("database_specific")
    named = str(specific.get("severity")) if isinstance(specific, dict) else ""
    return _NAMED.get(named.upper(), "unknown")


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _LONGEST:
        message = "not the name of a vulnerability"
        raise ValueError(message)
    return value


def _line(value: object) -> str:
    first = next(iter(str(value).strip().splitlines()), "")
    return "".join(one for one in first if one.isprintable())[:_LONGEST]


class _Debian:
    """A version of Debian's."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Debian) -> bool:
        return bool(version_compare(self.text, other.text) < 0)


class _Python(Version):
    """A version of the index."""


def _equals(text: str, here: Any, order: Any) -> bool:  # noqa: ANN401 - one of the two orders
    try:
        other = order(text)
    except (InvalidVersion, ValueError):
        return False
    return not here < other and not other < here


def _within(here: Any, events: tuple[tuple[str, str], ...], order: Any) -> bool:  # noqa: ANN401 - same
    """Tell what the last event at or below the version made of it."""
    is_affected = False
    for kind, text in events:
        if kind == "introduced":
            is_affected = is_affected or text == "0" or not here < order(text)
        elif (kind == "fixed" and not here < order(text)) or (kind == "last_affected" and order(text) < here):
            is_affected = False
    return is_affected
