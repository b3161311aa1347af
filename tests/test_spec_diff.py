from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.environment_spec import EnvironmentSpec, Unused
from envbuilder.environment_yaml import Environment, Replacement
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.package_index import PackageIndex
from envbuilder.python_request import PythonRequest
from envbuilder.spec_diff import compare
from tests.strategies import CONDA_FILES, INDEXES, PYTHON_VERSIONS

SOURCE = Source(file="conda.yaml", key="dependencies[0]")


def spec(text: str = "{}", *, python: str = "3.11", file: str = "a", indexes: tuple[str, ...] = ()) -> EnvironmentSpec:
    """What a conda file asks for, without its pip list; requirements are in the tests of resolving."""
    content = Environment.parse(f"conda_file: {text}", file=file).content
    assert isinstance(content, Replacement)
    assert content.conda is not None
    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse(python), source=Source(file=file)),
        match_specs=content.conda.match_specs,
        channels=content.conda.channels,
        variables=content.conda.variables,
        indexes=tuple(PackageIndex(kind="extra_index_url", url=url, source=SOURCE) for url in indexes),
    )


SPECS = st.builds(
    lambda document, python, indexes: spec(json.dumps(document), python=python, indexes=tuple(indexes)),
    CONDA_FILES,
    PYTHON_VERSIONS,
    st.lists(st.sampled_from(INDEXES), unique=True),
)

DIFFERENCES = [
    (spec(), spec(python="3.12"), ["python: -3.11  +3.12"]),
    (spec("{dependencies: [a=1]}"), spec("{dependencies: [a=2]}"), ["match_specs: -a=1  +a=2"]),
    (spec("{dependencies: [a]}"), spec("{dependencies: [b]}"), ["match_specs: -a", "match_specs: +b"]),
    (spec("{dependencies: [a=1, a=2]}"), spec("{dependencies: [a=2]}"), ["match_specs: -a=1  -a=2  +a=2"]),
    (spec("{variables: {A: 1}}"), spec("{variables: {A: 2}}"), ["variables: -A=1  +A=2"]),
    (spec("{channels: [a, b]}"), spec("{channels: [b, a]}"), ["channels: -a  -b  +b  +a"]),
    (spec("{channels: [a, b]}"), spec("{channels: [b, c]}"), ["channels: -a", "channels: +c"]),
    (
        spec(indexes=INDEXES),
        spec(indexes=INDEXES[::-1]),
        [
            (
                "indexes: -extra_index_url https://a.example/simple  -extra_index_url https://b.example/simple  "
                "+extra_index_url https://b.example/simple  +extra_index_url https://a.example/simple"
            )
        ],
    ),
]


@pytest.mark.parametrize(("one", "other", "texts"), DIFFERENCES, ids=[str(texts)[:45] for _, _, texts in DIFFERENCES])
def test_what_differs_is_told_thing_by_thing(one: EnvironmentSpec, other: EnvironmentSpec, texts: list[str]) -> None:
    assert [difference.text for difference in compare(one, other)] == texts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (spec("{dependencies: [a=1.2, b]}"), spec("{dependencies: [B, a 1.2.*]}", file="b")),
        (spec(python="3.11"), spec(python="=3.11.*")),
        (spec(), replace(spec(), environment=Stated(value="up:1", source=SOURCE))),
        (spec(), replace(spec(), unused=(Unused(name="--pre", value="", source=SOURCE, reason="x"),))),
    ],
    ids=["spelling and place", "python", "the chosen environment", "what is not used"],
)
def test_what_is_not_asked_for_is_no_difference(one: EnvironmentSpec, other: EnvironmentSpec) -> None:
    assert compare(one, other) == ()
    assert one.digest == other.digest


def test_a_difference_is_json_with_the_places_of_both_sides() -> None:
    (one,) = compare(spec("{variables: {A: 1}}"), spec(file="b"))
    assert json.loads(json.dumps(one.to_dict())) == {
        "field": "variables",
        "name": "A",
        "before": [{"value": "A=1", "source": {"file": "a", "key": "conda_file.variables.A"}}],
        "after": [],
    }


@given(SPECS)
def test_a_spec_does_not_differ_from_itself(one: EnvironmentSpec) -> None:
    assert compare(one, one) == ()


@given(SPECS, SPECS)
def test_both_sides_see_the_same_differences(one: EnvironmentSpec, other: EnvironmentSpec) -> None:
    there = {(each.field, each.name): (each.before, each.after) for each in compare(one, other)}
    back = {(each.field, each.name): (each.after, each.before) for each in compare(other, one)}
    assert there == back


@given(SPECS, SPECS)
def test_specs_of_different_digests_differ(one: EnvironmentSpec, other: EnvironmentSpec) -> None:
    assert one.digest == other.digest or compare(one, other)
    # Channels are told also where nothing comes from them.
    told = [each for each in compare(one, other) if each.field != "channels"]
    assert one.digest != other.digest or not told
