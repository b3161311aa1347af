from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import package_index
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.package_index import PackageIndex, is_index_url, normal_url
from envbuilder.problems import Problems

SOURCE = Source(file="envbuilder.yaml", key="allowed_indexes[0]")


def read(url: str) -> tuple[PackageIndex | None, Problems]:
    problems = Problems()
    return package_index.read("extra_index_url", Stated(value=url, source=SOURCE), problems), problems


def test_an_index_keeps_its_credentials_apart() -> None:
    found, _ = read("https://u:s3cret@h/simple")
    assert found is not None
    assert (found.url, found.address) == ("https://***@h/simple", "https://u:s3cret@h/simple")
    assert "s3cret" not in repr(found)
    plain, _ = read("https://H/simple/")
    assert plain is not None
    assert (plain.url, plain.address, plain.secret) == ("https://H/simple/", "https://H/simple/", None)
    assert plain.meaning == found.meaning == "extra_index_url https://h/simple"


@pytest.mark.parametrize("url", ["h/simple", "file:///srv", "ftp://h", "https://h/a b", "https://h/\n", "", "$(id)"])
def test_anything_else_is_refused_with_its_place(url: str) -> None:
    found, problems = read(url)
    assert found is None
    (problem,) = problems.found
    assert "is not the URL of a package index" in problem.what
    assert (problem.where, problem.fix) == (SOURCE, "write `https://HOST/simple`")


def test_a_refusal_shows_no_credentials() -> None:
    _, problems = read("ftp://u:s3cret@h/simple")
    assert problems.found[0].what == "`ftp://***@h/simple` is not the URL of a package index"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/simple", "https://h/simple"),
        ("HTTPS://H.Example/Simple/", "https://h.example/Simple"),
        ("https://u:s3cret@h:8080/simple", "https://h:8080/simple"),
        ("https://***@h/simple//", "https://h/simple"),
        ("https://h", "https://h"),
        ("https://h/", "https://h"),
        ("https://h/a@b/", "https://h/a@b"),
    ],
)
def test_places_are_compared_in_one_spelling(url: str, expected: str) -> None:
    assert normal_url(url) == expected


@given(st.text(), st.sampled_from(["", "u@", "u:p@"]))
def test_the_one_spelling_is_its_own_and_stays_on_its_host(path: str, user: str) -> None:
    once = normal_url(f"https://{user}Host/{path}")
    assert normal_url(once) == once
    assert once.startswith("https://host")


@pytest.mark.parametrize(
    ("url", "expected"), [("https://h:1/s", True), ("https://h/?x", True), ("https://h/#x", False), ("h/simple", False)]
)
def test_an_index_is_reached_by_http(url: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_index_url(url) is expected
