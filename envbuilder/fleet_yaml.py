"""The file that lists a fleet: a YAML list of paths and URIs, or of mappings with a tag and an environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from envbuilder import fields, model_uri, yaml_text
from envbuilder.errors import InvalidFileError, Source
from envbuilder.image_reference import ImageReference
from envbuilder.problems import Problems, shown

if TYPE_CHECKING:
    from envbuilder.yaml_text import Node

_KEYS: Final = ("model", "tag", "environment")
_FORM: Final = "write `- PATH_OR_URI`, or `- {model: PATH_OR_URI, tag: NAME:TAG, environment: REF}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model of a fleet, and what is said for it alone."""

    model: str
    """A directory or a URI."""

    tag: str | None = None
    environment: str | None = None
    source: Source
    """Where it is listed."""


def parse(text: str | bytes, *, file: str) -> tuple[Member, ...]:
    """Read the list; directories are named from where the file is. Raises InvalidFileError with all problems."""
    source = Source(file=file)
    node = yaml_text.load(text, source_file=file)
    if not isinstance(node, tuple) or not node:
        raise InvalidFileError(
            f"expected a list of models, got {fields.describe(node) if node else 'nothing'}", where=source, fix=_FORM
        )
    problems = Problems()
    members = [_member(item, source.child(index), problems) for index, item in enumerate(node)]
    problems.finish()
    return tuple(member for member in members if member is not None)


def _member(item: Node, source: Source, problems: Problems) -> Member | None:
    if isinstance(item, str):
        return Member(model=_place(item, source), source=source)
    if not isinstance(item, Mapping):
        problems.add(f"expected a model, got {fields.describe(item)}", where=source, fix=_FORM)
        return None
    for key in item.keys() - set(_KEYS):
        problems.add(f"`{shown(key)}` says nothing of a model here", where=source.child(key), fix=_FORM)
    model, tag, environment = (fields.get_text(item, key, source, problems) for key in _KEYS)
    if model is None:
        problems.add("the model is missing", where=source, fix=_FORM)
        return None
    if tag is not None:
        try:
            ImageReference.parse_name_tag(tag.value, where=tag.source)
        except InvalidFileError as error:
            problems.extend(error.problems)
    return Member(
        model=_place(model.value, source),
        tag=tag.value if tag is not None else None,
        environment=environment.value if environment is not None else None,
        source=source,
    )


def _place(text: str, source: Source) -> str:
    return text if model_uri.is_uri(text) else str(PurePath(source.file).parent / text)
