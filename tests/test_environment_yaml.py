from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from envbuilder.amendment import Amendment
from envbuilder.environment_yaml import Environment, Replacement, version_key
from envbuilder.errors import InvalidFileError, Problem
from envbuilder.yaml_text import dump
from tests.strategies import ENVIRONMENTS, TOLD, YAML_VALUES

if TYPE_CHECKING:
    import random

ROUTE = "{port: 5001, path: /score}"
ROUTES = f"inference_config: {{liveness_route: {ROUTE}, readiness_route: {ROUTE}, scoring_route: {ROUTE}}}"


def parse(text: str) -> Environment:
    return Environment.parse(text, file="slim.yaml")


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFileError) as caught:
        parse(text)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    assert "s3cret" not in str(caught.value)
    return caught.value.problems


def test_an_environment_in_azures_words_is_read() -> None:
    found = parse(
        f"""
$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json
name: slim
version: 1.10
description: small
tags: {{team: risk, level: 1.0}}
properties: {{a: b}}
image: python:3.11-slim
os_type: Linux
conda_file:
  dependencies: [python=3.10, {{pip: [numpy]}}]
{ROUTES}
datastore: x
"""
    )
    assert isinstance(found.content, Replacement)
    assert (found.reference, found.kind, found.description) == ("slim:1.10", "replacement", "small")
    assert (found.tags, found.properties) == ({"team": "risk", "level": "1.0"}, {"a": "b"})
    assert found.content.base is not None
    assert found.content.base.image == "python:3.11-slim"
    assert found.content.conda is not None
    assert str(found.content.conda.pip_lines[0].source) == "slim.yaml: conda_file.dependencies[1].pip[0]"
    assert [one.port for one in found.content.routes] == [5001, 5001, 5001]


@pytest.mark.parametrize(("version", "expected"), [("1.10", "1.10"), ("'1.10'", "1.10"), ("1", "1"), ("1e3", "1e3")])
def test_a_version_stays_as_it_is_written(version: str, expected: str) -> None:
    found = parse(f"name: a\nversion: {version}\nimage: b")
    assert found.reference == f"a:{expected}"
    assert Environment.parse(found.to_text(), file="x").reference == f"a:{expected}"


@pytest.mark.parametrize(
    ("text", "reference", "kind"),
    [
        ("{name: a, image: b}", "a", "replacement"),
        ("{version: 1, conda_file: c.yaml}", "slim.yaml", "replacement"),
        ("{amend: {}}", "slim.yaml", "amendment"),
        ("{amend: , name: a}", "a", "amendment"),
    ],
)
def test_an_environment_need_not_have_a_name(text: str, reference: str, kind: str) -> None:
    assert (parse(text).reference, parse(text).kind) == (reference, kind)


def test_a_build_context_is_read() -> None:
    content = parse("build: {path: ctx, dockerfile_path: docker/Dockerfile}").content
    assert isinstance(content, Replacement)
    assert content.base is not None
    assert (content.base.context, content.base.dockerfile) == ("ctx", "docker/Dockerfile")
    other = parse("build: {path: https://github.com/o/r.git}").content.base
    assert other is not None
    assert (other.context, other.dockerfile) == ("https://github.com/o/r.git", "Dockerfile")


