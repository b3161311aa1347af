from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import fields
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated
from envbuilder.problems import Problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.yaml_text import Node

SOURCE = Source(file="f.yaml")


def test_the_getters_return_the_value_and_its_place() -> None:
    document: Mapping[str, Node] = {"a": "x", "b": True, "c": {"d": "e"}, "f": ("g", None), "n": None}
    problems = Problems()
    assert fields.get_text(document, "a", SOURCE, problems) == Stated(value="x", source=SOURCE.child("a"))
    assert fields.get_boolean(document, "b", SOURCE, problems) is True
    assert fields.get_mapping(document, "c", SOURCE, problems) == {"d": "e"}
    assert fields.get_sequence(document, "f", SOURCE, problems) == ("g", None)
    assert fields.get_texts(document, "f", SOURCE, problems) == (
        Stated(value="g", source=Source(file="f.yaml", key="f[0]")),
    )
    assert fields.get_text(document, "n", SOURCE, problems) is None
    assert fields.get_sequence(document, "n", SOURCE, problems) == ()
    problems.finish()


def test_the_getters_collect_what_is_wrong() -> None:
    document: Mapping[str, Node] = {"t": True, "b": "x", "m": ("x",), "s": {"a": "b"}, "l": ("a", None, {"b": "c"})}
    problems = Problems()
    fields.get_text(document, "t", SOURCE, problems)
    fields.get_boolean(document, "b", SOURCE, problems)
    fields.get_mapping(document, "m", SOURCE, problems)
    fields.get_sequence(document, "s", SOURCE, problems)
    fields.get_texts(document, "l", SOURCE, problems)
    with pytest.raises(InvalidFileError) as caught:
        problems.finish()
    assert [(problem.what, str(problem.where)) for problem in caught.value.problems] == [
        ("expected text, got true or false", "f.yaml: t"),
        ("expected true or false, got text", "f.yaml: b"),
        ("expected a mapping, got a list", "f.yaml: m"),
        ("expected a list, got a mapping", "f.yaml: s"),
        ("expected text, got a mapping", "f.yaml: l[2]"),
    ]


def test_a_hostile_key_does_not_reach_the_message() -> None:
    problems = Problems()
    for get in (fields.get_text, fields.get_mapping, fields.get_sequence):
        get({"a\x1b[31m\nb": True}, "a\x1b[31m\nb", SOURCE, problems)
    assert len(problems.found) == 3
    assert all(str(problem.fix).isprintable() for problem in problems.found)


def test_a_document_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(InvalidFileError, match=r"expected an MLmodel file \(a mapping\), got nothing"):
        fields.get_document(None, SOURCE, "an MLmodel file")
