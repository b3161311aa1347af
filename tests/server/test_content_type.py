from __future__ import annotations

import pytest

from envbuilder.server.content_type import UnsupportedContentTypeError, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=UTF-8", "application/json"),
        ("text/csv;charset=utf-8", "text/csv"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
    ],
)
def test_a_supported_type_is_returned_without_its_parameters(header: str, expected: str) -> None:
    assert parse(header) == expected


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("application/json; charset=latin-1", "The scoring server only supports UTF-8"),
        ("application/json; b=1; a=2", "Unrecognized content type parameters: a, b. IMPORTANT"),
        ("application/json;", "Unrecognized content type parameters: . IMPORTANT"),
        ("APPLICATION/JSON", "Got 'APPLICATION/JSON'."),
        ("text/plain", "Got 'text/plain'."),
        (None, "Got ''."),
    ],
)
def test_other_types_are_refused_with_mlflows_words(header: str | None, text: str) -> None:
    with pytest.raises(UnsupportedContentTypeError) as refusal:
        parse(header)
    assert text in str(refusal.value)
