from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import package_index
from envbuilder.base_request import BaseRequest
from envbuilder.conda_yaml import MatchSpec
from envbuilder.environment_spec import EnvironmentSpec, Overridden, Stated, Unused
from envbuilder.errors import Source
from envbuilder.package_index import PackageIndex
from envbuilder.pip_line import Line
from envbuilder.problems import Problems
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import Requirement
from envbuilder.route import Route
from envbuilder.variable import Variable
from tests.strategies import REQUIREMENTS

if TYPE_CHECKING:
    import random

SOURCE = Source(file="conda.yaml", key="dependencies[0]")
ELSEWHERE = Source(file="other/requirements.txt", key="line 7")


def spec(
    *lines: str,
    python: str = "3.11",
    match_specs: tuple[str, ...] = (),
    channels: tuple[str, ...] = ("conda-forge",),
    source: Source = SOURCE,
) -> EnvironmentSpec:
    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse(python), source=source),
        requirements=tuple(Requirement.parse(line, source=source) for line in lines),
        match_specs=tuple(MatchSpec.parse(text, source=source) for text in match_specs),
        channels=tuple(Line.of(channel, source=source) for channel in channels),
    )


FULL = dataclasses.replace(
    spec("numpy==1", "six==1 --hash=sha256:aa", match_specs=("openblas",)),
    constraints=(Requirement.parse("urllib3<3", source=ELSEWHERE),),
    build_requirements=(Requirement.parse("pip==23.2.1", source=SOURCE),),
    unused=(Unused(name="--pre", value="", source=SOURCE, reason="not used"),),
    overridden=(
        Overridden(field="python", value="3.10", source=ELSEWHERE, reason="`3.11` wins", by=SOURCE),
        Overridden(field="env", value="conda.yaml", source=SOURCE, reason="there is no such file"),
    ),
)


