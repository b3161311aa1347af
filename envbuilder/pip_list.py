"""A pip list and the files it includes, decided on line by line: used, not used with the reason, or refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from envbuilder.environment_spec import Unused
from envbuilder.errors import Problem
from envbuilder.package_index import IndexKind, PackageIndex, is_index_url, normal_url
from envbuilder.pip_line import PipOption, classify
from envbuilder.problems import shown
from envbuilder.requirement import Requirement
from envbuilder.requirements_txt import INCLUDES, included_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.pip_line import Line
    from envbuilder.requirements_txt import RequirementsTxt

_MAX_DEPTH: Final = 8
_INDEXES: Final[dict[str, IndexKind]] = {
    "--index-url": "index_url",
    "--extra-index-url": "extra_index_url",
    "--find-links": "find_links",
}
_NO_EFFECT: Final = {
    "--editable": "installed like any other package: an image is not edited",
    "--no-index": "not used: the workspace decides where packages come from",
    "--trusted-host": "not used: the workspace decides which hosts are trusted",
    "--pre": "not used: a pre-release is taken only where a requirement names one",
    "--prefer-binary": "not needed: wheels are always preferred",
    "--only-binary": "not needed: wheels are always preferred",
    "--no-binary": "not used: wheels are always preferred",
    "--require-hashes": "not needed: every locked package has its digest",
    "--use-feature": "not used: it is for pip alone",
    "--use-pep517": "not used: it is for pip alone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What stands around a pip list, and what it may use."""

    files: Mapping[str, RequirementsTxt] = field(default_factory=dict)
    """The files it may include, by their path in the model directory."""
    wheels: Mapping[str, str] = field(default_factory=dict)
    """The digests of the wheels in the model directory, by path."""
    allowed_indexes: tuple[str, ...] | None = ()
    """The places that a list may name, in the one spelling of `normal_url`; None is all."""
    place: str = "in the model directory"
    """Where included files and wheels are looked for, in words."""


@dataclass(slots=True, kw_only=True)
class PipList:
    """What a pip list comes to, with the files it includes."""

    requirements: list[Requirement] = field(default_factory=list)
    constraints: list[Requirement] = field(default_factory=list)
    indexes: list[PackageIndex] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def read(cls, lines: tuple[Line, ...], *, beside: str, around: Surroundings) -> PipList:
        """Decide on every line; `beside` is the path of the file they stand in, which includes are relative to."""
        found = cls()
        _read(lines, beside, around, found, constraint=False, above=(beside,))
        return found


def _read(
    lines: tuple[Line, ...],
    beside: str,
    around: Surroundings,
    found: PipList,
    *,
    constraint: bool,
    above: tuple[str, ...],
) -> None:
    for line in lines:
        for item in classify(line):
            match item:
                case Problem():
                    found.problems.append(item)
                case Requirement():
                    _add(item, around, found, constraint=constraint)
                case PipOption() if item.name in INCLUDES:
                    included = _included(item, included_path(item, beside=beside), around, above)
                    if isinstance(included, Problem):
                        found.problems.append(included)
                    else:
                        _read(
                            included.lines,
                            included.path,
                            around,
                            found,
                            constraint=constraint or item.name == "--constraint",
                            above=(*above, included.path),
                        )
                case _:
                    _decide(item, around, found)


def _add(item: Requirement, around: Surroundings, found: PipList, *, constraint: bool) -> None:
    if constraint and item.is_direct:
        found.problems.append(
            Problem(
                what=f"`{shown(item.text)}` is a place, which cannot limit a version",
                where=item.source,
                fix="write it as a requirement, or `name==version` here",
            )
        )
    elif item.path is not None and item.path not in around.wheels:
        found.problems.append(
            Problem(
                what=f"`{shown(item.path)}`: there is no such wheel {around.place}",
                where=item.source,
                fix="put it there, or ask for a released version of it",
            )
        )
    elif item.path is not None:
        digest = around.wheels[item.path]
        stated = [one for one in item.hashes if one.startswith("sha256:")]
        if stated and digest not in stated:
            found.problems.append(
                Problem(
                    what=f"`{shown(item.path)}` has another content than its `--hash` says: `{digest}`",
                    where=item.source,
                    fix="put the right file there, or correct the hash",
                )
            )
        # What is asked for is this content, not whatever lies there some day.
        found.requirements.append(replace(item, hashes=(digest,)))
    else:
        (found.constraints if constraint else found.requirements).append(item)


def _decide(option: PipOption, around: Surroundings, found: PipList) -> None:
    if option.name not in _INDEXES:
        found.unused.append(_unused(option, _NO_EFFECT[option.name]))
    elif not is_index_url(option.value):
        found.unused.append(
            _unused(option, "not used: not an https place; a wheel in the model directory is named as `./NAME.whl`")
        )
    elif around.allowed_indexes is not None and not _is_allowed(option, around.allowed_indexes):
        found.unused.append(
            _unused(option, "not used: the workspace does not list this place in `allowed_indexes` of envbuilder.yaml")
        )
    else:
        _add_index(option, _INDEXES[option.name], found)


def _add_index(option: PipOption, kind: IndexKind, found: PipList) -> None:
    index = PackageIndex(kind=kind, url=option.value, secret=option.secret, source=option.source)
    if index.meaning in {one.meaning for one in found.indexes}:
        return
    for earlier in [one for one in found.indexes if one.kind == kind == "index_url"]:
        # As in pip, the last one counts.
        reason = f"not used: `{option.name} {shown(option.value)}` comes after it"
        found.unused.append(Unused(name=option.name, value=earlier.url, source=earlier.source, reason=reason))
        found.indexes.remove(earlier)
    found.indexes.append(index)


def _is_allowed(option: PipOption, allowed: tuple[str, ...]) -> bool:
    # `https://a:80/@b` is shown as a place on `b`, because it looks like a password, and is one on `a`.
    asked = option.value if option.secret is None else option.secret.value
    return normal_url(option.value) in allowed and _host(asked) == _host(option.value)


def _host(url: str) -> str:
    return normal_url(url).split("/")[2]


def _unused(option: PipOption, reason: str) -> Unused:
    return Unused(name=option.name, value=option.value, source=option.source, reason=reason)


def _included(
    option: PipOption, path: str | None, around: Surroundings, above: tuple[str, ...]
) -> RequirementsTxt | Problem:
    shown_value = shown(option.value)
    if path is None:
        what = f"`{option.name} {shown_value}` leads out of the model directory"
    elif path in above or len(above) > _MAX_DEPTH:
        what = f"`{option.name} {shown_value}` includes itself, or too many files in a row"
    elif path not in around.files:
        what = f"`{option.name} {shown_value}`: there is no such file {around.place}"
    else:
        return around.files[path]
    return Problem(what=what, where=option.source, fix="write the lines of that file here")
