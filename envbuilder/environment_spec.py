"""The environment that is asked for: Python, packages and channels, each with the place that asks for it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.utils import NormalizedName

from envbuilder.fields import Stated
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.base_request import BaseRequest
    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.errors import Source
    from envbuilder.package_index import PackageIndex
    from envbuilder.pip_line import Line
    from envbuilder.python_request import PythonRequest
    from envbuilder.requirement import Requirement
    from envbuilder.route import Route
    from envbuilder.variable import Variable

__all__ = ["FIELDS", "Entry", "EnvironmentSpec", "Overridden", "Stated", "Unused"]

FIELDS: Final = (
    "environment",
    "python",
    "base",
    "channels",
    "match_specs",
    "requirements",
    "constraints",
    "indexes",
    "build_requirements",
    "system_packages",
    "variables",
    "routes",
)

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.=<>!~+,\[\]-]*")
_SINGLE: Final = frozenset({"environment", "python", "base"})
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """A value that was written somewhere and is not used, with the reason."""

    field: str
    """What it says something about: one of the fields of a spec, or `environment`, `env`, `flavor`."""
    value: str
    source: Source
    reason: str
    by: Source | None = None
    """The place whose word counts instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """An option of pip, or a word of the workspace, that has no effect, with the reason."""

    name: str
    value: str
    source: Source
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that a spec asks for, as tables and comparisons see it."""

    field: str
    """e.g. `requirements`."""
    name: str
    """What it is about: entries of two specs with the same field and name say the same or differ."""
    value: str
    meaning: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """What a model, and the workspace's override of it, ask for, before anything is locked."""

    environment: Stated[str] | None = None
    """The workspace's environment that was put over the model's, and who chose it; it says nothing of its own."""
    python: Stated[PythonRequest]
    base: BaseRequest | None = None
    """None: the official image of the Python that is asked for."""
    requirements: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    match_specs: tuple[MatchSpec, ...] = ()
    """Conda packages other than python, pip, setuptools and wheel."""
    tool_match_specs: tuple[MatchSpec, ...] = ()
    """What conda.yaml asks of those four, which conda installs where it is needed at all."""
    channels: tuple[Line, ...] = ()
    indexes: tuple[PackageIndex, ...] = ()
    """Places that are asked besides, or instead of, the machine's own; in the order of `package_index.KINDS`."""
    build_requirements: tuple[Requirement, ...] = ()
    """What is asked of pip, setuptools and wheel themselves."""
    system_packages: tuple[Stated[str], ...] = ()
    """Debian's names of packages."""
    variables: tuple[Variable, ...] = ()
    routes: tuple[Route, ...] = ()
    """Where the host will call the server."""
    unused: tuple[Unused, ...] = ()
    overridden: tuple[Overridden, ...] = ()

    @property
    def needs_conda(self) -> bool:
        """Whether anything is asked for that only a conda channel has."""
        return bool(self.match_specs)

    @property
    def packages_digest(self) -> str:
        """The digest of what decides which packages fit: what a lock depends on, the base aside."""
        return _digest(self._packages())

    @property
    def digest(self) -> str:
        """The digest of the whole meaning: the same whatever the order, the spelling, the comments and the place."""
        meaning = {
            **self._packages(),
            "base": self.base.meaning if self.base is not None else None,
            "build_requirements": sorted({one.meaning for one in self.build_requirements}),
            "system_packages": sorted({one.value for one in self.system_packages}),
            "variables": {one.name: one.value for one in self.variables},
            "routes": sorted(one.text for one in self.routes),
        }
        return _digest(meaning)

    def _packages(self) -> dict[str, object]:
        return {
            "python": self.python.value.meaning,
            "requirements": sorted({requirement.meaning for requirement in self.requirements}),
            "constraints": sorted({constraint.meaning for constraint in self.constraints}),
            "match_specs": sorted({match_spec.meaning for match_spec in self.match_specs}),
            "tool_match_specs": sorted({one.meaning for one in self.tool_match_specs}) if self.needs_conda else [],
            # The order of channels is their priority, and so is that of indexes.
            "channels": [channel.value for channel in self.channels] if self.needs_conda else [],
            "indexes": [index.meaning for index in self.indexes],
        }

    def requirement_lines(self) -> tuple[str, ...]:
        """Return the requirements as sorted lines of a requirements file."""
        return _lines(self.requirements)

    def constraint_lines(self) -> tuple[str, ...]:
        """Return the constraints as sorted lines of a constraints file."""
        return _lines(self.constraints)

    def entries(self) -> tuple[Entry, ...]:
        """Return all that is asked for, in the order in which people read it."""
        python = self.python.value
        found = _of_texts("environment", (self.environment,) if self.environment is not None else ())
        found += [
            Entry(
                field="python",
                name="python",
                value=python.text,
                meaning=python.meaning,
                source=self.python.source,
            )
        ]
        if self.base is not None:
            base = self.base
            found.append(Entry(field="base", name="base", value=base.text, meaning=base.meaning, source=base.source))
        found += _of_texts("channels", self.channels)
        found += [
            Entry(field="match_specs", name=one.name, value=one.text, meaning=one.meaning, source=one.source)
            for one in self.match_specs
        ]
        for field, requirements in (
            ("requirements", self.requirements),
            ("constraints", self.constraints),
            ("build_requirements", self.build_requirements),
        ):
            found += [
                Entry(field=field, name=one.name, value=_line(one), meaning=one.meaning, source=one.source)
                for one in requirements
            ]
        found += [
            Entry(
                field="indexes", name=one.meaning, value=f"{one.kind} {one.url}", meaning=one.meaning, source=one.source
            )
            for one in self.indexes
        ]
        found += _of_texts("system_packages", self.system_packages)
        found += [
            Entry(
                field="variables", name=one.name, value=f"{one.name}={one.value}", meaning=one.value, source=one.source
            )
            for one in self.variables
        ]
        found += [
            Entry(field="routes", name=one.name, value=one.text, meaning=one.text, source=one.source)
            for one in self.routes
        ]
        return tuple(found)

    def replaced_by(self, entry: Entry) -> tuple[Overridden, ...]:
        """Return the values that lost to `entry`."""
        return tuple(one for one in self.overridden if one.by == entry.source and one.field == entry.field)

    def to_dict(self) -> dict[str, object]:
        """Return everything, with sources and with what each value replaced, in the types of JSON."""
        members: dict[str, object] = {
            "digest": self.digest,
            "packages_digest": self.packages_digest,
            "needs_conda": self.needs_conda,
        }
        requirements = {
            (field, one.source, one.name): one
            for field, some in (("requirements", self.requirements), ("constraints", self.constraints))
            for one in some
        }
        match_specs = {one.source: one for one in self.match_specs}
        for field in FIELDS:
            rows = []
            for entry in (one for one in self.entries() if one.field == field):
                row: dict[str, object] = {"value": entry.value, "name": entry.name, "source": _place(entry.source)}
                if (requirement := requirements.get((field, entry.source, NormalizedName(entry.name)))) is not None:
                    row |= _requirement(requirement)
                elif field == "match_specs":
                    spec = match_specs[entry.source]
                    row |= {"version": spec.version, "build": spec.build, "channel": spec.channel}
                row["replaced"] = [_overridden(one) for one in self.replaced_by(entry)]
                rows.append(row)
            single = field in _SINGLE
            members[field] = (rows[0] if rows else None) if single else rows
        members["unused"] = [
            {"name": one.name, "value": one.value, "source": _place(one.source), "reason": one.reason}
            for one in self.unused
        ]
        members["overridden"] = [_overridden(one) for one in self.overridden]
        return members

    def to_text(self) -> str:
        """Return the spec as YAML for people; the place of each value is a comment beside it."""
        lines = [f"# {self.digest}"]
        entries = self.entries()
        for field in FIELDS:
            some = [one for one in entries if one.field == field]
            if field in _SINGLE:
                lines += [f"{field}: {_scalar(one.value)}{_comment(one.source)}" for one in some]
            elif some:
                lines += [f"{field}:", *(f"  - {_scalar(one.value)}{_comment(one.source)}" for one in some)]
        if self.unused:
            lines.append("unused:")
        for one in self.unused:
            lines.append(f"  - {_scalar(f'{one.name} {one.value}'.strip())}{_comment(one.source)}")
            lines.append(f"    # {one.reason}")
        if self.overridden:
            lines.append("overridden:")
        for lost in self.overridden:
            lines.append(f"  - {lost.field}: {_scalar(lost.value)}{_comment(lost.source)}")
            lines.append(f"    reason: {_scalar(lost.reason)}")
            if lost.by is not None:
                lines.append(f"    by: {_scalar(str(lost.by))}")
        return "\n".join(lines) + "\n"


