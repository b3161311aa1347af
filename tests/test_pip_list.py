from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import Source
from envbuilder.package_index import normal_url
from envbuilder.pip_line import Line
from envbuilder.pip_list import PipList, Surroundings
from envbuilder.requirements_txt import RequirementsTxt
from tests.strategies import REQUIREMENTS

SOURCE = Source(file="conda.yaml", key="dependencies[1]")
WHEEL = "wheels/a-1-py3-none-any.whl"
DIGEST = "sha256:" + "a" * 64


def read(*lines: str, allowed: tuple[str, ...] | None = (), files: dict[str, str] | None = None) -> PipList:
    """Read a pip list; `a/b` is the file `a/b.txt` that it may include."""
    paths = {f"{name}.txt": text for name, text in (files or {}).items()}
    around = Surroundings(
        files={path: RequirementsTxt.parse(text, file=path) for path, text in paths.items()},
        wheels={WHEEL: DIGEST},
        allowed_indexes=allowed,
    )
    given_lines = tuple(Line.of(line, source=SOURCE.child("pip").child(n)) for n, line in enumerate(lines))
    return PipList.read(given_lines, beside="conda.yaml", around=around)


def texts(found: PipList) -> tuple[list[str], list[str], list[str]]:
    return (
        [one.text for one in found.requirements],
        [one.text for one in found.constraints],
        [problem.what for problem in found.problems],
    )


def test_lines_and_included_lines_are_read_in_order() -> None:
    files = {"sub/a": "six\n-c b.txt", "sub/b": "idna<4\n-r d.txt", "sub/d": "x<2", "c": "y<3"}
    found = read("numpy", "-r sub/a.txt", "-c c.txt", files=files)
    assert texts(found) == (["numpy", "six"], ["idna<4", "x<2", "y<3"], [])
    assert str(found.requirements[1].source) == "sub/a.txt: line 1"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-r ../x.txt", "`--requirement ../x.txt` leads out of the model directory"),
        ("-c https://h/x.txt", "`--constraint https://h/x.txt` leads out of the model directory"),
        ("-r gone.txt", "`--requirement gone.txt`: there is no such file in the model directory"),
        ("-r loop.txt", "`--requirement loop.txt` includes itself, or too many files in a row"),
        ("-r f0.txt", "`--requirement f8.txt` includes itself, or too many files in a row"),
        ("-c place.txt", "`x @ https://h/x.whl` is a place, which cannot limit a version"),
        ("./gone-1-py3-none-any.whl", "`gone-1-py3-none-any.whl`: there is no such wheel in the model directory"),
        (f"{WHEEL} --hash=sha256:bb", f"`{WHEEL}` has another content than its `--hash` says: `{DIGEST}`"),
        ("a b", "`a b` is not a requirement: Expected semicolon (after name with no version specifier) or end"),
    ],
    ids=lambda value: value[:25],
)
def test_what_cannot_be_used_is_refused_with_its_place(line: str, what: str) -> None:
    chain = {f"f{n}": f"-r f{n + 1}.txt" for n in range(12)}
    found = read(line, files={"loop": "-r loop.txt", "place": "x @ https://h/x.whl", **chain})
    (problem,) = found.problems
    assert (problem.what, bool(problem.fix)) == (what, True)
    assert problem.where is not None


@pytest.mark.parametrize("hashes", ["", f" --hash={DIGEST}", " --hash=sha512:aa", f" --hash=sha256:bb --hash={DIGEST}"])
def test_a_wheel_is_asked_for_by_its_content(hashes: str) -> None:
    (requirement,) = read(f"{WHEEL}{hashes}").requirements
    assert (requirement.path, requirement.hashes) == (WHEEL, (DIGEST,))


OPTIONS = [
    ("--no-index", "the workspace decides where packages come from"),
    ("--trusted-host h", "the workspace decides which hosts are trusted"),
    ("--pre", "a pre-release is taken only where a requirement names one"),
    ("--prefer-binary", "wheels are always preferred"),
    ("--only-binary :all:", "wheels are always preferred"),
    ("--no-binary :all:", "wheels are always preferred"),
    ("--require-hashes", "every locked package has its digest"),
    ("--use-feature x", "it is for pip alone"),
    ("--use-pep517", "it is for pip alone"),
    ("-i h/simple", "not an https place"),
    ("-f ./wheels", "a wheel in the model directory is named as `./NAME.whl`"),
    ("-i https://evil.example/simple", "does not list this place in `allowed_indexes`"),
    ("-i https://evil.example/x@h.example/simple", "does not list this place in `allowed_indexes`"),
    ("-i https://evil.example:80/@h.example/simple", "does not list this place in `allowed_indexes`"),
]


@pytest.mark.parametrize(("line", "reason"), OPTIONS, ids=[line for line, _ in OPTIONS])
def test_an_option_without_effect_is_kept_with_the_reason(line: str, reason: str) -> None:
    found = read(line, allowed=("https://h.example/simple",))
    (one,) = found.unused
    assert reason in one.reason
    assert one.source == SOURCE.child("pip").child(0)
    assert (found.indexes, found.problems) == ([], [])


def test_what_is_editable_is_installed_and_said_to_be_so() -> None:
    found = read("-e git+https://h/r#egg=x")
    assert texts(found) == (["x @ git+https://h/r"], [], [])
    assert [one.name for one in found.unused] == ["--editable"]


@pytest.mark.parametrize("allowed", [("https://h.example/simple",), None], ids=["listed", "all"])
@pytest.mark.parametrize(
    "url", ["https://h.example/simple", "HTTPS://H.Example/simple/", "https://u:s3cret@h.example/simple"]
)
def test_a_listed_index_is_used_with_its_credentials(url: str, allowed: tuple[str, ...] | None) -> None:
    found = read(
        f"-i {url}", f"--extra-index-url {url}", f"--find-links={url}", "-i https://h.example/simple/", allowed=allowed
    )
    assert [(one.kind, one.address) for one in found.indexes] == [
        ("index_url", url),
        ("extra_index_url", url),
        ("find_links", url),
    ]
    assert {normal_url(one.url) for one in found.indexes} == {"https://h.example/simple"}
    assert "s3cret" not in repr(found)


def test_the_last_index_url_counts_as_in_pip() -> None:
    found = read("-i https://a", "--extra-index-url https://x", "-i https://b", "-i https://b/", allowed=None)
    assert [(one.kind, one.url) for one in found.indexes] == [
        ("extra_index_url", "https://x"),
        ("index_url", "https://b"),
    ]
    (one,) = found.unused
    assert (one.name, one.value, one.reason) == (
        "--index-url",
        "https://a",
        "not used: `--index-url https://b` comes after it",
    )


@given(st.lists(REQUIREMENTS | st.sampled_from(["-e .", "--pre", "-r x.txt", "-i https://h", "# note", "a b"])))
def test_every_line_ends_up_somewhere(lines: list[str]) -> None:
    found = read(*lines)
    told = [one.source for one in found.requirements] + [one.source for one in found.unused]
    refused = [one.where for one in found.problems]
    expected = {SOURCE.child("pip").child(n) for n, line in enumerate(lines) if not line.startswith("#")}
    assert {*told, *refused} == expected
