"""YAML text as plain data: bounded, without code, and with every number as it was written.

Pure. A document is built from the parser's events, so that depth, size and aliases are checked before anything grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn, Protocol, TypeAlias

import yaml

from envbuilder.errors import InvalidFileError, Source
from envbuilder.problems import Problems, shown
from envbuilder.secret import redact

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 250_000

Node: TypeAlias = "str | bool | tuple[Node, ...] | Mapping[str, Node] | None"
"""Plain data; numbers and dates are strings, as written (`3.10` is not `3.1`)."""

EMPTY: Final[Mapping[str, Node]] = MappingProxyType({})

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SCALAR_TAGS: Final = frozenset({"!", *(f"{_TAG}{name}" for name in ("str", "int", "float", "timestamp"))})
_MERGE: Final = "<<"


def load(text: str | bytes, *, source_file: str) -> Node:
    """Read one YAML document; raise `InvalidFileError` with line and column where that is not possible."""
    source = Source(file=source_file)
    builder = _Builder(source=source)
    decoded = decode(text, source=source)
    # A parser that is handed `str` encodes it again; bytes that were checked above cannot fail there.
    try:
        for event in yaml.parse(decoded.encode(), Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        what = error.problem or error.context or "unreadable"
        raise InvalidFileError(f"broken YAML: {what}{_at(error.problem_mark)}", where=source, fix=_FIX) from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise InvalidFileError(f"broken YAML: {what}", where=source, fix=_FIX) from error
    builder.problems.finish()
    return builder.document


def decode(text: str | bytes, *, source: Source) -> str:
    """Return `text` without a byte order mark; raise `InvalidFileError` where it is too large or not UTF-8."""
    if len(text) > MAX_BYTES:
        raise InvalidFileError(
            f"larger than {MAX_BYTES // 1024 // 1024} MiB", where=source, fix="keep data out of this file"
        )
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text.encode("utf-8").decode("utf-8")
    except UnicodeError as error:
        raise InvalidFileError(f"not UTF-8 text: {error}", where=source, fix="save the file as UTF-8") from error
    return decoded.removeprefix("\ufeff")


_FIX: Final = "correct the YAML at that place"


class _Mark(Protocol):
    """A place in the text; PyYAML has one for each of its two parsers."""

    line: int
    column: int


@dataclass(slots=True, kw_only=True)
class _Frame:
    """A collection that is still open."""

    anchor: str | None
    nodes_before: int
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    members: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    merged: dict[str, Node] = field(default_factory=dict)
    key: str | None = None


@dataclass(slots=True, kw_only=True)
class _Builder:
    """Turns parser events into plain data."""

    source: Source
    document: Node = None
    problems: Problems = field(default_factory=Problems)
    _stack: list[_Frame] = field(default_factory=list)
    _anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _nodes: int = 0
    _documents: int = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._refuse("a second document", event, fix="keep one document; remove what follows `---`")
            case yaml.ScalarEvent():
                self._count(1, event)
                self._add(_scalar(event) if self._wants_value() else event.value, event, anchor=event.anchor)
                self._check_tag(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._open(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close(event)
            case _:
                pass

    def _wants_value(self) -> bool:
        return not self._stack or not self._stack[-1].is_mapping or self._stack[-1].key is not None

    def _check_tag(self, event: yaml.ScalarEvent) -> None:
        if event.tag not in {None, f"{_TAG}null", f"{_TAG}bool", *_SCALAR_TAGS}:
            self._refuse_tag(event)

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        name = shown(str(event.tag).replace(_TAG, "!!"))
        self._refuse(f"the tag `{name}` is not accepted", event, fix="write plain values; this file is data, not code")

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        self._count(1, event)
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(f"nested deeper than {MAX_DEPTH} levels", event, fix="flatten the file")
        if not self._wants_value():
            self._refuse("a key that is a list or a mapping", event, fix="use text as the key")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", f"{_TAG}map" if is_mapping else f"{_TAG}seq"}:
            self._refuse_tag(event)
        self._stack.append(
            _Frame(
                anchor=event.anchor,
                nodes_before=self._nodes - 1,
                is_mapping=is_mapping,
            )
        )

    def _close(self, event: yaml.Event) -> None:
        frame = self._stack.pop()
        value: Node = MappingProxyType(frame.merged | frame.members) if frame.is_mapping else tuple(frame.items)
        self._add(value, event, anchor=frame.anchor, size=self._nodes - frame.nodes_before)

    def _alias(self, event: yaml.AliasEvent) -> None:
        known = self._anchors.get(str(event.anchor))
        if known is None:
            inside = any(frame.anchor == event.anchor for frame in self._stack)
            what = "which contains itself" if inside else "which is not defined before"
            self._refuse(f"the alias `*{event.anchor}`, {what}", event, fix="write the value out")
        value, size = known
        self._count(size, event)
        if not self._wants_value() and not isinstance(value, str):
            self._refuse("a key that is not text", event, fix="use text as the key")
        self._add(value, event, anchor=None)

    def _add(self, value: Node, event: yaml.Event, *, anchor: str | None, size: int = 1) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self.document = value
            return
        frame = self._stack[-1]
        if not frame.is_mapping:
            frame.items.append(value)
        elif frame.key is None:
            frame.key = str(value)
            if _is_merge(event):
                frame.key = _MERGE
        else:
            self._add_member(frame, frame.key, value, event)
            frame.key = None

    def _add_member(self, frame: _Frame, key: str, value: Node, event: yaml.Event) -> None:
        line = _line(event)
        if key == _MERGE and (parts := _mappings(value)):
            for part in parts:
                frame.merged = {**part, **frame.merged}
            return
        if key in frame.members:
            self.problems.add(
                f"the key `{shown(key)}` is given twice, near line {frame.lines[key]} and line {line}",
                where=self.source,
                fix="keep one of them",
            )
        frame.members[key] = value
        frame.lines[key] = line

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(f"more than {MAX_NODES} values, aliases written out", event, fix="keep data out of this file")

    def _refuse(self, what: str, event: yaml.Event, *, fix: str) -> NoReturn:
        raise InvalidFileError(f"{what}{_at(event.start_mark)}", where=self.source, fix=fix)


def _scalar(event: yaml.ScalarEvent) -> Node:
    plain = event.tag is None and event.implicit[0]
    if (plain and event.value in _NULLS) or event.tag == f"{_TAG}null":
        return None
    if (plain or event.tag == f"{_TAG}bool") and event.value in _BOOLEANS:
        return _BOOLEANS[event.value]
    return str(event.value)


def _is_merge(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == _MERGE and event.implicit[0]


def _mappings(value: Node) -> tuple[Mapping[str, Node], ...]:
    """Return the mappings that a merge key brings in; none where it is an ordinary value."""
    candidates = value if isinstance(value, tuple) else (value,)
    found = tuple(candidate for candidate in candidates if isinstance(candidate, Mapping))
    return found if len(found) == len(candidates) else ()


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _at(mark: _Mark | None) -> str:
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""


def dump(value: object) -> str:
    """Write lists and dicts of text as YAML that `load` reads back; what is not plain text gets quotes."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000))


class _Dumper(yaml.SafeDumper):
    """Writes every value in full: an alias is harder to read than the value again."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def redacted(node: Node) -> Node:
    """Return `node` without the credentials of the URLs in it."""
    if isinstance(node, Mapping):
        return MappingProxyType({redact(key): redacted(value) for key, value in node.items()})
    if isinstance(node, tuple):
        return tuple(redacted(item) for item in node)
    return redact(node) if isinstance(node, str) else node


def plain(node: Node) -> object:
    """Return `node` in lists and dicts, for JSON."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items()}
    return [plain(item) for item in node] if isinstance(node, tuple) else node
