from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import package_index, variable
from envbuilder.amending import amended
from envbuilder.amendment import Amendment
from envbuilder.base_request import BaseRequest
from envbuilder.conda_yaml import MatchSpec
from envbuilder.environment_spec import EnvironmentSpec, Unused
from envbuilder.environment_yaml import Environment
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.pip_line import Line
from envbuilder.problems import Problems
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import Requirement
from envbuilder.yaml_text import dump
from tests.strategies import AMENDMENTS, CHANNELS, INDEXES, PACKAGES, VARIABLES, conda_lines, pip_lines

if TYPE_CHECKING:
    import random

    from envbuilder.package_index import PackageIndex

MODEL = Source(file="conda.yaml")


def index(kind: package_index.IndexKind, url: str) -> PackageIndex:
    found = package_index.read(kind, Stated(value=url, source=MODEL.child(kind)), Problems())
    assert found is not None
    return found


def asked(
    *lines: str,
    constraints: tuple[str, ...] = (),
    specs: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    indexes: tuple[PackageIndex, ...] = (),
    variables: dict[str, str] | None = None,
    base: str | None = None,
) -> EnvironmentSpec:
    def requirements(texts: tuple[str, ...], key: str) -> tuple[Requirement, ...]:
        return tuple(Requirement.parse(text, source=MODEL.child(key).child(n)) for n, text in enumerate(texts))

    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse("3.10"), source=MODEL.child("python")),
        base=BaseRequest(image=base, source=MODEL.child("base")) if base is not None else None,
        requirements=requirements(lines, "pip"),
        constraints=requirements(constraints, "constraints"),
        match_specs=tuple(MatchSpec.parse(text, source=MODEL.child(f"spec {n}")) for n, text in enumerate(specs)),
        channels=tuple(Line.of(one, source=MODEL.child(f"channels {one}")) for one in channels),
        indexes=indexes,
        variables=variable.read({"variables": variables or {}}, "variables", MODEL, Problems()),
        unused=(Unused(name="--pre", value="", source=MODEL, reason="not used"),),
    )


def amendment(given: str | dict[str, object]) -> Amendment:
    text = f"amend: {given}" if isinstance(given, str) else dump({"amend": given})
    content = Environment.parse(text, file="up.yaml").content
    assert isinstance(content, Amendment)
    return content


def amend(spec: EnvironmentSpec, text: str) -> EnvironmentSpec:
    found = amended(spec, amendment(text), reference="up:1")
    # What the model said is never lost.
    assert found.overridden[: len(spec.overridden)] == spec.overridden
    assert found.unused[: len(spec.unused)] == spec.unused
    return found


REQUIREMENTS = [
    ("{bump: [numpy==2]}", ["numpy==2", "six"], ["numpy==1"]),
    ("{bump: [numpy]}", ["numpy", "six"], ["numpy==1"]),
    ("{add: [scipy]}", ["numpy==1", "scipy", "six"], []),
    ("{remove: [SIX]}", ["numpy==1"], ["six"]),
    ("{swap: {six: seven>=7}}", ["numpy==1", "seven>=7"], ["six"]),
    ("{swap: {numpy: numpy-lite}}", ["numpy-lite==1", "six"], ["numpy==1"]),
    ("{swap: {numpy: six==3}}", ["six==3"], ["numpy==1", "six"]),
    ("{swap: {numpy: x @ https://h/x.whl}}", ["six", "x @ https://h/x.whl"], ["numpy==1"]),
    ("{remove: [numpy], add: [numpy==3]}", ["numpy==3", "six"], ["numpy==1"]),
    ("{swap: {numpy: n, six: n==2}}", ["n==2"], ["numpy==1", "six", "n==1"]),
]


@pytest.mark.parametrize(("operations", "lines", "lost"), REQUIREMENTS, ids=[one for one, _, _ in REQUIREMENTS])
def test_named_packages_are_changed_and_what_they_replace_is_kept(
    operations: str, lines: list[str], lost: list[str]
) -> None:
    found = amend(asked("numpy==1", "six"), f"{{pip: {operations}}}")
    assert list(found.requirement_lines()) == lines
    assert sorted(one.value for one in found.overridden) == sorted(lost)
    assert {one.field for one in found.overridden} <= {"requirements"}
    assert all(one.by is not None and one.by.file == "up.yaml" for one in found.overridden)
    assert len(found.unused) == 1


