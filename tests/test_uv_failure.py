from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import digest, uv_failure
from envbuilder.conda_package import CondaPackage
from envbuilder.conda_yaml import MatchSpec
from envbuilder.environment_spec import EnvironmentSpec
from envbuilder.errors import EnvBuilderError, LockImpossibleError, Source, UnreachableError
from envbuilder.fields import Stated
from envbuilder.package_index import PackageIndex
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import Requirement
from envbuilder.settings import Settings
from envbuilder.target import Target
from envbuilder.uv_failure import Question

CONDA, REPAIRS = Source(file="churn/conda.yaml"), Source(file="envbuilder", key="repairs.part-before-2")
INDEX = Source(file="workspace/envbuilder.yaml", key="defaults.extra_index_urls[0]")
SETTINGS = Settings(cache_dir=Path("cache"))
QUESTION = Question(python_version="3.12.4", target=Target(subdir="linux-64"), settings=SETTINGS)
HEADING = "no set of packages satisfies the requirements"


def said(text: str) -> list[str]:
    """Return what uv prints on its standard error when it finds no solution."""
    first, *others = text.strip().splitlines()
    return [
        "warning: Requirements file `constraints.in` does not contain any dependencies",
        "error: No solution found when resolving dependencies",
        f"  cause: {first.strip()}",
        *(f"         {line.strip()}" for line in others),
        "",
        "hint: Wheels are required for `x` because building from source is disabled (i.e., with `--no-build`)",
    ]


LZ4 = """
Because lz4==4.3.2 has no usable wheels and you require lz4==4.3.2, we can conclude that your requirements are
unsatisfiable.
"""
PYMEEUS = """
Because all versions of pymeeus have no usable wheels and holidays==0.19 depends on pymeeus,
we can conclude that holidays==0.19 cannot be used.
And because you require holidays==0.19, we can conclude that your requirements are unsatisfiable.
"""
TWO_LINES = """
Because all versions of low depend on part<2 and all versions of pin2 depend on part>=2,
we can conclude that all versions of low and all versions of pin2 are incompatible.
And because you require pin2 and low, we can conclude that your requirements are unsatisfiable.
"""
CONSTRAINED = """
Because all versions of pin2 depend on part>=2 and part<2, we can conclude that all versions of pin2 cannot be used.
And because you require pin2, we can conclude that your requirements are unsatisfiable.
"""
OLD_PYTHON = """
Because the requested Python version (>=3.7.3) does not satisfy Python>=3.8 and tool>=2 depends on Python>=3.8,
we can conclude that tool>=2 cannot be used.
And because you require tool>=2, we can conclude that your requirements are unsatisfiable.
"""


def spec(*lines: str, constraints: tuple[str, ...] = (), match_specs: tuple[str, ...] = ()) -> EnvironmentSpec:
    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse("3.7.3"), source=CONDA.child("dependencies").child(0)),
        requirements=tuple(Requirement.parse(line, source=CONDA.child("pip").child(i)) for i, line in enumerate(lines)),
        constraints=tuple(Requirement.parse(line, source=REPAIRS) for line in constraints),
        match_specs=tuple(
            MatchSpec.parse(one, source=CONDA.child("dependencies").child(i)) for i, one in enumerate(match_specs, 1)
        ),
    )