REFUSALS = [
    ("{image: a, build: {path: .}}", "`image` and `build` are given together", "build"),
    ("{name: a}", "nothing says what the environment is", ""),
    ("{image: a, os_type: windows}", "no images are made for `windows`", "os_type"),
    ("{image: a b}", "`a b` is not the name of an image", "image"),
    ("{image: 'u:s3cret@h/a'}", "`***@h/a` is not the name of an image", "image"),
    ("{image: a, name: 'u:s3cret@h'}", "`***@h` is not the name of an environment", "name"),
    ("{image: a, name: -x}", "`-x` is not the name of an environment", "name"),
    ("{image: a, name: 'a/b'}", "`a/b` is not the name of an environment", "name"),
    ("{image: a, version: '1 0'}", "`1 0` is not the version of an environment", "version"),
    ("{image: a, version: [1]}", "expected text, got a list", "version"),
    ("{image: a, tags: [x]}", "expected a mapping, got a list", "tags"),
    ("{build: {}}", "no `path`", "build"),
    ("{build: x}", "expected a mapping, got text", "build"),
    ("{build: {path: ., docker: x}}", "`docker` is not known here", "build.docker"),
    ("{build: {path: 'https://u:s3cret@h/r'}}", "`https://***@h/r` is not a build context", "build.path"),
    (
        "{image: a, conda_file: 'https://h/c.yaml'}",
        "`https://h/c.yaml` is a URL, which conda files are not read from",
        None,
    ),
    ("{build: {path: 's3://b/x'}}", "`s3://b/x` is not a build context", "build.path"),
    ('{build: {path: "a\\nb"}}', "`a�b` is not a build context", "build.path"),
    ("{build: {path: ., dockerfile_path: ../D}}", "`../D` leads out of the build context", "build.dockerfile_path"),
    ("{build: {path: ., dockerfile_path: /D}}", "`/D` leads out of the build context", "build.dockerfile_path"),
    ("{image: a, conda_file: [x]}", "expected text, got a list", "conda_file"),
    ("{conda_file: {dependencies: x}}", "expected a list, got text", "conda_file.dependencies"),
    ("{image: a, inference_config: {}}", "`liveness_route`, `readiness_route`, `scoring_route` are missing", None),
    ("{amend: {}, image: a}", "`image` replaces the model's environment and `amend` keeps it", "image"),
    ("{amend: {}, conda_file: a}", "`conda_file` replaces the model's environment and `amend` keeps it", None),
    ("{amend: [x]}", "expected a mapping, got a list", "amend"),
    ("{amend: {pythn: 3}}", "`pythn` is not known here", "amend.pythn"),
]


@pytest.mark.parametrize(("text", "what", "key"), REFUSALS, ids=[text for text, _, _ in REFUSALS])
def test_what_is_wrong_is_told_with_its_place(text: str, what: str, key: str | None) -> None:
    problem = refused(text)[0]
    assert problem.what == what
    assert problem.where is not None
    assert key is None or problem.where.key == key


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("conda_fil", "did you mean `conda_file`?"),
        ("Image", "did you mean `image`?"),
        ("inference_conf", "did you mean `inference_config`?"),
        ("amends", "did you mean `amend`?"),
        ("resources", None),
    ],
)
def test_an_unknown_key_gets_its_nearest_spelling(key: str, fix: str | None) -> None:
    (problem,) = refused(f"{{image: a, {key}: x}}")
    assert problem.what == f"`{key}` is not known here"
    assert problem.fix == fix if fix else str(problem.fix).startswith("use one of `name`, `version`")


