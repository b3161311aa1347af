from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.requirement import DirectReference, PipOption, Requirement, classify, redact
from tests.strategies import HOSTILE, NAMES, REQUIREMENTS, VERSIONS

SOURCE = Source(file="conda.yaml", key="dependencies[2].pip[0]")


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ("mlflow", "mlflow", "mlflow"),
        ("NumPy == 1.26.4", "numpy", "numpy==1.26.4"),
        ("mlflow<3,>=2.2", "mlflow", "mlflow<3,>=2.2"),
        ("typing_extensions==4.3.0", "typing-extensions", "typing-extensions==4.3.0"),
        ("requests[socks,Security]>=2; python_version>'3.0'", "requests", None),
        ("mlflow[gateway]==2.12.2", "mlflow", "mlflow[gateway]==2.12.2"),
        ("six==1.16.0  # pinned", "six", "six==1.16.0"),
        ("foo @ https://example.com/foo.whl", "foo", "foo @ https://example.com/foo.whl"),
        ("six@ git+https://github.com/b/six@1.16.0", "six", "six @ git+https://github.com/b/six@1.16.0"),
        ("foo @ https://example.com/foo.whl ; python_version < '4'", "foo", None),
        ("numpy===1.0-weird", "numpy", "numpy===1.0-weird"),
    ],
)
def test_a_requirement_is_read_into_one_spelling(line: str, name: str, text: str | None) -> None:
    (requirement,) = classify(line, source=SOURCE)
    assert isinstance(requirement, Requirement)
    assert requirement.name == name
    assert requirement.source == SOURCE
    if text is not None:
        assert requirement.text == text
    assert Requirement.parse(requirement.text, source=SOURCE).meaning == requirement.meaning


def test_hashes_are_kept() -> None:
    requirement = Requirement.parse("six==1.16.0 --hash=sha256:bb --hash sha256:aa", source=SOURCE)
    assert requirement.hashes == ("sha256:aa", "sha256:bb")
    assert requirement.text == "six==1.16.0"
    assert requirement.meaning != Requirement.parse("six==1.16.0", source=SOURCE).meaning


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("-r requirements.txt", [("--requirement", "requirements.txt")]),
        ("-rrequirements.txt", [("--requirement", "requirements.txt")]),
        ("--requirement=a.txt", [("--requirement", "a.txt")]),
        ("-c constraints.txt", [("--constraint", "constraints.txt")]),
        ("-e .", [("--editable", ".")]),
        ("-i https://h/simple", [("--index-url", "https://h/simple")]),
        ("--extra-index-url 'https://h/simple'", [("--extra-index-url", "https://h/simple")]),
        ("--find-links ./wheels", [("--find-links", "./wheels")]),
        ("--pre", [("--pre", "")]),
        (
            "-i https://a --extra-index-url=https://b",
            [("--index-url", "https://a"), ("--extra-index-url", "https://b")],
        ),
        ("--index-url u:p@h/simple", [("--index-url", "***@h/simple")]),
        ("--index-url=u:p@h/simple", [("--index-url", "***@h/simple")]),
    ],
)
def test_an_option_is_told_apart(line: str, options: list[tuple[str, str]]) -> None:
    found = classify(line, source=SOURCE)
    assert [(one.name, one.value) for one in found if isinstance(one, PipOption)] == options
    assert len(found) == len(options)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("./wheels/a.whl", "path"),
        ("wheels/a-1-py3-none-any.whl", "path"),
        ("a-1-py3-none-any.whl", "path"),
        ("/abs/a", "path"),
        ("~/a", "path"),
        ("file:///a.whl", "path"),
        ("https://h/a.whl", "url"),
        ("git+https://h/a.git@main#egg=a", "repository"),
        ("git+git@github.com:o/r.git", "repository"),
    ],
)
def test_a_place_is_told_apart(line: str, kind: str) -> None:
    (found,) = classify(line, source=SOURCE)
    assert isinstance(found, DirectReference)
    assert found.kind == kind