@pytest.mark.parametrize(
    ("model", "operations", "expected"),
    [
        (("a[x]==1",), "{bump: ['a[y]==2']}", ["a[x,y]==2"]),
        (("a==1; sys_platform=='win32'",), "{bump: [a==2]}", ['a==2; sys_platform == "win32"']),
        (("a==1; python_version<'3'", "a==2; python_version>='3'"), "{bump: [a==3]}", ["a==3"]),
        (("a==1; python_version<'3'", "a==2; python_version>='3'"), "{swap: {a: b}}", ["b"]),
        (("a[x]==1; python_version>'3'",), "{swap: {a: b}}", ['b[x]==1; python_version > "3"']),
        (("a @ https://h/a.whl",), "{swap: {a: b}}", ["b"]),
    ],
    ids=["extras", "marker", "two markers", "two versions", "all of it", "a place"],
)
def test_the_new_package_takes_over_what_it_does_not_say(
    model: tuple[str, ...], operations: str, expected: list[str]
) -> None:
    assert list(amend(asked(*model), f"{{pip: {operations}}}").requirement_lines()) == expected


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        ("{bump: [numpy==2]}", ["mlflow<3", "mlflow-skinny<3", "idna<4"]),
        ("{bump: [numpy==1]}", ["numpy<2", "mlflow<3", "mlflow-skinny<3", "idna<4"]),
        ("{swap: {mlflow: mlflow-skinny==3}}", ["numpy<2", "idna<4"]),
        ("{add: [idna==4]}", ["numpy<2", "mlflow<3", "mlflow-skinny<3"]),
        ("{add: [idna]}", ["numpy<2", "mlflow<3", "mlflow-skinny<3", "idna<4"]),
        ("{swap: {gone: idna==4}}", ["numpy<2", "mlflow<3", "mlflow-skinny<3", "idna<4"]),
    ],
)
def test_constraints_of_what_the_workspace_decides_on_go(operations: str, left: list[str]) -> None:
    model = asked("numpy==1", "mlflow==2", constraints=("numpy<2", "mlflow<3", "mlflow-skinny<3", "idna<4"))
    found = amend(model, f"{{pip: {operations}}}")
    assert [one.text for one in found.constraints] == left
    gone = [one for one in found.overridden if one.field == "constraints"]
    assert len(gone) == 4 - len(left)
    assert {one.reason for one in gone} <= {"the workspace decides on this package"}


NO_EFFECT = [
    ("{pip: {bump: [scipy==1]}}", "pip.bump", "scipy==1", "the model does not ask for it; `add` would"),
    ("{pip: {bump: [NumPy==1.0]}}", "pip.bump", "numpy==1.0", "the model asks for the same"),
    ("{pip: {add: [numpy==1.0]}}", "pip.add", "numpy==1.0", "`numpy==1` is asked for already"),
    ("{pip: {add: [numpy==2]}}", "pip.add", "numpy==2", "`numpy==1` is asked for already; `bump` would change that"),
    ("{pip: {remove: [scipy]}}", "pip.remove", "scipy", "the model does not ask for it"),
    ("{pip: {swap: {scipy: six}}}", "pip.swap", "scipy → six", "the model does not ask for `scipy`"),
    ("{conda: {remove: [mkl]}}", "conda.remove", "mkl", "the model does not ask for it"),
    ("{channels: {remove: [x]}}", "channels.remove", "x", "the model does not ask for it"),
    ("{system_packages: {remove: [git]}}", "system_packages.remove", "git", "the model does not ask for it"),
    ("{python: =3.10}", "python", "3.10", "the model asks for the same"),
    ("{image: b:1}", "image", "b:1", "the model asks for the same"),
    ("{index_url: https://I/}", "index_url", "https://I/", "the model asks for the same"),
    (
        "{environment_variables: {add: {A: 1}}}",
        "environment_variables.add",
        "A=1",
        "it is set already",
    ),
    ("{environment_variables: {remove: [B]}}", "environment_variables.remove", "B", "it is not set"),
]


@pytest.mark.parametrize(("text", "name", "value", "reason"), NO_EFFECT, ids=[one[0] for one in NO_EFFECT])
def test_what_finds_nothing_to_do_says_so(text: str, name: str, value: str, reason: str) -> None:
    model = asked("numpy==1", base="b:1", indexes=(index("index_url", "https://i"),), variables={"A": "1"})
    found = amend(model, text)
    operation, nothing = found.unused[1:]
    assert (operation.name, operation.value, operation.reason) == (name, value, reason)
    assert operation.source.file == "up.yaml"
    assert (nothing.name, nothing.value, nothing.reason) == (
        "environment",
        "up:1",
        "it changes nothing for this model",
    )
    assert nothing.source == operation.source
    assert (found.digest, found.overridden) == (model.digest, ())


def test_conda_packages_and_channels_are_changed() -> None:
    model = asked(specs=("blas=1.0", "mkl >=2,<3", "x"), channels=("defaults", "conda-forge"))
    found = amend(
        model,
        "{conda: {bump: [blas=2], add: [y], remove: [x], swap: {mkl: conda-forge::openblas}},"
        " channels: {swap: {defaults: bioconda}, add: [pytorch]}}",
    )
    assert [one.text for one in found.match_specs] == ["blas=2", "conda-forge::openblas>=2,<3", "y"]
    assert [one.value for one in found.channels] == ["bioconda", "conda-forge", "pytorch"]
    assert [(one.field, one.value) for one in found.overridden] == [
        ("match_specs", "blas=1.0"),
        ("match_specs", "mkl >=2,<3"),
        ("match_specs", "x"),
        ("channels", "defaults"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("a", "b", "b"),
        ("a=1.2", "b", "b=1.2"),
        ("a 1.2", "b", "b 1.2"),
        ("a=1", "b=2", "b=2"),
        ("a=1", "b[build=x*]", "b[build=x*]"),
        ("a=1", "a", "a"),
    ],
)
def test_a_swapped_conda_package_keeps_the_version(old: str, new: str, text: str) -> None:
    (spec,) = amend(asked(specs=(old,)), f"{{conda: {{swap: {{a: '{new}'}}}}}}").match_specs
    assert spec.text == text
    assert MatchSpec.parse(text, source=MODEL).meaning == spec.meaning


