from __future__ import annotations

import pytest

from envbuilder.errors import InvalidFileError, ModelError, Problem, Source
from envbuilder.problems import Problems, shown

SOURCE = Source(file="f.yaml")


def test_no_problems_raise_nothing() -> None:
    Problems().finish()


def test_all_problems_are_raised_at_once_in_the_order_they_were_found() -> None:
    problems = Problems()
    problems.add("one", where=SOURCE, fix="mend it")
    problems.extend([Problem(what="two")])
    with pytest.raises(InvalidFileError) as caught:
        problems.finish()
    assert caught.value.problems == (Problem(what="one", where=SOURCE, fix="mend it"), Problem(what="two"))


def test_the_reader_chooses_what_is_raised() -> None:
    problems = Problems()
    problems.add("one")
    with pytest.raises(ModelError, match="one"):
        problems.finish(ModelError)


def test_shown_text_is_printable_and_short() -> None:
    assert shown("a\x1b\n") == "a��"
    assert shown("a" * 200) == "a" * 100 + "…"
