"""conda.yaml as a value: channels, match specs and pip lists, each line with its place.

Pure. Match specs are split by conda's syntax; what their versions mean is for the solver.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder import variable
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, describe, get_document, get_text, get_texts
from envbuilder.pip_line import Line
from envbuilder.problems import Problems, shown
from envbuilder.secret import Secret, redact
from envbuilder.yaml_text import Node, dump, load, plain, redacted

if TYPE_CHECKING:
    from envbuilder.variable import Variable

MAX_LENGTH: Final = 1000

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CHANNEL: Final = re.compile(r"[A-Za-z0-9_.:/+@*~%-]+")
_VERSION_CLAUSE: Final = re.compile(r"(==|!=|>=|<=|~=|=|>|<)?[A-Za-z0-9_.*+!-]+")
_BUILD: Final = re.compile(r"[A-Za-z0-9_.*+-]+")
_BRACKETS: Final = re.compile(r"\[(.*)\]$", re.DOTALL)
_BRACKET_ITEM: Final = re.compile(r"\s*([a-z_0-9]+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^,\"']*)\s*(?:,|$)")
_BRACKET_KEYS: Final = ("version", "build", "channel", "subdir")
_KNOWN_KEYS: Final = frozenset({"name", "channels", "dependencies", "prefix", "variables"})
_FIX: Final = "write `name`, `name=version`, `name=version=build` or `channel::name>=low,<high`"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSpec:
    """A conda package that is asked for."""

    name: str
    version: str | None = None
    """With its operator and without spaces: `=3.8` (any 3.8.x), `==3.8.13`, `>=3.8,<3.9`."""
    build: str | None = None
    channel: str | None = None
    text: str
    """As written, without a comment and without credentials."""
    secret: Secret | None = None
    """The whole text, where the URL of its channel holds credentials."""
    source: Source

    @classmethod
    def parse(cls, text: str, *, source: Source) -> MatchSpec:
        """Read one match spec in any of conda's spellings."""
        written = re.sub(r"(^|\s)#.*$", "", redact(text)).strip()
        # The length is bounded because reading takes time with its square.
        if not written.isprintable() or not 0 < len(written) <= MAX_LENGTH:
            raise InvalidFileError(f"`{shown(written)}` is not a match spec", where=source, fix=_FIX)
        try:
            name, version, build, channel = _split(written)
        except _NotAMatchSpecError as error:
            raise InvalidFileError(
                f"`{shown(written)}` is not a match spec: {error}", where=source, fix=_FIX
            ) from error
        return cls(
            name=name,
            version=version,
            build=build,
            channel=channel,
            text=written,
            secret=Secret.find(text),
            source=source,
        )

    @property
    def meaning(self) -> str:
        """What is compared: the parts in one spelling."""
        alternatives = sorted(_canonical(one) for one in (self.version or "*").split("|"))
        return f"{self.channel or ''}::{self.name} {'|'.join(alternatives)} {self.build or '*'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaYaml:
    """What a conda.yaml says."""

    name: str | None
    channels: tuple[Line, ...]
    """Names or URLs, the first to be asked first."""
    match_specs: tuple[MatchSpec, ...]
    pip_blocks: tuple[tuple[Line, ...], ...]
    """Each `pip:` list, in order."""
    variables: tuple[Variable, ...]
    other: Mapping[str, Node]
    """Keys that conda.yaml may hold and that say nothing about packages, without credentials."""
    source: Source

    @property
    def pip_lines(self) -> tuple[Line, ...]:
        """The lines of all pip lists."""
        return tuple(line for block in self.pip_blocks for line in block)

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> CondaYaml:
        """Read the text of a conda.yaml; raise `InvalidFileError` with all its problems."""
        source = Source(file=file)
        problems = Problems()
        found = cls.read(get_document(load(text, source_file=file), source, "a conda environment"), source, problems)
        problems.finish()
        return found

    @classmethod
    def read(cls, document: Mapping[str, Node], source: Source, problems: Problems) -> CondaYaml:
        """Read a conda environment that is part of another document; what is wrong is added to `problems`."""
        name = get_text(document, "name", source, problems)
        channels = [read_channel(one, problems) for one in get_texts(document, "channels", source, problems)]
        match_specs: list[MatchSpec] = []
        pip_blocks: list[tuple[Line, ...]] = []
        dependencies = document.get("dependencies")
        if dependencies is not None and not isinstance(dependencies, tuple):
            problems.add(
                f"expected a list, got {describe(dependencies)}",
                where=source.child("dependencies"),
                fix="write `dependencies:` and lines with `- `",
            )
        for index, item in enumerate(dependencies if isinstance(dependencies, tuple) else ()):
            where = source.child("dependencies").child(index)
            if isinstance(item, Mapping):
                pip_blocks.extend(_pip_block(item, where, problems))
            elif isinstance(item, str):
                match_specs.extend(_match_spec(item, where, problems))
            elif item is not None:
                problems.add(f"expected text or `pip:`, got {describe(item)}", where=where, fix=_FIX)
        return cls(
            name=redact(name.value) if name is not None else None,
            channels=tuple(one for one in channels if one is not None),
            match_specs=tuple(match_specs),
            pip_blocks=tuple(pip_blocks),
            variables=variable.read(document, "variables", source, problems),
            other={redact(key): redacted(value) for key, value in document.items() if key not in _KNOWN_KEYS},
            source=source,
        )

    def to_plain(self) -> dict[str, object]:
        """Return what a conda.yaml of the same meaning holds; credentials are not in it."""
        dependencies: list[object] = [spec.text for spec in self.match_specs]
        dependencies += [{"pip": [line.value for line in block]} for block in self.pip_blocks]
        members: dict[str, object] = {
            "name": self.name,
            "channels": [channel.value for channel in self.channels],
            "dependencies": dependencies,
            "variables": {one.name: one.value for one in self.variables},
            **{key: plain(value) for key, value in self.other.items()},
        }
        return {key: value for key, value in members.items() if value not in (None, [], {})}

    def to_text(self) -> str:
        """Return a conda.yaml of the same meaning."""
        return dump(self.to_plain())


