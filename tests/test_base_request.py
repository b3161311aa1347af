from __future__ import annotations

import pytest

from envbuilder.base_request import BaseRequest, read_image
from envbuilder.errors import Source
from envbuilder.problems import Problems

SOURCE = Source(file="e.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "python:3.11-slim",
        "mcr.example/azureml/base:1",
        "a@sha256:" + "0" * 64,
        "debian:bookworm",
        "./layout",
        "oci:d:n",
    ],
)
def test_whatever_a_base_can_be_is_read(name: str) -> None:
    problems = Problems()
    found = read_image({"image": name}, "image", SOURCE, problems)
    assert found == BaseRequest(image=name, source=SOURCE.child("image"))
    assert found.text == found.meaning == name
    assert problems.found == ()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("u:s3cret@registry.example/a:1", "***@registry.example/a:1"),
        ("https://u:s3cret@h/a", "https://***@h/a"),
        ("a b", "a b"),
        ("a\nRUN id", "a�RUN id"),
        ("$(id)", "$(id)"),
        ("", ""),
        ("a" * 1001, "a" * 100 + "…"),
    ],
    ids=["credentials", "url with credentials", "space", "two lines", "shell", "empty", "endless"],
)
def test_anything_else_is_refused_and_shown_without_credentials(name: str, shown: str) -> None:
    problems = Problems()
    assert read_image({"image": name}, "image", SOURCE, problems) is None
    (problem,) = problems.found
    assert problem.what == f"`{shown}` is not the name of an image"
    assert (problem.where, "Docker's config.json" in str(problem.fix)) == (SOURCE.child("image"), True)


def test_no_name_is_no_request() -> None:
    problems = Problems()
    assert read_image({}, "image", SOURCE, problems) is None
    assert read_image({"image": ("x",)}, "image", SOURCE, problems) is None
    assert [problem.what for problem in problems.found] == ["expected text, got a list"]


def test_a_build_context_means_its_content_and_not_its_place() -> None:
    one = BaseRequest(context="a", digest="sha256:1", source=SOURCE)
    assert one.text == "build a (Dockerfile)"
    assert one.meaning == BaseRequest(context="b", digest="sha256:1", source=SOURCE).meaning
    others = [
        BaseRequest(context="a", digest="sha256:2", source=SOURCE),
        BaseRequest(context="a", digest="sha256:1", dockerfile="D", source=SOURCE),
        BaseRequest(context="https://h/a.git", source=SOURCE),
    ]
    assert len({one.meaning, *(other.meaning for other in others)}) == 4
