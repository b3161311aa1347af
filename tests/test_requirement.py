from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.pip_line import Line, classify
from envbuilder.requirement import Requirement, is_place
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
    (requirement,) = classify(Line.of(line, source=SOURCE))
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


GIT_SSH = "git+ssh://git@github.com/o/r.git@main"
PLACES = [
    # written, text, hashes
    ("-e git+https://h/r.git@v1#egg=x", "x @ git+https://h/r.git@v1", ()),
    ("git+https://h/r.git#egg=X_y[test,Dev]&subdirectory=s", "x-y[dev,test] @ git+https://h/r.git#subdirectory=s", ()),
    ("git+https://h/r.git#subdirectory=s&egg=x", "x @ git+https://h/r.git#subdirectory=s", ()),
    (f"x @ {GIT_SSH}", f"x @ {GIT_SSH}", ()),
    ("git+ssh://git@h:22/o/r.git#egg=x", "x @ git+ssh://git@h:22/o/r.git", ()),
    ("x@HTTPS://H.Example/A.whl", "x @ https://h.example/A.whl", ()),
    ("https://h/A_b-1.0-py3-none-any.whl", "a-b @ https://h/A_b-1.0-py3-none-any.whl", ()),
    ("https://h/a-1.0%2Bcpu-py3-none-any.whl", "a @ https://h/a-1.0%2Bcpu-py3-none-any.whl", ()),
    ("https://[::1]:80/a-1.0-py3-none-any.whl", "a @ https://[::1]:80/a-1.0-py3-none-any.whl", ()),
    ("https://h/a-1.0.tar.gz#sha256=aa", "a @ https://h/a-1.0.tar.gz", ("sha256:aa",)),
    ("x @ https://h/a.whl#sha256=aa&egg=x --hash=sha256:bb", "x @ https://h/a.whl", ("sha256:aa", "sha256:bb")),
    ("https://h/main.zip#egg=x ; python_version<'4'", 'x @ https://h/main.zip ; python_version < "4"', ()),
    ("./a-1.0-py3-none-any.whl", "a @ ./a-1.0-py3-none-any.whl", ()),
    ("a-1.0-py3-none-any.whl", "a @ ./a-1.0-py3-none-any.whl", ()),
    ("wheels//a-1.0-py3-none-any.whl[x]", "a[x] @ ./wheels/a-1.0-py3-none-any.whl", ()),
    ("./t/a-1.0-py3-none-any.whl", "a @ ./t/a-1.0-py3-none-any.whl", ()),
    ("a @ ./b.whl", "a @ ./b.whl", ()),
    ("a @ file:b.whl", "a @ ./b.whl", ()),
]


@pytest.mark.parametrize(("line", "text", "hashes"), PLACES, ids=[line for line, _, _ in PLACES])
def test_every_spelling_of_a_place_is_a_requirement(line: str, text: str, hashes: tuple[str, ...]) -> None:
    requirement = classify(Line.of(line, source=SOURCE))[-1]
    assert isinstance(requirement, Requirement)
    assert (requirement.text, requirement.hashes) == (text, hashes)
    assert requirement.is_direct
    assert (requirement.url is None) == (requirement.path is not None)
    again = Requirement.parse(text, source=SOURCE)
    assert replace(again, hashes=hashes).meaning == requirement.meaning


OUTSIDE = "is a path outside the model directory"
NO_WHEEL = "is a path of something that is not a wheel"
NO_URL = "is not a URL that packages can be fetched from"
NAMELESS = "does not say which package is there"
REFUSED_PLACES = [
    ("file:///a-1-py3-none-any.whl", OUTSIDE),
    ("x @ file:///a.whl", OUTSIDE),
    ("x @ file://localhost/a.whl", OUTSIDE),
    ("/abs/a-1-py3-none-any.whl", OUTSIDE),
    ("~/a-1-py3-none-any.whl", OUTSIDE),
    ("../a-1-py3-none-any.whl", OUTSIDE),
    ("C:\\a-1-py3-none-any.whl", OUTSIDE),
    ("-e .", NO_WHEEL),
    ("-e ./src", NO_WHEEL),
    ("./a-1.0.tar.gz", NO_WHEEL),
    ("x @ git+git@github.com:o/r.git", NO_URL),
    ("git+ssh://git@github.com:o/r.git#egg=x", NO_URL),
    ("git+file:///srv/r#egg=x", NO_URL),
    ("x @ https://h/{{x}}.whl", NO_URL),
    ("git+git@github.com:o/r.git", NAMELESS),
    ("git+https://h/r.git", NAMELESS),
    ("https://h/main.zip", NAMELESS),
    ("a.whl", NAMELESS),
    ("x @ svn+https://h/r", "packages are not fetched by `svn+https:`"),
    ("s3://bucket/a-1.0-py3-none-any.whl", "packages are not fetched by `s3:`"),
    ("x @ ftp://h/a.whl", "packages are not fetched by `ftp:`"),
]


