from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import Problem, Source
from envbuilder.pip_line import Line, PipOption, classify
from envbuilder.requirement import Requirement

SOURCE = Source(file="conda.yaml", key="dependencies[2].pip[0]")


def test_a_line_keeps_its_credentials_apart() -> None:
    line = Line.of("-i https://u:s3cret@h", source=SOURCE)
    assert (line.value, line.raw) == ("-i https://***@h", "-i https://u:s3cret@h")
    assert "s3cret" not in repr(line)
    plain = Line.of("numpy", source=SOURCE)
    assert (plain.value, plain.raw, plain.secret) == ("numpy", "numpy", None)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("-r requirements.txt", [("--requirement", "requirements.txt")]),
        ("-rrequirements.txt", [("--requirement", "requirements.txt")]),
        ("--requirement=a.txt", [("--requirement", "a.txt")]),
        ("-c constraints.txt", [("--constraint", "constraints.txt")]),
        ("-i https://h/simple", [("--index-url", "https://h/simple")]),
        ("--extra-index-url 'https://h/simple'", [("--extra-index-url", "https://h/simple")]),
        ("--find-links ./wheels", [("--find-links", "./wheels")]),
        ("--pre", [("--pre", "")]),
        ("--pypi-url https://h", [("--index-url", "https://h")]),
        ("--pre --no-index", [("--pre", ""), ("--no-index", "")]),
        (
            "-i https://a --extra-index-url=https://b",
            [("--index-url", "https://a"), ("--extra-index-url", "https://b")],
        ),
        ("--index-url u:p@h/simple", [("--index-url", "***@h/simple")]),
        ("--index-url=u:p@h/simple", [("--index-url", "***@h/simple")]),
    ],
)
def test_an_option_is_told_apart(line: str, options: list[tuple[str, str]]) -> None:
    found = classify(Line.of(line, source=SOURCE))
    assert [(one.name, one.value) for one in found if isinstance(one, PipOption)] == options
    assert len(found) == len(options)


def test_an_option_keeps_its_credentials_as_a_secret() -> None:
    for line in ("-i https://u:s3cret@h/simple", "--index-url=u:s3cret@h/simple", "-f 'https://h/?sig=s3cret'"):
        (option,) = classify(Line.of(line, source=SOURCE))
        assert isinstance(option, PipOption)
        assert option.secret is not None
        assert "s3cret" in option.secret.value
        assert "'" not in option.secret.value
        assert "s3cret" not in repr(option)


def test_what_is_editable_is_a_requirement_too() -> None:
    option, requirement, other = classify(Line.of("-e git+https://h/r#egg=x --pre", source=SOURCE))
    assert isinstance(option, PipOption)
    assert (option.name, option.value) == ("--editable", "git+https://h/r#egg=x")
    assert isinstance(requirement, Requirement)
    assert requirement.text == "x @ git+https://h/r"
    assert isinstance(other, PipOption)
    assert other.name == "--pre"


@pytest.mark.parametrize("line", ["", "   ", "# Original requirements", "  # x", "\t"])
def test_comments_and_blank_lines_are_nothing(line: str) -> None:
    assert classify(Line.of(line, source=SOURCE)) == ()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("numpy=1.0", "`numpy=1.0` is not a requirement"),
        ("--pre --frob", "`--frob` is not an option"),
        ("-r ''", "`--requirement` has no value"),
        ("--index-ur x", "`--index-ur` is not an option"),
        ("--frobnicate", "`--frobnicate` is not an option"),
        ("--pre=1", "`--pre` is not an option"),
        ("-r", "`--requirement` has no value"),
        ("six\n--index-url http://evil", "holds control characters"),
        ("a" * 20_001, "too long"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_anything_else_is_a_problem_with_a_fix(line: str, what: str) -> None:
    problem = classify(Line.of(line, source=SOURCE))[-1]
    assert isinstance(problem, Problem)
    assert what in problem.what
    assert problem.where == SOURCE
    assert problem.fix


def test_a_misspelt_option_gets_its_nearest_spelling() -> None:
    (problem,) = classify(Line.of("--index-ur https://h", source=SOURCE))
    assert isinstance(problem, Problem)
    assert problem.fix == "did you mean `--index-url`?"


@given(
    st.sampled_from(["-i {}", "--extra-index-url={}", "x @ {}", "{}", "-e git+{}", "numpy=={}", "--frob {}", "a b {}"]),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\"#@"), max_size=5),
)
def test_no_password_survives_in_any_value(template: str, noise: str) -> None:
    line = template.format(f"https://user:{noise}s3cret{noise}@host/simple")
    assert "s3cret" not in repr(classify(Line.of(line, source=SOURCE)))


@given(st.text())
def test_any_line_is_classified(line: str) -> None:
    for item in classify(Line.of(line, source=SOURCE)):
        if isinstance(item, Requirement):
            assert item.text.isprintable()
