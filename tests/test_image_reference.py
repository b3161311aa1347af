from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import digest
from envbuilder.errors import InvalidFileError, Source
from envbuilder.image_reference import ImageReference

PINNED = f"sha256:{'0123456789abcdef' * 4}"

_component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
_registry = st.from_regex(
    r"([a-zA-Z0-9]{1,5}\.[a-z0-9]{1,5}(:[0-9]{1,5})?|localhost(:[0-9]{1,5})?|\[[a-f0-9]{0,4}:[a-f0-9:]{1,9}\](:[0-9]{1,5})?)",
    fullmatch=True,
)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_digest = st.binary(max_size=4).map(digest.of_bytes)


@st.composite
def references(draw: st.DrawFn) -> ImageReference:
    registry = draw(st.just("docker.io") | _registry)
    parts = draw(st.lists(_component | st.just("library") | st.just("localhost"), min_size=1, max_size=4))
    if registry == "docker.io" and len(parts) == 1:
        parts.insert(0, "library")
    pinned = draw(st.none() | _digest)
    tag = draw(_tag if pinned is None else st.just("") | _tag)
    return ImageReference(registry=registry, repository="/".join(parts), tag=tag, digest=pinned)


@given(references())
def test_reading_back_what_was_written_gives_the_same(reference: ImageReference) -> None:
    assert ImageReference.parse(str(reference)) == reference
    assert ImageReference.parse(reference.canonical) == reference


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except InvalidFileError:
        return
    assert ImageReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "canonical", "short"),
    [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim", "python:3.11-slim"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3", "python:3"),
        ("team/churn:1", "docker.io/team/churn:1", "team/churn:1"),
        ("registry.example/churn", "registry.example/churn:latest", "registry.example/churn:latest"),
        ("localhost/churn:1", "localhost/churn:1", "localhost/churn:1"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
        (f"python@{PINNED}", f"docker.io/library/python@{PINNED}", f"python@{PINNED}"),
        (f"python:3@{PINNED}", f"docker.io/library/python:3@{PINNED}", f"python:3@{PINNED}"),
        ("docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io/localhost/x:1"),
    ],
)
def test_short_and_full_forms(text: str, canonical: str, short: str) -> None:
    reference = ImageReference.parse(text)
    assert (reference.canonical, str(reference)) == (canonical, short)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "an image's name"),
        (":1", "an image's name"),
        ("0" * 64, "not its id"),
        ("Python:3", "lower-case"),
        ("a//b", "lower-case"),
        ("a b", "lower-case"),
        ("a/" * 130 + "a", "at most 255"),
        ("python:-x", "the tag `-x`"),
        ("python:" + "x" * 129, "up to 128"),
        ("python:", "the tag ``"),
        ("python@sha256:12", "64 lower-case hex digits"),
        ("-bad.example/x", "to be a host"),
        ("python:3\n", "the tag"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    where = Source(file="envbuilder.yaml", key="base")
    with pytest.raises(InvalidFileError) as raised:
        ImageReference.parse(text, where=where)
    assert expected in raised.value.problems[0].what
    assert raised.value.problems[0].where == where
    assert raised.value.exit_code == 2


def test_a_new_image_cannot_choose_its_digest() -> None:
    assert str(ImageReference.parse_name_tag("iris:1")) == "iris:1"
    with pytest.raises(InvalidFileError, match="without a digest"):
        ImageReference.parse_name_tag(f"iris@{PINNED}")


def test_another_tag_of_the_same_repository() -> None:
    reference = ImageReference.parse(f"iris:1@{PINNED}")
    assert str(reference.with_tag("env-0123")) == "iris:env-0123"
    with pytest.raises(InvalidFileError, match="a tag"):
        reference.with_tag("a/b")
