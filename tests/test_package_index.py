from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import package_index
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.package_index import PackageIndex, is_index_url, normal_url
from envbuilder.problems import Problems

if TYPE_CHECKING:
    from envbuilder.package_index import IndexKind

SOURCE = Source(file="envbuilder.yaml", key="allowed_indexes[0]")


def read(url: str, kind: IndexKind = "extra_index_url") -> tuple[PackageIndex | None, Problems]:
    problems = Problems()
    return package_index.read(kind, Stated(value=url, source=SOURCE), problems), problems


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


@pytest.mark.parametrize("url", ["/srv/wheels", "wheels", "./wheels", "~/wheels", "file:///srv/wheels"])
def test_a_folder_of_links_is_told_what_to_do(url: str) -> None:
    found, problems = read(url, "find_links")
    assert found is None
    (problem,) = problems.found
    assert problem.what == f"`{url}` is a folder of this machine, where nobody else finds what a lock names"
    assert problem.fix == "serve it, e.g. `python -m http.server --directory FOLDER`, and name the URL of that"
    assert "not the URL" in read("ftp://h/wheels", "find_links")[1].found[0].what


TOKENS = ("https://u:p@h/t/tk-1/owner/simple", "https://h/plain/simple", "https://m/conda/t/tk-2")


@pytest.mark.parametrize(
    ("locked", "asked"),
    [
        ("https://h/owner/simple/a/a.whl", "https://h/t/tk-1/owner/simple/a/a.whl"),
        ("https://m/conda/files/a.whl", "https://m/conda/t/tk-2/files/a.whl"),
        ("https://m/files/a.whl", "https://m/files/a.whl"),
        ("https://other/t/torch/torch.whl", "https://other/t/torch/torch.whl"),
    ],
)
def test_a_token_in_the_path_is_taken_out_and_put_in_again(locked: str, asked: str) -> None:
    assert package_index.without_token(asked, TOKENS) == locked
    assert package_index.with_token(locked, TOKENS) == asked
    assert package_index.with_token(asked, TOKENS) == asked
    assert package_index.without_token(locked, TOKENS) == locked