@given(st.lists(REQUIREMENTS, max_size=6), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_order_spelling_or_place(lines: list[str], chance: random.Random) -> None:
    split = [line.partition(";") for line in lines]
    shuffled = [f"{wanted.replace('_', '-')} {semicolon}  {marker}" for wanted, semicolon, marker in split]
    chance.shuffle(shuffled)
    one, other = spec(*lines, python="3.11"), spec(*shuffled, *shuffled[:1], python="=3.11.*", source=ELSEWHERE)
    assert one.digest == other.digest
    assert one.requirement_lines() == tuple(sorted(one.requirement_lines()))


def test_the_digest_depends_on_every_meaning() -> None:
    specs = [
        spec("numpy==1"),
        spec("numpy==2"),
        spec("numpy[x]==1"),
        spec("numpy==1; python_version > '3.0'"),
        spec("numpy==1 --hash=sha256:aa"),
        spec("numpy==1", python="3.12"),
        spec("numpy==1", match_specs=("openblas",)),
        spec("numpy==1", match_specs=("openblas",), channels=("a", "b")),
        spec("numpy==1", match_specs=("openblas",), channels=("b", "a")),
        dataclasses.replace(spec("numpy==1"), constraints=FULL.constraints),
    ]
    assert len({one.digest for one in specs}) == len(specs)
    assert all(one.digest.startswith("sha256:") for one in specs)


ROUTE = Route(name="scoring", port=5001, path="/score", source=SOURCE)
EXTRAS: dict[str, tuple[Any, Any]] = {
    "base": (BaseRequest(image="a", source=SOURCE), BaseRequest(image="b", source=SOURCE)),
    "indexes": (
        (PackageIndex(kind="index_url", url="https://h", source=SOURCE),),
        (PackageIndex(kind="find_links", url="https://h", source=SOURCE),),
    ),
    "build_requirements": (FULL.build_requirements, FULL.constraints),
    "system_packages": ((Stated(value="git", source=SOURCE),), (Stated(value="curl", source=SOURCE),)),
    "variables": ((Variable(name="A", value="1", source=SOURCE),), (Variable(name="A", value="2", source=SOURCE),)),
    "routes": ((ROUTE,), (dataclasses.replace(ROUTE, port=80),)),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_is_asked_for_beside_packages_counts(name: str) -> None:
    one, other = (dataclasses.replace(spec("numpy"), **{name: value}) for value in EXTRAS[name])
    assert len({one.digest, other.digest, spec("numpy").digest}) == 3
    packages = {one.packages_digest, other.packages_digest, spec("numpy").packages_digest}
    assert len(packages) == (3 if name == "indexes" else 1)
    (entry,) = (each for each in one.entries() if each.field == name)
    assert (entry.source, entry.value in one.to_text()) == (SOURCE, True)
    rows = one.to_dict()[name]
    assert isinstance(rows, dict if name == "base" else list)


@pytest.mark.parametrize(
    "changed",
    [
        {"environment": Stated(value="up:1", source=SOURCE)},
        {"unused": ()},
        {"overridden": ()},
        {"python": Stated(value=PythonRequest.parse("=3.11.*"), source=ELSEWHERE)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_asks_for_nothing_does_not_count(changed: dict[str, Any]) -> None:
    assert dataclasses.replace(FULL, **changed).digest == FULL.digest


def test_who_may_ask_an_index_does_not_count() -> None:
    urls = ("https://h/simple", "https://u:s3cret@H/simple/")
    found = [package_index.read("extra_index_url", Stated(value=url, source=SOURCE), Problems()) for url in urls]
    specs = [dataclasses.replace(spec("numpy"), indexes=(one,)) for one in found if one is not None]
    assert len({one.digest for one in specs}) == 1
    assert not any("s3cret" in one.to_text() + str(one.to_dict()) + repr(one) for one in specs)


def test_channels_count_only_where_conda_is_needed() -> None:
    assert spec("a", channels=("x",)).digest == spec("a", channels=("y",)).digest
    assert not spec("a").needs_conda
    assert spec("a", match_specs=("openblas",)).needs_conda


def test_lines_are_sorted_and_unique() -> None:
    assert spec("six", "Numpy==1", "numpy == 1").requirement_lines() == ("numpy==1", "six")
    assert FULL.requirement_lines() == ("numpy==1", "six==1 --hash=sha256:aa")
    assert FULL.constraint_lines() == ("urllib3<3",)


def test_the_dictionary_is_json_with_sources() -> None:
    found = json.loads(json.dumps(FULL.to_dict()))
    assert found["python"] == {
        "value": "3.11",
        "name": "python",
        "source": {"file": "conda.yaml", "key": "dependencies[0]"},
        "replaced": [found["overridden"][0]],
    }
    assert found["environment"] is found["base"] is None
    assert found["constraints"][0]["source"] == {"file": "other/requirements.txt", "key": "line 7"}
    assert found["overridden"][0]["by"] == {"file": "conda.yaml", "key": "dependencies[0]"}
    assert found["overridden"][1]["by"] is None
    assert found["match_specs"][0]["name"] == "openblas"
    assert found["digest"] == FULL.digest


def test_the_text_is_yaml_with_the_place_of_each_value() -> None:
    text = FULL.to_text()
    assert text == (
        f"# {FULL.digest}\n"
        'python: "3.11"  # conda.yaml: dependencies[0]\n'
        "channels:\n"
        "  - conda-forge  # conda.yaml: dependencies[0]\n"
        "match_specs:\n"
        "  - openblas  # conda.yaml: dependencies[0]\n"
        "requirements:\n"
        "  - numpy==1  # conda.yaml: dependencies[0]\n"
        '  - "six==1 --hash=sha256:aa"  # conda.yaml: dependencies[0]\n'
        "constraints:\n"
        "  - urllib3<3  # other/requirements.txt: line 7\n"
        "build_requirements:\n"
        "  - pip==23.2.1  # conda.yaml: dependencies[0]\n"
        "unused:\n"
        '  - "--pre"  # conda.yaml: dependencies[0]\n'
        "    # not used\n"
        "overridden:\n"
        '  - python: "3.10"  # other/requirements.txt: line 7\n'
        '    reason: "`3.11` wins"\n'
        '    by: "conda.yaml: dependencies[0]"\n'
        "  - env: conda.yaml  # conda.yaml: dependencies[0]\n"
        '    reason: "there is no such file"\n'
    )
    assert yaml.safe_load(text)["requirements"] == ["numpy==1", "six==1 --hash=sha256:aa"]


@given(st.lists(REQUIREMENTS, max_size=5), st.text(max_size=10))
def test_the_text_can_be_read_back(lines: list[str], file: str) -> None:
    one = spec(*lines, source=Source(file=file))
    found = yaml.safe_load(one.to_text())
    assert spec(*found.get("requirements", []), python=found["python"]).digest == one.digest