@pytest.mark.parametrize("text", ["dependencies: [python]", "{channels: [x], name: a}"])
def test_a_conda_file_is_told_from_an_environment(text: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        Environment.parse(text, file="envs/conda.yaml")
    assert str(caught.value) == (
        "this is a conda file, not an environment\n  at envs/conda.yaml\n"
        "  fix: write an environment file with `image: NAME` and `conda_file: conda.yaml`"
    )


@pytest.mark.parametrize("text", ["[a]", "x", "", "a: [", "1"])
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    assert refused(text)[0].where is not None


def test_all_problems_are_told_at_once() -> None:
    found = refused("{name: -, os_type: mac, build: {}, colour: red, conda_file: {channels: [a b]}}")
    assert sorted(problem.where.key for problem in found if problem.where) == [
        "build",
        "colour",
        "conda_file.channels[0]",
        "name",
        "os_type",
    ]


@given(ENVIRONMENTS)
def test_an_environment_is_the_same_after_it_is_written(document: dict[str, object]) -> None:
    one = parse(dump(document))
    again = Environment.parse(one.to_text(), file="elsewhere.yaml")
    assert again.digest == one.digest
    assert again.to_plain() == one.to_plain()
    assert again.to_text() == one.to_text()
    assert (again.kind, again.secrets) == (one.kind, ())


UNORDERED = {"pip", "dependencies", "bump", "remove"}


def shuffled(value: object, chance: random.Random, key: str = "") -> object:
    """Put keys, and lists whose order says nothing, into another order; write versions and names otherwise."""
    if isinstance(value, dict):
        members = list(value.items())
        chance.shuffle(members)
        return {name: shuffled(member, chance, name) for name, member in members}
    if isinstance(value, list):
        items = [shuffled(item, chance, key) for item in value]
        if key in UNORDERED:
            chance.shuffle(items)
        return items
    return value.replace("scikit-learn", "Scikit_Learn") if isinstance(value, str) and key == "pip" else value


@given(ENVIRONMENTS, st.fixed_dictionaries({}, optional=TOLD), st.randoms(use_true_random=False))
def test_the_digest_is_of_the_meaning(
    document: dict[str, object], told: dict[str, object], chance: random.Random
) -> None:
    said = {key: value for key, value in document.items() if key not in TOLD}
    text = dump(shuffled(said | told, chance)).replace("\n", "  # note\n") if "conda_file" not in said else None
    other = parse(text or dump(shuffled(said | told, chance)))
    assert other.digest == parse(dump(document)).digest


@given(st.lists(ENVIRONMENTS, min_size=2, max_size=4))
def test_environments_that_say_different_things_have_different_digests(documents: list[dict[str, object]]) -> None:
    found = [parse(dump(document)) for document in documents]
    images = {one.digest: one.to_plain().get("image") for one in found}
    kinds = {one.digest: one.kind for one in found}
    assert all(images[one.digest] == one.to_plain().get("image") for one in found)
    assert all(kinds[one.digest] == one.kind for one in found)


MEANINGS = [
    "{image: a}",
    "{image: b}",
    "{build: {path: .}}",
    "{build: {path: ., dockerfile_path: D}}",
    "{image: a, conda_file: c.yaml}",
    "{image: a, conda_file: {}}",
    "{image: a, conda_file: {channels: [x, y]}}",
    "{image: a, conda_file: {channels: [y, x]}}",
    "{image: a, conda_file: {dependencies: [numpy]}}",
    "{image: a, conda_file: {dependencies: [numpy=1]}}",
    "{image: a, conda_file: {dependencies: [{pip: [numpy]}]}}",
    "{image: a, conda_file: {dependencies: [{pip: ['numpy==1']}]}}",
    "{image: a, conda_file: {dependencies: [{pip: ['--pre']}]}}",
    "{image: a, conda_file: {dependencies: [{pip: ['a b']}]}}",
    "{image: a, conda_file: {variables: {A: 1}}}",
    "{image: a, conda_file: {variables: {A: 2}}}",
    f"{{image: a, {ROUTES}}}",
    f"{{image: a, {ROUTES.replace('5001', '5002')}}}",
    "{amend: {}}",
    "{amend: {python: 3.10}}",
    "{amend: {image: a}}",
    "{amend: {pip: {add: [numpy]}}}",
    "{amend: {pip: {bump: [numpy]}}}",
    "{amend: {pip: {remove: [numpy]}}}",
    "{amend: {pip: {swap: {numpy: scipy}}}}",
    "{amend: {conda: {add: [numpy]}}}",
    "{amend: {channels: {add: [x, y]}}}",
    "{amend: {channels: {add: [y, x]}}}",
    "{amend: {index_url: https://h}}",
    "{amend: {extra_index_urls: {add: [https://h, https://i]}}}",
    "{amend: {extra_index_urls: {add: [https://i, https://h]}}}",
    "{amend: {find_links: {add: [https://h]}}}",
    "{amend: {system_packages: {add: [git]}}}",
    "{amend: {environment_variables: {add: {A: 1}}}}",
    "{amend: {environment_variables: {remove: [A]}}}",
]


def test_everything_with_a_meaning_counts() -> None:
    assert len({parse(text).digest for text in MEANINGS}) == len(MEANINGS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{conda_file: {name: a}, image: b}", "{image: b, conda_file: {name: c}, name: d, tags: {e: f}}"),
        (
            "{image: a, conda_file: {dependencies: [python=3.9, {pip: ['NumPy==1.0', six]}]}}",
            "{conda_file: {dependencies: [{pip: [six]}, {pip: ['numpy == 1', '# note']}, python 3.9.*]}, image: a}",
        ),
        ("{amend: {pip: {bump: [Sc_x==1.0, b]}}}", "{amend: {pip: {bump: ['b', 'sc-x==1']}}}"),
        ("{amend: {pip: {remove: [Sc_x]}}}", "{amend: {pip: {remove: [sc-x]}}}"),
        ("{amend: {index_url: 'https://H/'}}", "{amend: {index_url: 'https://u:p@h'}}"),
        ("{amend: {python: 3.8}}", "{amend: {python: '=3.8.*', pip: }}"),
    ],
)
def test_equal_spellings_have_one_digest(one: str, other: str) -> None:
    assert Environment.parse(one, file="x").digest == Environment.parse(other, file="y/z").digest


