"""The fields of a YAML mapping by type, each with the place where it was written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from envbuilder.errors import InvalidFileError, Source
from envbuilder.problems import shown

if TYPE_CHECKING:
    from envbuilder.problems import Problems
    from envbuilder.yaml_text import Node

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated(Generic[T_co]):
    """A value and where it was written."""

    value: T_co
    source: Source


def describe(node: Node) -> str:
    """Name the kind of `node` for a message."""
    match node:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "text"
        case tuple():
            return "a list"
        case _:
            return "a mapping"


def get_text(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> Stated[str] | None:
    """Return the text at `key` and its source; None where there is none."""
    value = mapping.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        return Stated(value=value, source=source.child(key))
    problems.add(
        f"expected text, got {describe(value)}", where=source.child(key), fix=f"write `{shown(key)}: VALUE` on one line"
    )
    return None


def get_boolean(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> bool | None:
    """Return true or false at `key`; None where there is none."""
    value = mapping.get(key)
    if value is None or isinstance(value, bool):
        return value
    problems.add(
        f"expected true or false, got {describe(value)}", where=source.child(key), fix="write `true` or `false`"
    )
    return None


def get_mapping(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> Mapping[str, Node] | None:
    """Return the mapping at `key`; None where there is none."""
    value = mapping.get(key)
    if value is None or isinstance(value, Mapping):
        return value
    problems.add(
        f"expected a mapping, got {describe(value)}",
        where=source.child(key),
        fix=f"write `{shown(key)}:` and indented keys",
    )
    return None


def get_sequence(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> tuple[Node, ...]:
    """Return the list at `key`; empty where there is none."""
    value = mapping.get(key)
    if value is None:
        return ()
    if isinstance(value, tuple):
        return value
    problems.add(
        f"expected a list, got {describe(value)}",
        where=source.child(key),
        fix=f"write `{shown(key)}:` and lines with `- `",
    )
    return ()


def get_texts(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> tuple[Stated[str], ...]:
    """Return the list of texts at `key`, each with its source."""
    found = []
    for index, item in enumerate(get_sequence(mapping, key, source, problems)):
        where = source.child(key).child(index)
        if isinstance(item, str):
            found.append(Stated(value=item, source=where))
        elif item is not None:
            problems.add(f"expected text, got {describe(item)}", where=where, fix="quote the line if it holds a `: `")
    return tuple(found)


def get_document(node: Node, source: Source, what: str) -> Mapping[str, Node]:
    """Return the document as a mapping; raise `InvalidFileError` where it is something else."""
    if isinstance(node, Mapping):
        return node
    raise InvalidFileError(
        f"expected {what} (a mapping), got {describe(node)}", where=source, fix=f"check that this file is {what}"
    )
