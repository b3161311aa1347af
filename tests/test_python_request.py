from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import InvalidFileError, Source
from envbuilder.python_request import PythonRequest
from tests.strategies import PYTHON_VERSIONS

CASES = [
    # written, text, exact, minor, an allowed version, one that is not
    ("3.11.7", "3.11.7", "3.11.7", "3.11", "3.11.7", "3.11.8"),
    ("=3.8.13", "3.8.13", "3.8.13", "3.8", "3.8.13", "3.8.12"),
    ("==3.8.13", "==3.8.13", "3.8.13", "3.8", "3.8.13", "3.8.12"),
    ("===3.8.13", "===3.8.13", "3.8.13", "3.8", "3.8.13", "3.8.12"),
    ("3.8", "3.8", None, "3.8", "3.8.20", "3.9.0"),
    ("3.10", "3.10", None, "3.10", "3.10.1", "3.1.10"),
    ("3.8.*", "3.8.*", None, "3.8", "3.8.0", "3.80.0"),
    ("3.8*", "3.8*", None, "3.8", "3.8.0", "3.9.0"),
    ("==3.8.*", "==3.8.*", None, "3.8", "3.8.1", "3.9.0"),
    ("==3.9", "==3.9", "3.9.0", "3.9", "3.9.0", "3.9.1"),
    (">=3.8,<3.9", ">=3.8,<3.9", None, "3.8", "3.8.5", "3.9.0"),
    (" >= 3.8 , < 3.10 ", ">=3.8,<3.10", None, None, "3.9.5", "3.10.0"),
    (">3.8.1,<=3.8.3", ">3.8.1,<=3.8.3", None, "3.8", "3.8.3", "3.8.1"),
    ("~=3.10", "~=3.10", None, None, "3.12.1", "3.9.1"),
    ("~=3.10.2", "~=3.10.2", None, "3.10", "3.10.3", "3.11.0"),
    (">=3.8,!=3.9.*,<3.10", ">=3.8,!=3.9.*,<3.10", None, "3.8", "3.8.1", "3.9.7"),
    ("3.8|3.9.1", "3.8|3.9.1", None, None, "3.9.1", "3.9.2"),
    ("3.9.1|==3.9.1", "3.9.1|==3.9.1", "3.9.1", "3.9", "3.9.1", "3.9.2"),
    ("3", "3", None, None, "3.7.1", "2.7.18"),
    (">=3.8.*", ">=3.8.*", None, None, "3.9.1", "3.7.9"),
    ("3.10.0rc1", "3.10.0rc1", "3.10.0rc1", "3.10", "3.10.0rc1", "3.10.0"),
    (">=3.10.0rc1", ">=3.10.0rc1", None, None, "3.10.0rc2", "3.9.9"),
    (">=3.10", ">=3.10", None, None, "3.10.0", "3.11.0rc1"),
    ("*", "*", None, None, "3.6.0", "nonsense"),
    ("", "*", None, None, "3.6.0", "3.7.0rc1"),
]


@pytest.mark.parametrize(("written", "text", "exact", "minor", "allowed", "refused"), CASES, ids=[c[0] for c in CASES])
def test_a_request_is_read_as_conda_means_it(
    written: str, text: str, exact: str | None, minor: str | None, allowed: str, refused: str
) -> None:
    request = PythonRequest.parse(written)
    assert (request.text, request.exact, request.minor) == (text, exact, minor)
    assert request.allows(allowed)
    assert not request.allows(refused)


@pytest.mark.parametrize(
    ("written", "allowed", "refused"),
    [
        ("3.8", "3.8", "3.9"),
        (">=3.8,<3.10", "3.9", "3.10"),
        (">3.7", "3.7", "3.6"),
        ("3.8.13", "3.8", "3.7"),
        ("3.10.0rc1", "3.10", "3.9"),
        ("<=3.9.3,!=3.9.0,!=3.9.1", "3.9", "3.10"),
        ("*", "3.14", "x"),
    ],
)
def test_a_minor_is_allowed_when_one_of_its_versions_is(written: str, allowed: str, refused: str) -> None:
    request = PythonRequest.parse(written)
    assert request.allows_minor(allowed)
    assert not request.allows_minor(refused)


@pytest.mark.parametrize(
    "text",
    [
        "three",
        "3.8;id",
        "3.8\n",
        "3.8 3.9",
        "$(id)",
        "3..8",
        ">=",
        "3.8,",
        "~=3",
        ">=3.9,<3.8",
        "9" * 5000,
        "9" * 150,
        "3.1.2.3.4",
        "3.8\x00",
        "x" * 100,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_anything_else_is_refused(text: str) -> None:
    source = Source(file="conda.yaml", key="dependencies[0]")
    if text == "3.8\n":  # surrounding space means nothing
        assert PythonRequest.parse(text).text == "3.8"
        return
    with pytest.raises(InvalidFileError) as caught:
        PythonRequest.parse(text, source=source)
    assert caught.value.problems[0].where == source
    assert caught.value.problems[0].fix


@pytest.mark.parametrize(
    ("one", "other"), [("3.8", "3.8.*"), ("=3.8", "==3.8.*"), ("3.8.1", "==3.8.1"), (">=3.8,<3.9", "<3.9, >=3.8")]
)
def test_equal_meanings_are_equal(one: str, other: str) -> None:
    assert PythonRequest.parse(one).meaning == PythonRequest.parse(other).meaning


@given(PYTHON_VERSIONS)
def test_a_full_version_allows_itself_alone(version: str) -> None:
    request = PythonRequest.parse(version)
    assert request.exact == version
    assert request.allows(version)
    assert request.allows_minor(request.minor or "")
    assert PythonRequest.parse(request.text) == request


@given(st.text(alphabet="0123456789.*<>=!~,| rc\n", max_size=20))
def test_any_text_is_a_request_or_refused(text: str) -> None:
    try:
        request = PythonRequest.parse(text)
    except InvalidFileError:
        return
    assert PythonRequest.parse(request.text).meaning == request.meaning
    assert request.exact is None or request.minor is not None