def test_python_base_and_variables_are_chosen() -> None:
    model = asked(base="b:1", variables={"A": "1", "B": "2"})
    found = amend(model, "{python: 3.11, image: b:2, environment_variables: {add: {A: 9, C: 3}, remove: [B]}}")
    assert (found.python.value.text, found.python.source.key) == ("3.11", "amend.python")
    assert found.base is not None
    assert found.base.text == "b:2"
    assert [(one.name, one.value) for one in found.variables] == [("A", "9"), ("C", "3")]
    assert [(one.field, one.value, one.reason) for one in found.overridden] == [
        ("python", "3.10", "the workspace takes `3.11`"),
        ("base", "b:1", "the workspace takes `b:2`"),
        ("variables", "A=1", "the workspace sets `9`"),
        ("variables", "B=2", "the workspace removes it"),
    ]
    other = amend(asked(), "{image: b:2}")
    assert (other.base, other.overridden) == (found.base, ())


def test_indexes_are_changed_by_kind() -> None:
    model = asked(
        indexes=(
            index("extra_index_url", "https://e"),
            index("index_url", "https://i"),
            index("find_links", "https://f"),
        )
    )
    found = amend(
        model,
        "{index_url: https://u:s3cret@n/simple, extra_index_urls: {swap: {https://E/: https://e2}},"
        " find_links: {remove: [https://f], add: [https://f2]}}",
    )
    assert [f"{one.kind} {one.url}" for one in found.indexes] == [
        "index_url https://***@n/simple",
        "extra_index_url https://e2",
        "find_links https://f2",
    ]
    assert [one.value for one in found.overridden] == [
        "index_url https://i",
        "extra_index_url https://e",
        "find_links https://f",
    ]
    assert "s3cret" not in repr(found) + found.to_text() + str(found.to_dict())


def _position(one: tuple[package_index.IndexKind, str]) -> int:
    return package_index.KINDS.index(one[0])


SPECS = st.builds(
    asked,
    st.just("scikit-learn==1"),
    constraints=st.lists(st.sampled_from(PACKAGES).map(lambda name: f"{name}<9"), max_size=2).map(tuple),
    specs=st.lists(st.sampled_from(PACKAGES).flatmap(conda_lines), max_size=2).map(tuple),
    channels=st.lists(st.sampled_from(CHANNELS), unique=True).map(tuple),
    indexes=st.lists(
        st.tuples(st.sampled_from(package_index.KINDS), st.sampled_from(INDEXES)),
        unique_by=lambda one: one[0],
    ).map(lambda found: tuple(index(kind, url) for kind, url in sorted(found, key=_position))),
    variables=VARIABLES,
    base=st.none() | st.just("python:3.11-slim"),
).flatmap(
    lambda spec: st.lists(st.sampled_from(PACKAGES).flatmap(pip_lines), max_size=4).map(
        lambda lines: replace(spec, requirements=asked(*lines).requirements)
    )
)


@given(SPECS)
def test_the_empty_amendment_is_the_identity_but_for_its_note(spec: EnvironmentSpec) -> None:
    found = amended(spec, Amendment(), reference="up:1")
    assert found.digest == spec.digest
    assert replace(found, unused=spec.unused) == spec
    (note,) = found.unused[len(spec.unused) :]
    assert (note.name, note.value, note.source) == ("environment", "up:1", spec.python.source)


@given(SPECS, AMENDMENTS)
def test_amending_twice_is_amending_once(spec: EnvironmentSpec, document: dict[str, object]) -> None:
    change = amendment(document)
    once = amended(spec, change, reference="up:1")
    assert amended(once, change, reference="up:1").digest == once.digest


@given(SPECS, AMENDMENTS, st.randoms(use_true_random=False))
def test_the_order_of_operations_does_not_matter(
    spec: EnvironmentSpec, document: dict[str, object], chance: random.Random
) -> None:
    turned: dict[str, object] = {}
    for key, operations in document.items():
        turned[key] = operations
        if isinstance(operations, dict):
            members = [
                (name, sorted(one, reverse=True) if isinstance(one, list) and key in {"pip", "conda"} else one)
                for name, one in operations.items()
            ]
            chance.shuffle(members)
            turned[key] = dict(members)
    one, other = (amended(spec, amendment(each), reference="up:1") for each in (document, turned))
    assert one.digest == other.digest


@given(SPECS, AMENDMENTS)
def test_nothing_that_the_model_said_is_lost(spec: EnvironmentSpec, document: dict[str, object]) -> None:
    found = amended(spec, amendment(document), reference="up:1")
    kept = {one.source for one in found.entries()} | {one.source for one in found.overridden}
    assert {one.source for one in spec.entries()} <= kept