def placed(text: str, asked: EnvironmentSpec, provided: dict[str, CondaPackage] | None = None) -> list[tuple[str, str]]:
    """Return what is told of each place, of the first only the heading."""
    cause = uv_failure.error(said(text), QUESTION)
    assert isinstance(cause, LockImpossibleError)
    named = provided or {}
    found = uv_failure.with_places(cause, asked, named)  # type: ignore[arg-type]
    return [(one.what.partition("\n")[0], one.where.key if one.where is not None else "") for one in found.problems]


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        (
            LZ4,
            spec("mlflow==2", "lz4==4.3.2"),
            [(f"{HEADING}: of `lz4` there is no fitting wheel for Python 3.12 on linux-64", "pip[1]")],
        ),
        (
            PYMEEUS,
            spec("pandas", "holidays==0.19"),
            [(f"{HEADING}: of `pymeeus` there is no fitting wheel for Python 3.12 on linux-64", "pip[1]")],
        ),
        (TWO_LINES, spec("part", "low", "pin2"), [(HEADING, "pip[1]"), ("`pin2` takes part in it", "pip[2]")]),
        (
            CONSTRAINED,
            spec("pin2", "other", constraints=("part<2", "absent<3")),
            [(HEADING, "pip[0]"), ("`part<2` takes part in it", "repairs.part-before-2")],
        ),
        (
            OLD_PYTHON,
            spec("tool>=2"),
            [
                (f"{HEADING} for Python 3.12 on linux-64", "pip[0]"),
                ("Python 3.7.3 takes part in it", "dependencies[0]"),
            ],
        ),
        ("It cannot be.", spec("tool>=2"), [(HEADING, "dependencies[0]")]),
        ("The package Tool cannot be.", spec("tool>=2"), [(HEADING, "pip[0]")]),
    ],
    ids=["a line", "a line's dependency", "two lines", "a constraint", "Python", "nothing known", "words alone"],
)
def test_the_lines_that_take_part_are_named(text: str, asked: EnvironmentSpec, expected: list[tuple[str, str]]) -> None:
    assert placed(text, asked) == expected


def test_the_line_that_is_blamed_comes_first() -> None:
    text = """
    Because top==1 depends on part and part has no usable wheels, we can conclude that top==1 cannot be used.
    And because you require top==1 and part, we can conclude that your requirements are unsatisfiable.
    """
    assert [key for _, key in placed(text, spec("top==1", "part"))] == ["pip[1]", "pip[0]"]


def test_a_conda_package_that_counts_is_named_with_its_line() -> None:
    torch = CondaPackage.from_record(
        {
            "name": "pytorch",
            "version": "2.3.1",
            "build": "0",
            "build_number": 0,
            "subdir": "linux-64",
            "url": "https://channel.example/main/linux-64/pytorch-2.3.1-0.conda",
            "sha256": digest.hex_of(digest.of_bytes(b"x")),
            "md5": "0" * 32,
            "depends": [],
        }
    )
    text = """
    Because all versions of vision depend on torch>=2.4 and torch==2.3.1,
    we can conclude that all versions of vision cannot be used.
    And because you require vision, we can conclude that your requirements are unsatisfiable.
    """
    asked = spec("vision", match_specs=("numpy", "pytorch=2.3"))
    assert placed(text, asked, {"torch": torch}) == [
        (HEADING, "pip[0]"),
        ("`pytorch=2.3` takes part in it", "dependencies[2]"),
    ]


def test_a_long_explanation_is_shown_from_its_end_and_searched_whole() -> None:
    long = "Because early has no usable wheels and x depends on early, we can conclude that x cannot be used.\n"
    long += "".join(f"And because step {i} follows, we go on.\n" for i in range(40)) + TWO_LINES.strip()
    (problem,) = uv_failure.error(said(long), QUESTION).problems
    heading, more, *lines = problem.what.splitlines()
    assert heading == f"{HEADING}: of `early` there is no fitting wheel for Python 3.12 on linux-64"
    assert more == "… 32 lines before, all of them with `-v`"
    assert len(lines) == 12
    assert lines[-1].startswith("And because you require pin2 and low")
    assert "hint" not in problem.what


def test_of_many_packages_without_wheels_a_few_are_named() -> None:
    text = " ".join(f"And because {name}==1 has no usable wheels." for name in "abcde")
    (problem,) = uv_failure.error(said(text), QUESTION).problems
    assert problem.what.startswith(f"{HEADING}: of `a`, `b`, `c`, … there is no fitting wheel")


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (
            "Because tpo was not found in the package registry",
            ": no index has `tpo`",
            "check its name, or name an index",
        ),
        ('Because part==2.0 was yanked (reason: "x") and', ": `part` was yanked", "ask for another version, or pin it"),
    ],
)
def test_what_nobody_offers_is_told(text: str, what: str, fix: str) -> None:
    (problem,) = uv_failure.error(said(text), QUESTION).problems
    assert problem.what.splitlines()[0] == f"{HEADING}{what}"
    assert str(problem.fix).startswith(fix)