@pytest.mark.parametrize("line", ["", "   ", "# Original requirements", "  # x", "\t"])
def test_comments_and_blank_lines_are_nothing(line: str) -> None:
    assert classify(line, source=SOURCE) == ()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("numpy=1.0", "`numpy=1.0` is not a requirement"),
        ("a b", "`a b` is not a requirement"),
        ("--index-ur x", "`--index-ur` is not an option"),
        ("--frobnicate", "`--frobnicate` is not an option"),
        ("--pre=1", "`--pre` is not an option"),
        ("-r", "`--requirement` has no value"),
        ("six==1 --global-option=x", "`--global-option=x` is not accepted after a requirement"),
        ("six==1 --hash=md5:aa", "`--hash=md5:aa` is not accepted"),
        ("six===`id`", "``id`` is not a version"),
        ("six\n--index-url http://evil", "holds control characters"),
        ("a" * 20_001, "too long"),
        ("x; " + "(" * 3000 + "python_version>'3'" + ")" * 3000, ""),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_anything_else_is_a_problem_with_a_fix(line: str, what: str) -> None:
    problem = classify(line, source=SOURCE)[-1]
    assert isinstance(problem, Problem)
    assert what in problem.what
    assert problem.where == SOURCE
    assert problem.fix


def test_a_misspelt_option_gets_its_nearest_spelling() -> None:
    (problem,) = classify("--index-ur https://h", source=SOURCE)
    assert isinstance(problem, Problem)
    assert problem.fix == "did you mean `--index-url`?"


@pytest.mark.parametrize("line", ["numpy=1", "-r x", "", "./a.whl"])
def test_parse_takes_one_requirement_only(line: str) -> None:
    with pytest.raises(InvalidFileError):
        Requirement.parse(line, source=SOURCE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:s3cret@h/x", "https://***@h/x"),
        ("https://s3cret@h/x", "https://***@h/x"),
        ("https://u:s3/cr#et@h/x", "https://***@h/x"),
        ("https://u:s3/cret", "https://***"),
        ("https://h:8080/x", "https://h:8080/x"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("git+ssh://git@github.com/o/r@v1", "git+ssh://git@github.com/o/r@v1"),
        ("https://h/x?sig=s3cret#egg=a", "https://h/x?***#egg=a"),
        ("six @ git+https://h/six@1.16.0", "six @ git+https://h/six@1.16.0"),
        ("https://h/t/s3cret/chan", "https://h/t/***/chan"),
        (
            "-i https://a:s3cret@h --extra-index-url https://b:s3cret@h",
            "-i https://***@h --extra-index-url https://***@h",
        ),
        ("u:s3cret@h/simple", "***@h/simple"),
    ],
)
def test_credentials_are_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected


@given(
    st.sampled_from(["-i {}", "--extra-index-url={}", "x @ {}", "{}", "-e git+{}", "numpy=={}", "--frob {}", "a b {}"]),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\"#@"), max_size=5),
)
def test_no_password_survives_in_any_value(template: str, noise: str) -> None:
    line = template.format(f"https://user:{noise}s3cret{noise}@host/simple")
    assert "s3cret" not in repr(classify(line, source=SOURCE))


@given(REQUIREMENTS)
def test_a_requirement_survives_its_own_text(line: str) -> None:
    requirement = Requirement.parse(line, source=SOURCE)
    again = Requirement.parse(requirement.text, source=SOURCE)
    assert (again.text, again.meaning) == (requirement.text, requirement.meaning)


@given(NAMES, VERSIONS)
def test_equal_spellings_mean_the_same(name: str, version: str) -> None:
    one = Requirement.parse(f"{name}=={version}.0", source=SOURCE)
    other = Requirement.parse(f"{name.upper().replace('-', '_')} == {version}", source=SOURCE)
    assert one.meaning == other.meaning


@given(NAMES, HOSTILE, NAMES)
def test_hostile_names_and_versions_are_refused(name: str, hostile: str, rest: str) -> None:
    for line in (f"{name}{hostile}{rest}", f"{name}==1{hostile}{rest}", f"{name}==={rest}{hostile}{rest}"):
        found = classify(line, source=SOURCE)
        assert not any(isinstance(one, Requirement) for one in found)


@given(st.text())
def test_any_line_is_classified(line: str) -> None:
    for item in classify(line, source=SOURCE):
        if isinstance(item, Requirement):
            assert item.text.isprintable()