@pytest.mark.parametrize(("line", "what"), REFUSED_PLACES, ids=[line for line, _ in REFUSED_PLACES])
def test_other_places_are_refused_with_a_fix(line: str, what: str) -> None:
    problem = classify(Line.of(line, source=SOURCE))[-1]
    assert isinstance(problem, Problem)
    assert what in problem.what
    assert (problem.where, bool(problem.fix)) == (SOURCE, True)


def test_a_repository_by_scp_is_told_its_url() -> None:
    (problem,) = classify(Line.of("x @ git+git@github.com:o/r.git", source=SOURCE))
    assert isinstance(problem, Problem)
    assert problem.fix == "write `git+ssh://git@HOST/PATH.git`"


@pytest.mark.parametrize(
    ("line", "shown", "value"),
    [
        ("x @ https://u:s3cret@h/x.whl", "https://***@h/x.whl", "https://u:s3cret@h/x.whl"),
        ("-e git+https://u:s3cret@h/r@v1#egg=x", "git+https://***@h/r@v1", "git+https://u:s3cret@h/r@v1"),
        ("https://h/x-1.tar.gz?sig=s3cret", "https://h/x-1.tar.gz?***", "https://h/x-1.tar.gz?sig=s3cret"),
        ("x @ https://u:s3{cret@h/x.whl", "https://***@h/x.whl", "https://u:s3{cret@h/x.whl"),
    ],
    ids=["url", "repository", "signature", "odd characters"],
)
def test_a_place_keeps_its_credentials_as_a_secret(line: str, shown: str, value: str) -> None:
    requirement = classify(Line.of(line, source=SOURCE))[-1]
    assert isinstance(requirement, Requirement)
    assert requirement.secret is not None
    assert (requirement.url, requirement.secret.value) == (shown, value)
    assert "s3" not in repr(requirement)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy", False),
        ("numpy==1", False),
        ("numpy @ https://h/x", False),
        ("numpy[a,b] @ ./x.whl", False),
        ("https://h/x", True),
        (".", True),
        ("~/x", True),
        ("a/b", True),
        ("a.zip[x] ; python_version>'3'", True),
    ],
)
def test_a_place_is_told_from_a_name(text: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_place(text) is expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("numpy==1.0", "NumPy == 1.0.0", True),
        ("numpy>=1,<2", "numpy<2.0, >=1", True),
        ("a[x,Y]", "a[y,X]", True),
        ("a @ HTTPS://h/a.whl", "a @ https://H/a.whl", True),
        ("numpy~=1.0", "numpy~=1.0.0", False),
        ("numpy===1.0", "numpy===1.0.0", False),
        ("a[x]", "a", False),
        ("a @ https://h/a.whl", "a @ https://h/b.whl", False),
        ("a @ ./a.whl", "a @ ./b.whl", False),
        ("a; python_version>'3'", "a", False),
    ],
)
def test_what_means_the_same_is_equal(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a table's column
    meanings = {Requirement.parse(text, source=SOURCE).meaning for text in (one, other)}
    assert (len(meanings) == 1) is same


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("numpy=1.0", "`numpy=1.0` is not a requirement"),
        ("a b", "`a b` is not a requirement"),
        ("six==1 --global-option=x", "`--global-option=x` is not accepted after a requirement"),
        ("six==1 --hash=md5:aa", "`--hash=md5:aa` is not accepted"),
        ("six===`id`", "``id`` is not a version"),
        ("six_", "`six_` is not a name"),
        ("six[a_]", "`a_` is not a name"),
        ("six; python_version > '\\x0a'", "has a backslash in its marker"),
        ("six\nscipy", "holds control characters"),
        ("x; " + "(" * 3000 + "python_version>'3'" + ")" * 3000, ""),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_anything_else_is_refused_with_a_fix(line: str, what: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        Requirement.parse(line, source=SOURCE)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert (problem.where, bool(problem.fix)) == (SOURCE, True)


@pytest.mark.parametrize("line", ["numpy=1", "-r x", "", "./a.txt"])
def test_parse_takes_one_requirement_only(line: str) -> None:
    with pytest.raises(InvalidFileError):
        Requirement.parse(line, source=SOURCE)


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
        found = classify(Line.of(line, source=SOURCE))
        assert not any(isinstance(one, Requirement) for one in found)


@pytest.mark.parametrize("line", ["six==" + "1" * 5000, "six>=1; python_version > '" + "3" * 5000 + "'"])
def test_a_number_without_end_is_no_version(line: str) -> None:
    (problem,) = classify(Line.of(line, source=SOURCE))
    assert isinstance(problem, Problem)
    assert problem.what == "a number of more than 100 digits is not part of a version"
