from __future__ import annotations

import pytest

from envbuilder import license_expression


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("mit", "MIT"),
        ("Apache 2.0", "Apache-2.0"),
        ("BSD-3-Clause AND MIT", "BSD-3-Clause AND MIT"),
        ("GPL-3.0-only WITH GCC-exception-3.1", "GPL-3.0-only WITH GCC-exception-3.1"),
        ("Copyright 2020, all rights", None),
        ("", None),
        ("MIT " * 100, None),
    ],
)
def test_a_text_is_an_expression_or_nothing(text: str, meant: str | None) -> None:
    assert license_expression.parse(text) == meant


@pytest.mark.parametrize(
    ("classifiers", "meant"),
    [
        (("License :: OSI Approved :: MIT License",), "MIT"),
        (("License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License"), None),
        (("License :: OSI Approved :: BSD License",), None),
        (("Topic :: Software",), None),
    ],
)
def test_classifiers_count_where_they_mean_one_licence(classifiers: tuple[str, ...], meant: str | None) -> None:
    assert license_expression.of_metadata("", "see LICENSE", classifiers) == meant


def test_the_expression_wins_over_the_text() -> None:
    assert license_expression.of_metadata("MIT", "GPLv3", ()) == "MIT"


@pytest.mark.parametrize(
    ("expression", "allow", "deny", "is_allowed"),
    [
        ("MIT", "", "", True),
        ("MIT", "MIT", "", True),
        ("MIT", "ISC", "", False),
        ("GPL-3.0-only", "", "GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", "", "GPL-3.0-only", True),
        ("GPL-3.0-only AND MIT", "", "GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND ISC", "MIT ISC", "", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", "", "GPL-3.0-only", False),
        ("GPL-3.0-only WITH GCC-exception-3.1", "GPL-3.0-only", "", True),
        ("MIT WITH GCC-exception-3.1", "ISC", "", False),
    ],
)
def test_one_allowed_choice_is_enough_and_every_part_is_needed(
    expression: str, allow: str, deny: str, *, is_allowed: bool
) -> None:
    found = license_expression.is_allowed(expression, allow=frozenset(allow.split()), deny=frozenset(deny.split()))
    assert found == is_allowed
