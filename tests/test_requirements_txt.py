from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import InvalidFileError, Source
from envbuilder.pip_line import PipOption
from envbuilder.requirements_txt import RequirementsTxt, included_path


def lines(text: str | bytes) -> list[tuple[str, str]]:
    return [(line.value, line.source.key) for line in RequirementsTxt.parse(text, file="requirements.txt").lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy\nscipy==1", [("numpy", "line 1"), ("scipy==1", "line 2")]),
        ("numpy\r\nscipy\rpandas", [("numpy", "line 1"), ("scipy", "line 2"), ("pandas", "line 3")]),
        (b"\xef\xbb\xbfnumpy\n", [("numpy", "line 1")]),
        ("# all\n\nnumpy # one\n", [("numpy", "line 3")]),
        ("six==1 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\nnumpy", [
            ("six==1    --hash=sha256:aa    --hash=sha256:bb", "line 1"),
            ("numpy", "line 4"),
        ]),
        ("numpy \\", [("numpy", "line 1")]),
        ("a # note \\\nb", [("a", "line 1"), ("b", "line 2")]),
        ("-i https://u:s3cret@h/simple", [("-i https://***@h/simple", "line 1")]),
        ("a#b @ x", [("a#b @ x", "line 1")]),
        ("", []),
    ],
)  # fmt: skip
def test_lines_are_joined_and_numbered(text: str | bytes, expected: list[tuple[str, str]]) -> None:
    assert lines(text) == expected


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="not UTF-8 text"):
        lines(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("value", "beside", "path"),
    [
        ("requirements.txt", "conda.yaml", "requirements.txt"),
        ("./a/../b.txt", "conda.yaml", "b.txt"),
        ("../b.txt", "sub/a.txt", "b.txt"),
        ("b.txt", "sub/a.txt", "sub/b.txt"),
        ("../b.txt", "conda.yaml", None),
        ("a/../../b.txt", "conda.yaml", None),
        ("/etc/passwd", "conda.yaml", None),
        ("~/b.txt", "conda.yaml", None),
        ("https://h/b.txt", "conda.yaml", None),
        ("..\\b.txt", "conda.yaml", None),
        (".", "conda.yaml", None),
    ],
)
def test_an_included_file_stays_in_the_model_directory(value: str, beside: str, path: str | None) -> None:
    option = PipOption(name="--requirement", value=value, written=f"-r {value}", source=Source(file="conda.yaml"))
    assert included_path(option, beside=beside) == path


@given(st.text())
def test_no_line_ends_inside_a_line(text: str) -> None:
    try:
        found = lines(text)
    except InvalidFileError:
        return
    assert not any("\n" in line or "\r" in line for line, _ in found)