class _NotAMatchSpecError(Exception):
    """Says which part of a match spec cannot be read."""


def read_channel(stated: Stated[str], problems: Problems) -> Line | None:
    """Read the name or URL of a channel; what is wrong with it is added to `problems`."""
    line = Line.of(stated.value.strip(), source=stated.source)
    if _CHANNEL.fullmatch(line.value):
        return line
    problems.add(f"`{shown(line.value)}` is not a channel", where=line.source, fix="write a channel's name or its URL")
    return None


def _match_spec(text: str, where: Source, problems: Problems) -> tuple[MatchSpec, ...]:
    if not text.strip() or text.lstrip().startswith("#"):
        return ()
    try:
        return (MatchSpec.parse(text, source=where),)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return ()


def _pip_block(item: Mapping[str, Node], where: Source, problems: Problems) -> tuple[tuple[Line, ...], ...]:
    for key in item.keys() - {"pip"}:
        near = "did you mean `pip`?" if difflib.get_close_matches(key, ["pip"]) else "only `pip:` may hold a list here"
        problems.add(f"`{shown(key)}` is not known inside `dependencies`", where=where, fix=near)
    if "pip" not in item:
        return ()
    lines = get_texts(item, "pip", where, problems)
    return (tuple(Line.of(line.value, source=line.source) for line in lines),)


def _split(written: str) -> tuple[str, str | None, str | None, str | None]:
    """Split a match spec into name, version, build and channel."""
    brackets: dict[str, str] = {}
    body = written
    if found := _BRACKETS.search(written):
        brackets = _bracket_items(found[1])
        body = written[: found.start()].strip()
    channel, _, body = body.rpartition("::")
    if "://" in body or body.endswith((".conda", ".tar.bz2")):
        raise _NotAMatchSpecError("files and URLs are not accepted here")
    name = _NAME.match(body)
    if name is None:
        raise _NotAMatchSpecError("it does not begin with a name")
    version, build = _version_and_build(body[name.end() :])
    version = _checked_version(brackets.get("version", version))
    build = brackets.get("build", build)
    channel = brackets.get("channel", channel.strip())
    if "subdir" in brackets:
        channel = f"{channel}/{brackets['subdir']}"
    if build is not None and not _BUILD.fullmatch(build):
        raise _NotAMatchSpecError("the build string cannot be read")
    if channel and not _CHANNEL.fullmatch(channel):
        raise _NotAMatchSpecError("the channel cannot be read")
    return name[0].lower(), version, None if build == "*" else build, channel or None


def _bracket_items(text: str) -> dict[str, str]:
    items: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _BRACKET_ITEM.match(text, position)
        if found is None:
            raise _NotAMatchSpecError("the part in brackets is not `key=value`")
        if found[1] not in _BRACKET_KEYS:
            known = ", ".join(f"`{key}`" for key in _BRACKET_KEYS)
            raise _NotAMatchSpecError(f"`{found[1]}` in brackets is not one of {known}")
        items[found[1]] = found[2].strip().strip("'\"").strip()
        position = found.end()
    return items


def _version_and_build(rest: str) -> tuple[str | None, str | None]:
    """Split what follows the name: `=3.8`, `=3.8=build`, ` 3.8 build`, ` >=3.8, <3.9`."""
    if rest and not re.match(r"[\s=<>!~]", rest):
        raise _NotAMatchSpecError(f"`{shown(rest[0])}` cannot follow a name")
    compact = re.sub(r"\s*([,|])\s*", r"\1", rest.strip())
    compact = re.sub(r"\s*([<>=!~]+)\s*", r"\1", compact)
    version, *builds = compact.split() or [""]
    if len(builds) > 1:
        raise _NotAMatchSpecError("more than name, version and build")
    build = builds[0] if builds else None
    fuzzy = version.startswith("=") and not version.startswith("==")
    plain = version.removeprefix("=") if fuzzy else version
    if found := re.fullmatch(r"(?:==)?([^=<>!~]+)=([^=<>!~]+)", plain):
        # As in conda, a version with a build string is that version and no other.
        plain, build = found.groups()
    if build is not None and re.fullmatch(r"[^=<>!~,|*]+", plain):
        return f"=={plain}", build
    return (f"={plain}" if fuzzy else plain) or None, build


def _canonical(version: str) -> str:
    """Write one alternative of a version in one spelling: `=1.8` for `1.8.*`, the clauses in order."""
    clauses = set()
    for clause in version.split(","):
        prefix = re.fullmatch(r"=?([^=<>!~*]+?)\.?\*", clause)
        bare = not clause.startswith(("=", "<", ">", "!", "~", "*"))
        clauses.add(f"={prefix[1]}" if prefix else f"=={clause}" if bare else clause)
    return ",".join(sorted(clauses))


def _checked_version(version: str | None) -> str | None:
    if version in {None, "", "*", "=*"}:
        return None
    compact = re.sub(r"\s+", "", str(version))
    for clause in re.split(r"[,|]", compact):
        if not _VERSION_CLAUSE.fullmatch(clause):
            raise _NotAMatchSpecError(f"`{shown(clause)}` is not a version")
    return compact
