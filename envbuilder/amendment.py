"""An amendment of a model's environment: named things that are bumped, added, removed or swapped. Pure.

It is the mapping `amend` of an environment file; what it does to a spec is in `amending`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from packaging.utils import canonicalize_name

from envbuilder import package_index, python_request, variable
from envbuilder.base_request import BaseRequest, read_image
from envbuilder.conda_yaml import MatchSpec, read_channel
from envbuilder.errors import InvalidFileError
from envbuilder.fields import Stated, describe, get_mapping, get_text, get_texts
from envbuilder.problems import Problems, shown
from envbuilder.requirement import Requirement
from envbuilder.secret import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envbuilder.errors import Source
    from envbuilder.package_index import PackageIndex
    from envbuilder.pip_line import Line
    from envbuilder.python_request import PythonRequest
    from envbuilder.variable import Variable
    from envbuilder.yaml_text import Node

T = TypeVar("T")

_KEYS: Final = (
    "python",
    "image",
    "pip",
    "conda",
    "channels",
    "index_url",
    "extra_index_urls",
    "find_links",
    "system_packages",
    "environment_variables",
)
_SYSTEM_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]{1,100}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ANY_WORD: Final = re.compile(r"\S+")
_BY_PYTHON: Final = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap(Generic[T]):
    """One thing in the place of another."""

    old: Stated[str]
    """The name of what goes."""
    new: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits(Generic[T]):
    """What is to be done to a list of things that have names."""

    bump: tuple[T, ...] = ()
    """Take this instead of what the model asks for under the same name."""
    add: tuple[T, ...] = ()
    remove: tuple[Stated[str], ...] = ()
    swap: tuple[Swap[T], ...] = ()

    def to_plain(self, text: Callable[[T], str]) -> dict[str, object]:
        """Return what an environment file says of it."""
        members: dict[str, object] = {
            "bump": [text(one) for one in self.bump],
            "add": [text(one) for one in self.add],
            "remove": [one.value for one in self.remove],
            "swap": {one.old.value: text(one.new) for one in self.swap},
        }
        return {key: value for key, value in members.items() if value}

    def meaning(self, meaning: Callable[[T], str]) -> list[str]:
        """Return what is compared: the same whatever the order."""
        return sorted(
            [
                *(f"bump {meaning(one)}" for one in self.bump),
                *(f"add {meaning(one)}" for one in self.add),
                *(f"remove {one.value}" for one in self.remove),
                *(f"swap {one.old.value} {meaning(one.new)}" for one in self.swap),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """What is to be changed; everything else stays as the model has it."""

    python: Stated[PythonRequest] | None = None
    base: BaseRequest | None = None
    requirements: Edits[Requirement] = Edits()
    match_specs: Edits[MatchSpec] = Edits()
    channels: Edits[Line] = Edits()
    index_url: PackageIndex | None = None
    """Instead of the machine's own index."""
    extra_index_urls: Edits[PackageIndex] = Edits()
    find_links: Edits[PackageIndex] = Edits()
    system_packages: Edits[Stated[str]] = Edits()
    add_variables: tuple[Variable, ...] = ()
    remove_variables: tuple[Stated[str], ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Node], source: Source, problems: Problems) -> Amendment:
        """Read the mapping `amend`; what is wrong with it is added to `problems`."""
        check_keys(document, _KEYS, source, problems)
        variables = get_mapping(document, "environment_variables", source, problems) or {}
        where = source.child("environment_variables")
        check_keys(variables, ("add", "remove"), where, problems)
        added = variable.read(variables, "add", where, problems)
        for one in added:
            if one.is_reserved:
                problems.add(f"`{one.name}` is set by the image itself", where=one.source, fix="choose another name")
        return cls(
            python=python_request.read(get_text(document, "python", source, problems), problems),
            base=read_image(document, "image", source, problems),
            requirements=_edits(document, "pip", source, problems, kind=_REQUIREMENTS),
            match_specs=_edits(document, "conda", source, problems, kind=_MATCH_SPECS),
            channels=_edits(document, "channels", source, problems, kind=_CHANNELS),
            index_url=_index(document, source, problems),
            extra_index_urls=_edits(document, "extra_index_urls", source, problems, kind=_EXTRA_INDEXES),
            find_links=_edits(document, "find_links", source, problems, kind=_FIND_LINKS),
            system_packages=_edits(document, "system_packages", source, problems, kind=_SYSTEM_PACKAGES),
            add_variables=added,
            remove_variables=get_texts(variables, "remove", where, problems),
        )

    def to_plain(self) -> dict[str, object]:
        """Return what an environment file says of it, without credentials."""
        variables: dict[str, object] = {
            "add": {one.name: one.value for one in self.add_variables},
            "remove": [one.value for one in self.remove_variables],
        }
        members: dict[str, object] = {
            "python": self.python.value.text if self.python is not None else None,
            "image": self.base.image if self.base is not None else None,
            "pip": self.requirements.to_plain(_with_hashes),
            "conda": self.match_specs.to_plain(lambda one: one.text),
            "channels": self.channels.to_plain(lambda one: one.value),
            "index_url": self.index_url.url if self.index_url is not None else None,
            "extra_index_urls": self.extra_index_urls.to_plain(lambda one: one.url),
            "find_links": self.find_links.to_plain(lambda one: one.url),
            "system_packages": self.system_packages.to_plain(lambda one: one.value),
            "environment_variables": {key: value for key, value in variables.items() if value},
        }
        return {key: value for key, value in members.items() if value}

    @property
    def meaning(self) -> dict[str, object]:
        """What is compared, in the types of JSON: the same whatever the order and the spelling."""
        return {
            "python": self.python.value.meaning if self.python is not None else None,
            "image": self.base.meaning if self.base is not None else None,
            "pip": self.requirements.meaning(lambda one: one.meaning),
            "conda": self.match_specs.meaning(lambda one: one.meaning),
            "channels": _in_order(self.channels, lambda one: one.value),
            "index_url": self.index_url.meaning if self.index_url is not None else None,
            "extra_index_urls": _in_order(self.extra_index_urls, lambda one: one.meaning),
            "find_links": _in_order(self.find_links, lambda one: one.meaning),
            "system_packages": self.system_packages.meaning(lambda one: one.value),
            "add_variables": {one.name: one.value for one in self.add_variables},
            "remove_variables": sorted(one.value for one in self.remove_variables),
        }

    @property
    def secrets(self) -> tuple[Source, ...]:
        """Where credentials are written."""
        indexes = [
            *([self.index_url] if self.index_url is not None else []),
            *_news(self.extra_index_urls),
            *_news(self.find_links),
        ]
        holders: list[Requirement | MatchSpec | Line | PackageIndex] = [
            *_news(self.requirements),
            *_news(self.match_specs),
            *_news(self.channels),
            *indexes,
        ]
        return tuple(one.source for one in holders if one.secret is not None)


