from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.environment_reference import EnvironmentReference
from envbuilder.environment_yaml import Environment
from envbuilder.errors import InvalidFileError, Problem
from envbuilder.python_request import PythonRequest
from envbuilder.workspace_yaml import Rule, WorkspaceYaml
from envbuilder.yaml_text import dump
from tests.strategies import YAML_VALUES


def parse(text: str) -> WorkspaceYaml:
    return WorkspaceYaml.parse(text, file="envbuilder.yaml")


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFileError) as caught:
        parse(text)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    assert "s3cret" not in str(caught.value)
    return caught.value.problems


WHOLE = """
defaults:
  base_image: {3.10: debian:bookworm, 3.11: python:3.11-slim}
  engine: oci
  platform: linux/amd64
  index_url: https://u:s3cret@i.example/simple
  extra_index_urls: [https://e.example/simple]
  find_links: [https://l:s3cret@l.example/wheels/]
  keyring: subprocess
  proxy: http://u:s3cret@proxy.example:3128
  no_proxy: [.in.example, 10.0.0.0/8, "[::1]", "*"]
  ca_file: ca.pem
allowed_indexes: [https://A.example/simple/, https://u:s3cret@b.example/]
environments:
  slim: {default: 1.10, labels: {prod: 1.9, test: 2}}
rules:
- {name: "churn-*", environment: slim@prod}
- {flavor: sklearn, python: ">=3.10", environment: azureml:slim}
- {environment: {amend: {pip: {add: [six]}}}}
"""


def test_everything_is_read() -> None:
    found = parse(WHOLE)
    assert [(minor, base.text) for minor, base in found.defaults.bases] == [
        ("3.10", "debian:bookworm"),
        ("3.11", "python:3.11-slim"),
    ]
    assert found.defaults.engine is not None
    assert found.defaults.platform is not None
    assert found.defaults.ca_file is not None
    assert (found.defaults.engine.value, found.defaults.platform.value) == ("oci", "linux/amd64")
    assert found.defaults.index_url is not None
    assert found.defaults.index_url.address == "https://u:s3cret@i.example/simple"
    assert [one.url for one in found.defaults.extra_index_urls] == ["https://e.example/simple"]
    assert [one.address for one in found.defaults.find_links] == ["https://l:s3cret@l.example/wheels/"]
    assert found.defaults.keyring is not None
    assert found.defaults.proxy is not None
    assert found.defaults.keyring.value == "subprocess"
    assert (found.defaults.proxy.raw, found.defaults.proxy.value) == (
        "http://u:s3cret@proxy.example:3128",
        "http://***@proxy.example:3128",
    )
    assert found.defaults.no_proxy == (".in.example", "10.0.0.0/8", "[::1]", "*")
    assert found.allowed_indexes == ("https://a.example/simple", "https://b.example")
    versions = found.versions_of("slim")
    assert versions.default is not None
    assert (versions.default.value, [(label, one.value) for label, one in versions.labels]) == (
        "1.10",
        [("prod", "1.9"), ("test", "2")],
    )
    assert found.versions_of("other").default is None
    assert "s3cret" not in repr(found)


def test_rules_are_read_in_order() -> None:
    first, second, third = parse(WHOLE).rules
    assert (first.name, str(first.environment), str(first.source)) == (
        "churn-*",
        "slim@prod",
        "envbuilder.yaml: rules[0]",
    )
    assert second.python is not None
    assert (second.flavor, second.python.value.text) == ("sklearn", ">=3.10")
    assert isinstance(second.environment, EnvironmentReference)
    assert str(second.environment.source) == "envbuilder.yaml: rules[1].environment"
    assert isinstance(third.environment, Environment)
    assert third.environment.reference == "envbuilder.yaml: rules[2].environment"


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "defaults:\nrules:\nenvironments:\nallowed_indexes:"])
def test_an_empty_file_says_nothing(text: str) -> None:
    assert parse(text) == WorkspaceYaml()


