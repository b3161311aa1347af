"""The environment that is asked for: Python, packages and channels, each with the place that asks for it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder.fields import Stated
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.errors import Source
    from envbuilder.python_request import PythonRequest
    from envbuilder.requirement import Requirement

__all__ = ["EnvironmentSpec", "Overridden", "Stated", "UnusedOption"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.=<>!~+,\[\]-]*")
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """A value that was written somewhere and is not used, with the reason."""

    field: str
    """What it says something about: `python`, `requirements`, `constraints`, `build_requirements`, `env`."""
    value: str
    source: Source
    reason: str
    by: Source | None = None
    """The place whose word counts instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedOption:
    """An option of pip that the model states and that has no effect, with the reason."""

    name: str
    value: str
    source: Source
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """What a model asks for, before anything is locked."""

    python: Stated[PythonRequest]
    requirements: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    match_specs: tuple[MatchSpec, ...] = ()
    """Conda packages other than python, pip, setuptools and wheel."""
    channels: tuple[Stated[str], ...] = ()
    options: tuple[UnusedOption, ...] = ()
    build_requirements: tuple[Requirement, ...] = ()
    """What is asked of pip, setuptools and wheel themselves."""
    overridden: tuple[Overridden, ...] = ()

    @property
    def needs_conda(self) -> bool:
        """Whether anything is asked for that only a conda channel has."""
        return bool(self.match_specs)

    @property
    def digest(self) -> str:
        """The digest of the meaning: the same whatever the order, the spelling, the comments and the place."""
        meaning = {
            "python": self.python.value.meaning,
            "requirements": sorted({requirement.meaning for requirement in self.requirements}),
            "constraints": sorted({constraint.meaning for constraint in self.constraints}),
            "match_specs": sorted({match_spec.meaning for match_spec in self.match_specs}),
            # The order of channels is their priority.
            "channels": [channel.value for channel in self.channels] if self.needs_conda else [],
        }
        text = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def requirement_lines(self) -> tuple[str, ...]:
        """Return the requirements as sorted lines of a requirements file."""
        return _lines(self.requirements)

    def constraint_lines(self) -> tuple[str, ...]:
        """Return the constraints as sorted lines of a constraints file."""
        return _lines(self.constraints)

    def to_dict(self) -> dict[str, object]:
        """Return everything, with sources, in the types of JSON."""
        return {
            "digest": self.digest,
            "needs_conda": self.needs_conda,
            "python": {"value": self.python.value.text, "source": _place(self.python.source)},
            "channels": [{"value": one.value, "source": _place(one.source)} for one in self.channels],
            "match_specs": [_match_spec(one) for one in self.match_specs],
            "requirements": [_requirement(one) for one in self.requirements],
            "constraints": [_requirement(one) for one in self.constraints],
            "build_requirements": [_requirement(one) for one in self.build_requirements],
            "options": [
                {"name": one.name, "value": one.value, "source": _place(one.source), "reason": one.reason}
                for one in self.options
            ],
            "overridden": [
                {
                    "field": one.field,
                    "value": one.value,
                    "source": _place(one.source),
                    "reason": one.reason,
                    "by": _place(one.by) if one.by is not None else None,
                }
                for one in self.overridden
            ],
        }

    def to_text(self) -> str:
        """Return the spec as YAML for people; the place of each value is a comment beside it."""
        lines = [
            f"# {self.digest}",
            f"python: {_scalar(self.python.value.text)}{_comment(self.python.source)}",
            *_section("channels", ((one.value, one.source) for one in self.channels)),
            *_section("match_specs", ((one.text, one.source) for one in self.match_specs)),
            *_section("requirements", ((_line(one), one.source) for one in self.requirements)),
            *_section("constraints", ((_line(one), one.source) for one in self.constraints)),
            *_section("build_requirements", ((one.text, one.source) for one in self.build_requirements)),
        ]
        if self.options:
            lines.append("options:")
        for option in self.options:
            lines.append(f"  - {_scalar(f'{option.name} {option.value}'.strip())}{_comment(option.source)}")
            lines.append(f"    # {option.reason}")
        if self.overridden:
            lines.append("overridden:")
        for one in self.overridden:
            lines.append(f"  - {one.field}: {_scalar(one.value)}{_comment(one.source)}")
            lines.append(f"    reason: {_scalar(one.reason)}")
            if one.by is not None:
                lines.append(f"    by: {_scalar(str(one.by))}")
        return "\n".join(lines) + "\n"


def _lines(requirements: Iterable[Requirement]) -> tuple[str, ...]:
    return tuple(sorted({_line(requirement) for requirement in requirements}))


def _line(requirement: Requirement) -> str:
    return " ".join((requirement.text, *(f"--hash={digest}" for digest in requirement.hashes)))


def _section(name: str, entries: Iterable[tuple[str, Source]]) -> list[str]:
    lines = [f"  - {_scalar(value)}{_comment(source)}" for value, source in entries]
    return [f"{name}:", *lines] if lines else []


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _comment(source: Source) -> str:
    return f"  # {shown(str(source), limit=500)}"


def _place(source: Source) -> dict[str, str]:
    return {"file": source.file, "key": source.key}


def _match_spec(one: MatchSpec) -> dict[str, object]:
    return {
        "name": one.name,
        "version": one.version,
        "build": one.build,
        "channel": one.channel,
        "text": one.text,
        "source": _place(one.source),
    }


def _requirement(one: Requirement) -> dict[str, object]:
    return {
        "name": one.name,
        "text": one.text,
        "hashes": list(one.hashes),
        "written": one.written,
        "source": _place(one.source),
    }