def check_keys(mapping: Mapping[str, Node], known: tuple[str, ...], source: Source, problems: Problems) -> None:
    """Add a problem for every key that is not `known`, with its nearest spelling."""
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            listed = ", ".join(f"`{one}`" for one in known)
            problems.add(
                f"`{shown(key)}` is not known here",
                where=source.child(shown(key)),
                fix=f"did you mean `{near[0]}`?" if near else f"use one of {listed}",
            )


def _in_order(edits: Edits[T], meaning: Callable[[T], str]) -> list[str]:
    """Return what is compared of things whose order is their priority."""
    return [*edits.meaning(meaning), *(meaning(one) for one in edits.add)]


def _news(edits: Edits[T]) -> tuple[T, ...]:
    return (*edits.bump, *edits.add, *(one.new for one in edits.swap))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind(Generic[T]):
    """How one kind of thing is read and told apart."""

    read: Callable[[Stated[str], Problems], T | None]
    name: Callable[[T], str]
    spelled: Callable[[str], str] = str
    """Returns the name that somebody wrote as `name` would."""
    grammar: re.Pattern[str] = _NAME


def _edits(document: Mapping[str, Node], key: str, source: Source, problems: Problems, *, kind: _Kind[T]) -> Edits[T]:
    members = get_mapping(document, key, source, problems) or {}
    where = source.child(key)
    has_versions = key in {"pip", "conda"}
    check_keys(
        members, ("bump", "add", "remove", "swap") if has_versions else ("add", "remove", "swap"), where, problems
    )

    def read_all(operation: str) -> tuple[T, ...]:
        found = (kind.read(one, problems) for one in get_texts(members, operation, where, problems))
        return tuple(one for one in found if one is not None)

    swaps = []
    pairs = get_mapping(members, "swap", where, problems) or {}
    for old, given in pairs.items():
        # The name may be a URL with credentials.
        here = where.child("swap").child(shown(redact(old)))
        if not isinstance(given, str):
            problems.add(
                f"expected text, got {describe(given)}", where=here, fix="write `OLD: NEW`, or `remove: [OLD]`"
            )
            continue
        new = kind.read(Stated(value=given, source=here), problems)
        if new is not None:
            swaps.append(Swap(old=_named(Stated(value=old, source=here), kind, problems), new=new))
    edits = Edits(
        bump=read_all("bump") if has_versions else (),
        add=read_all("add"),
        remove=tuple(_named(one, kind, problems) for one in get_texts(members, "remove", where, problems)),
        swap=tuple(swaps),
    )
    _check_names(edits, kind.name, where, problems)
    return edits