@pytest.mark.parametrize(
    ("text", "python", "expected"),
    [
        ("x:1", "3.9", "x:1"),
        ("{3.9: a, 3.10: b}", "3.10", "b"),
        ("{3.9: a, 3.10: b}", ">=3.9", "a"),
        ("{3.10: b, 3.9: a}", ">=3.9", "b"),
        ("{3.9: a}", "3.11", None),
    ],
)
def test_a_base_is_chosen_by_python(text: str, python: str, expected: str | None) -> None:
    base = parse(f"defaults: {{base_image: {text}}}").defaults.base_for(PythonRequest.parse(python))
    assert (base.text if base is not None else None) == expected


def rule(text: str) -> Rule:
    (found,) = parse(f"rules: [{{environment: e, {text}}}]").rules
    return found


@pytest.mark.parametrize(
    ("text", "python", "expected"),
    [
        ("", "3.9", True),
        ("name: churn-1", None, True),
        ("name: 'churn-*'", None, True),
        ("name: 'Churn-*'", None, False),
        ("name: churn", None, False),
        ("flavor: sklearn", None, True),
        ("flavor: xgboost", None, False),
        ("python: 3.9", "3.9", True),
        ("python: 3.9", "3.9.1", True),
        ("python: '>=3.8'", "3.9", True),
        ("python: 3.9", "3.10", False),
        ("python: 3.9.1", "3.9.2", False),
        ("python: 3.9", ">=3.8", False),
        ("python: 3.9", None, False),
        ("name: 'churn-*', flavor: sklearn, python: 3.9", "3.9", True),
        ("name: 'churn-*', flavor: xgboost, python: 3.9", "3.9", False),
    ],
)
def test_a_rule_is_for_models_that_all_its_conditions_hold_for(
    text: str,
    python: str | None,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    asked = PythonRequest.parse(python) if python is not None else None
    matches = rule(text).matches(name="churn-1", flavors=("python_function", "sklearn"), python=asked)
    assert matches is expected


@pytest.mark.parametrize(
    ("text", "what", "key"),
    [
        ("default: {}", "`default` is not known here", "default"),
        ("defaults: [x]", "expected a mapping, got a list", "defaults"),
        ("defaults: {base: x}", "`base` is not known here", "defaults.base"),
        ("defaults: {base_image: a b}", "`a b` is not the name of an image", "defaults.base_image"),
        ("defaults: {base_image: {3: x}}", "`3` is not a minor version of Python", "defaults.base_image"),
        ("defaults: {base_image: {3.9: a b}}", "`a b` is not the name of an image", "defaults.base_image.3.9"),
        ("defaults: {engine: kaniko}", "`kaniko` is not known here", "defaults.engine"),
        ("defaults: {platform: linux}", "`linux` is not known here", "defaults.platform"),
        ("defaults: {index_url: h}", "`h` is not the URL of a package index", "defaults.index_url"),
        ("defaults: {extra_index_urls: [h]}", "`h` is not the URL of a package index", "defaults.extra_index_urls[0]"),
        (
            "defaults: {find_links: [./wheels]}",
            "`./wheels` is a folder of this machine, where nobody else finds what a lock names",
            "defaults.find_links[0]",
        ),
        ("defaults: {keyring: import}", "`import` is not known here", "defaults.keyring"),
        ("defaults: {proxy: 'u:s3cret@h:1'}", "`***@h:1` is not the URL of a proxy", "defaults.proxy"),
        ("defaults: {proxy: [x]}", "expected text, got a list", "defaults.proxy"),
        ("defaults: {no_proxy: ['a, b']}", "`a, b` is not a host", "defaults.no_proxy[0]"),
        ("allowed_indexes: ['u:s3cret@h']", "`***@h` is not the URL of a package index", "allowed_indexes[0]"),
        ("environments: {a: {defualt: 1}}", "`defualt` is not known here", "environments.a.defualt"),
        ("environments: {a: {labels: {b: [1]}}}", "expected text, got a list", "environments.a.labels.b"),
        ('environments: {"a\\n": {}}', "`a�` is not the name of an environment", "environments.a�"),
        ("rules: [x]", "expected a rule, got text", "rules[0]"),
        ("rules: [{name: x}]", "no `environment`", "rules[0]"),
        ("rules: [{environment: [x]}]", "expected text, got a list", "rules[0].environment"),
        ("rules: [{environment: 'a b'}]", "`a b` names no environment", "rules[0].environment"),
        ("rules: [{environment: {image: a b}}]", "`a b` is not the name of an image", "rules[0].environment.image"),
        (
            "rules: [{environment: {dependencies: []}}]",
            "this is a conda file, not an environment",
            "rules[0].environment",
        ),
        ("rules: [{environment: x, python: three}]", "`three` is not a Python version", "rules[0].python"),
        ("rules: [{environment: x, model: y}]", "`model` is not known here", "rules[0].model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_its_place(text: str, what: str, key: str) -> None:
    (problem,) = refused(text)
    assert problem.what == what
    assert problem.where is not None
    assert problem.where.key == key


def test_all_problems_are_told_at_once() -> None:
    found = refused("defaults: {engine: x}\nallowed_indexes: [h]\nrules: [x, {name: y}]\nrule: {}")
    assert len(found) == 5
    assert found[0].fix == "did you mean `rules`?"
    assert found[1].fix == "write `auto` or `docker` or `podman` or `oci`"


@given(YAML_VALUES | st.dictionaries(st.sampled_from(["defaults", "rules", "environments"]), YAML_VALUES))
def test_any_document_is_read_or_refused(document: object) -> None:
    try:
        found = parse(dump(document))
    except InvalidFileError:
        return
    assert all(one.environment for one in found.rules)


def test_conda_channels_have_an_alias_and_mirrors_whose_credentials_are_not_shown() -> None:
    found = WorkspaceYaml.parse(
        """
defaults:
  channel_alias: https://u:s3cret@conda.example
  channel_mirrors: {https://conda.anaconda.org/conda-forge: "https://mirror.example/t/s3cret/forge"}
""",
        file="envbuilder.yaml",
    ).defaults
    assert found.channel_alias is not None
    assert (found.channel_alias.value, found.channel_alias.raw) == (
        "https://***@conda.example",
        "https://u:s3cret@conda.example",
    )
    assert [(of.value, by.value) for of, by in found.channel_mirrors] == [
        ("https://conda.anaconda.org/conda-forge", "https://mirror.example/t/***/forge")
    ]
    assert "s3cret" not in str(found.channel_alias)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("channel_alias: conda-forge", "defaults.channel_alias"),
        ("channel_mirrors: {conda-forge: https://m}", "defaults.channel_mirrors.conda-forge"),
        ("channel_mirrors: {https://c: ftp://m}", "defaults.channel_mirrors.https://c"),
    ],
)
def test_what_is_no_channels_address_is_refused(text: str, key: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        WorkspaceYaml.parse(f"defaults: {{{text}}}", file="envbuilder.yaml")
    (problem,) = caught.value.problems
    assert "is not a channel" in problem.what
    assert problem.where is not None
    assert problem.where.key == key


def test_repairs_are_switched_off_by_name() -> None:
    found = WorkspaceYaml.parse("repairs: {off: [numpy-before-2]}", file="envbuilder.yaml")
    assert [one.value for one in found.repairs_off] == ["numpy-before-2"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [("numpy-befor-2", "did you mean `numpy-before-2`?"), ("zzz", "`envbuilder resolve` names those it makes")],
)
def test_a_repair_that_does_not_exist_is_refused(name: str, fix: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        WorkspaceYaml.parse(f"repairs: {{off: [{name}]}}", file="envbuilder.yaml")
    (problem,) = caught.value.problems
    assert (problem.what, problem.fix) == (f"there is no repair `{name}`", fix)
    assert str(problem.where) == "envbuilder.yaml: repairs.off[0]"


def test_packages_that_may_be_built_are_named() -> None:
    found = WorkspaceYaml.parse("allow_source: [Py_Meeus, psutil]", file="envbuilder.yaml")
    assert found.allow_source == ("py-meeus", "psutil")
    with pytest.raises(InvalidFileError) as raised:
        WorkspaceYaml.parse("allow_source: [a b, psutil==1]", file="envbuilder.yaml")
    assert [(one.what, str(one.where)) for one in raised.value.problems] == [
        ("`a b` is not the name of a package", "envbuilder.yaml: allow_source[0]"),
        ("`psutil==1` is not the name of a package", "envbuilder.yaml: allow_source[1]"),
    ]