def test_the_digest_of_a_line_that_is_wrong_is_not_of_its_place() -> None:
    text = "{image: a, conda_file: {dependencies: [{pip: ['a b']}]}}"
    assert Environment.parse(text, file="x").digest == Environment.parse(text, file="y").digest


CANARY = """
name: a
image: b
conda_file:
  channels: [conda-forge, "https://u:s3cret@h/c"]
  dependencies:
  - https://u:s3cret@h/c::numpy
  - pip: ["-i https://u:s3cret@h", "x @ git+https://s3cret@h/x", six]
"""
AMENDING_CANARY = """
amend:
  index_url: https://u:s3cret@h/a
  extra_index_urls: {add: ["https://u:s3cret@h/b"], remove: ["https://u:s3cret@h/r"]}
  find_links: {swap: {"https://u:s3cret@h/o": "https://u:s3cret@h/c"}}
  pip: {bump: ["x @ https://u:s3cret@h/x.whl"], swap: {a: "y @ https://u:s3cret@h/y.whl"}}
  conda: {add: ["https://u:s3cret@h/t/s3cret/c::z"]}
  channels: {add: ["https://u:s3cret@h/c"], remove: ["https://u:s3cret@h/d"]}
"""


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (
            CANARY,
            [
                "conda_file.channels[1]",
                "conda_file.dependencies[0]",
                "conda_file.dependencies[1].pip[0]",
                "conda_file.dependencies[1].pip[1]",
            ],
        ),
        (
            AMENDING_CANARY,
            [
                "amend.pip.bump[0]",
                "amend.pip.swap.a",
                "amend.conda.add[0]",
                "amend.channels.add[0]",
                "amend.index_url",
                "amend.extra_index_urls.add[0]",
                "amend.find_links.swap.https://***@h/o",
            ],
        ),
        ("{image: a, conda_file: {name: x}}", []),
        ("{image: a, conda_file: c.yaml}", []),
    ],
    ids=["replacement", "amendment", "none", "a conda file by name"],
)
def test_credentials_are_found_and_shown_nowhere(text: str, keys: list[str]) -> None:
    found = parse(text)
    assert [source.key for source in found.secrets] == keys
    assert "s3cret" not in repr(found) + found.to_text() + str(found.to_plain())


def test_credentials_in_what_is_only_told_are_not_kept() -> None:
    told = "description: https://u:s3cret@h\ntags: {https://u:s3cret@h: [https://u:s3cret@h]}"
    found = parse(f"image: a\n{told}\nconda_file: {{name: u:s3cret@h, other: [https://u:s3cret@h]}}")
    assert "s3cret" not in repr(found) + found.to_text()
    assert found.description == "https://***@h"


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.9", "1.10"),
        ("1", "2"),
        ("zzz", "0.1"),
        ("1.0rc1", "1.0"),
        ("1.0", "1.0.post1"),
        ("a", "b"),
        ("1.0", "1!0.1"),
    ],
)
def test_versions_are_ordered_by_the_rules_of_python(lower: str, higher: str) -> None:
    assert version_key(lower) < version_key(higher)


@given(st.lists(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(rc1|\.post1)?", fullmatch=True), min_size=2))
def test_the_latest_version_is_the_highest(versions: list[str]) -> None:
    ordered = sorted([*versions, "latest-build", "x"], key=version_key)
    assert ordered[:2] == ["latest-build", "x"]
    assert [Version(one) for one in ordered[2:]] == sorted(Version(one) for one in versions)


def test_an_environment_on_another_base_keeps_the_rest() -> None:
    base = parse("image: b").content.base
    assert base is not None
    changed = parse("{image: a, name: n, conda_file: {name: x}}").with_base(base)
    assert (changed.content.base, changed.reference) == (base, "n")
    assert isinstance(parse("amend: {}").with_base(base).content, Amendment)


@given(YAML_VALUES | st.dictionaries(st.sampled_from(["image", "build", "conda_file", "amend", "tags"]), YAML_VALUES))
def test_any_document_is_read_or_refused(document: object) -> None:
    try:
        found = parse(dump(document))
    except InvalidFileError:
        return
    assert Environment.parse(found.to_text(), file="x").digest == found.digest