def _named(stated: Stated[str], kind: _Kind[T], problems: Problems) -> Stated[str]:
    """Return the name of what is to go; it stands alone, without a version."""
    name = kind.spelled(redact(stated.value).strip())
    if not kind.grammar.fullmatch(name):
        problems.add(
            f"`{shown(name)}` is not the name of something that can be asked for",
            where=stated.source,
            fix="write the name alone",
        )
    return Stated(value=name, source=stated.source)


def _check_names(edits: Edits[T], name: Callable[[T], str], where: Source, problems: Problems) -> None:
    """Add a problem for every name in two operations: what comes out would depend on which is first.

    To remove and add is to set; several things may be swapped for the same one.
    """
    operations: dict[str, list[str]] = {}
    for one in edits.bump:
        operations.setdefault(name(one), []).append("bump")
    for swap in edits.swap:
        operations.setdefault(swap.old.value, []).append("swap")
        if name(swap.new) != swap.old.value:
            operations.setdefault(name(swap.new), []).append("swap for")
    for stated in edits.remove:
        operations.setdefault(stated.value, []).append("remove")
    for one in edits.add:
        operations.setdefault(name(one), []).append("add")
    for named, found in operations.items():
        if len(found) > 1 and found != ["remove", "add"] and set(found) != {"swap for"}:
            problems.add(
                f"`{shown(named)}` is named twice, by {' and '.join(f'`{one}`' for one in found)}",
                where=where,
                fix="name it in one operation; `remove` and `add` together set it",
            )


def _requirement(stated: Stated[str], problems: Problems) -> Requirement | None:
    try:
        found = Requirement.parse(stated.value, source=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None
    if found.path is not None:
        problems.add(
            f"`{shown(found.text)}` is a path, which means another file in every model",
            where=stated.source,
            fix="offer the package by https or in an index",
        )
        return None
    return found


def _match_spec(stated: Stated[str], problems: Problems) -> MatchSpec | None:
    try:
        found = MatchSpec.parse(stated.value, source=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None
    if found.name == _BY_PYTHON:
        problems.add("Python has a key of its own", where=stated.source, fix="write `python: VERSION` below `amend`")
        return None
    return found


def _index(document: Mapping[str, Node], source: Source, problems: Problems) -> PackageIndex | None:
    stated = get_text(document, "index_url", source, problems)
    return package_index.read("index_url", stated, problems) if stated is not None else None


def _extra_index(stated: Stated[str], problems: Problems) -> PackageIndex | None:
    return package_index.read("extra_index_url", stated, problems)


def _find_links(stated: Stated[str], problems: Problems) -> PackageIndex | None:
    return package_index.read("find_links", stated, problems)


def _system_package(stated: Stated[str], problems: Problems) -> Stated[str] | None:
    if _SYSTEM_PACKAGE.fullmatch(stated.value):
        return stated
    problems.add(
        f"`{shown(stated.value)}` is not the name of a Debian package", where=stated.source, fix="write e.g. `libgomp1`"
    )
    return None


def _with_hashes(one: Requirement) -> str:
    return " ".join((one.text, *(f"--hash={digest}" for digest in one.hashes)))


def _place(one: PackageIndex) -> str:
    return package_index.normal_url(one.url)


def _value(one: Stated[str]) -> str:
    return one.value


_REQUIREMENTS: Final[_Kind[Requirement]] = _Kind(
    read=_requirement, name=lambda one: one.name, spelled=canonicalize_name
)
_MATCH_SPECS: Final[_Kind[MatchSpec]] = _Kind(read=_match_spec, name=lambda one: one.name, spelled=str.lower)
_CHANNELS: Final[_Kind[Line]] = _Kind(read=read_channel, name=_value, grammar=_ANY_WORD)
_EXTRA_INDEXES: Final = _Kind(read=_extra_index, name=_place, spelled=package_index.normal_url, grammar=_ANY_WORD)
_FIND_LINKS: Final = replace(_EXTRA_INDEXES, read=_find_links)
_SYSTEM_PACKAGES: Final = _Kind(read=_system_package, name=_value, grammar=_SYSTEM_PACKAGE)