def test_a_date_is_part_of_the_fix_where_one_was_given() -> None:
    text = "Because there is no version of top==9 and you require top==9, we can conclude that it is unsatisfiable."
    (problem,) = uv_failure.error(said(text), replace(QUESTION, exclude_newer="2026-01-31")).problems
    assert problem.fix == "ask for a version that exists, or for a later date than `--exclude-newer`"


def unreachable(lines: str, question: Question = QUESTION) -> EnvBuilderError:
    found = uv_failure.error(lines.splitlines(), question)
    assert isinstance(found, UnreachableError)
    return found


FETCH = "error: Failed to fetch: `https://u:canary@index.example/team/simple/top/`\n  cause: "
LOGIN = "check the user and password: in the index's URL, in .netrc, or what `keyring get URL USER` prints"


@pytest.mark.parametrize(
    ("lines", "what", "fix"),
    [
        (f"{FETCH}HTTP status client error (410 Gone) for url", "the package index answered 410 Gone", "check its URL"),
        (
            f"{FETCH}HTTP status server error (502 Bad Gateway) for url",
            "the package index cannot answer now (502 Bad Gateway)",
            "try again later",
        ),
        (f"{FETCH}429 Too Many Requests", "the package index cannot answer now (with an error)", "try again later"),
        (f"{FETCH}dns error", "the package index did not answer", "check the network"),
        (f"{FETCH}HTTP status client error (403 Forbidden)", "the package index refused (403)", LOGIN),
    ],
)
def test_an_index_that_cannot_be_read_is_told_without_its_password(lines: str, what: str, fix: str) -> None:
    (problem,) = unreachable(lines).problems
    assert problem.what.splitlines()[0] == what
    assert str(problem.fix).startswith(fix)
    assert problem.where == Source(file="https://index.example/team/simple")
    assert "canary" not in str(problem)


def test_an_index_of_the_workspace_is_named_by_its_place() -> None:
    index = PackageIndex(kind="extra_index_url", url="https://index.example/team/simple/", source=INDEX)
    other = replace(index, url="https://index.example/te")
    (problem,) = unreachable(f"{FETCH}dns error", replace(QUESTION, indexes=(other, index))).problems
    assert problem.where == INDEX


def test_a_page_that_is_not_below_simple_is_named_whole() -> None:
    (problem,) = unreachable("error: Failed to fetch: `https://index.example/links/`\n  cause: dns error").problems
    assert problem.where == Source(file="https://index.example/links/")


@pytest.mark.parametrize("lines", ["error: connection refused", "Failed to fetch: `https://[/simple/x/`"])
def test_an_address_that_is_none_is_no_place(lines: str) -> None:
    assert unreachable(lines).problems[0].where is None


@pytest.mark.parametrize(
    ("cause", "what"),
    [
        ("connection refused", "the proxy proxy.example:3128 did not let through"),
        ("403 Forbidden", "the package index"),
    ],
)
def test_a_proxy_is_named_where_it_may_be_its_trouble(cause: str, what: str) -> None:
    settings = replace(SETTINGS, environ=(("https_proxy", "http://u:canary@proxy.example:3128"),))
    (problem,) = unreachable(FETCH + cause, replace(QUESTION, settings=settings)).problems
    assert problem.what.startswith(what)
    assert "proxy" in f"{problem.what}{problem.fix}"
    assert "canary" not in str(problem)


def test_offline_is_told_as_such() -> None:
    offline = replace(QUESTION, settings=replace(SETTINGS, offline=True))
    found = uv_failure.error(["error: it failed", "  cause: the network was disabled"], offline)
    assert isinstance(found, LockImpossibleError)
    assert found.problems[0].fix == "run once without `--offline`, or bring the cache of a machine that has it"