def _digest(meaning: dict[str, object]) -> str:
    # What is not asked for leaves no trace: a new kind of wish changes no digest of those who do not have it.
    present = {key: value for key, value in meaning.items() if value}
    text = json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _of_texts(field: str, values: Iterable[Stated[str]]) -> list[Entry]:
    return [Entry(field=field, name=one.value, value=one.value, meaning=one.value, source=one.source) for one in values]


def _lines(requirements: Iterable[Requirement]) -> tuple[str, ...]:
    return tuple(sorted({_line(requirement) for requirement in requirements}))


def _line(requirement: Requirement) -> str:
    return " ".join((requirement.text, *(f"--hash={digest}" for digest in requirement.hashes)))


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _comment(source: Source) -> str:
    return f"  # {shown(str(source), limit=500)}"


def _place(source: Source) -> dict[str, str]:
    return {"file": source.file, "key": source.key}


def _overridden(one: Overridden) -> dict[str, object]:
    return {
        "field": one.field,
        "value": one.value,
        "source": _place(one.source),
        "reason": one.reason,
        "by": _place(one.by) if one.by is not None else None,
    }


def _requirement(one: Requirement) -> dict[str, object]:
    return {
        "text": one.text,
        "hashes": list(one.hashes),
        "url": one.url,
        "path": one.path,
        "written": one.written,
    }
