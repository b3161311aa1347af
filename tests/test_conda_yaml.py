from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.conda_yaml import CondaYaml, MatchSpec
from envbuilder.errors import InvalidFileError, Source
from envbuilder.yaml_text import dump
from tests.strategies import HOSTILE, NAMES, REQUIREMENTS

SOURCE = Source(file="conda.yaml", key="dependencies[0]")

SPECS = [
    ("python", "python", None, None, None),
    ("Python=3.9.1", "python", "=3.9.1", None, None),
    ("python==3.9.1", "python", "==3.9.1", None, None),
    ("python 3.8.13", "python", "3.8.13", None, None),
    ("python = 3.9.1", "python", "=3.9.1", None, None),
    ("python=3.8.13=h123_0", "python", "==3.8.13", "h123_0", None),
    ("python==3.8.13=h123_0", "python", "==3.8.13", "h123_0", None),
    ("python 3.8.13 h123_0", "python", "==3.8.13", "h123_0", None),
    ("python 3.8.13=h123_0", "python", "==3.8.13", "h123_0", None),
    ("python=3.8=*_cpython", "python", "==3.8", "*_cpython", None),
    ("python=3.8.*=*_cpython", "python", "=3.8.*", "*_cpython", None),
    ("python >=3.8,<3.9 *_cpython", "python", ">=3.8,<3.9", "*_cpython", None),
    ("python=3.8.*", "python", "=3.8.*", None, None),
    ("python>=3.8,<3.9", "python", ">=3.8,<3.9", None, None),
    ("python >=3.8, <3.9", "python", ">=3.8,<3.9", None, None),
    ("python >= 3.8 , < 3.9", "python", ">=3.8,<3.9", None, None),
    ("python<3.9", "python", "<3.9", None, None),
    ("python~=3.8", "python", "~=3.8", None, None),
    ("python!=3.8.1", "python", "!=3.8.1", None, None),
    ("python=3.10.0rc1", "python", "=3.10.0rc1", None, None),
    ("numpy=1.11.1|1.11.3", "numpy", "=1.11.1|1.11.3", None, None),
    ("conda-forge::python=3.9.1", "python", "=3.9.1", None, "conda-forge"),
    ("conda-forge/linux-64::numpy", "numpy", None, None, "conda-forge/linux-64"),
    ("https://repo.example/chan::numpy", "numpy", None, None, "https://repo.example/chan"),
    ("https://u:s3cret@repo.example/t/s3cret/chan::numpy", "numpy", None, None, "https://***@repo.example/t/***/chan"),
    ('numpy[version=">=1.8,<2", build=py*]', "numpy", ">=1.8,<2", "py*", None),
    ("numpy[version='1.8',channel=conda-forge,subdir=linux-64]", "numpy", "1.8", None, "conda-forge/linux-64"),
    ("numpy[]", "numpy", None, None, None),
    ("_libgcc_mutex=0.1", "_libgcc_mutex", "=0.1", None, None),
    ("numpy=*", "numpy", None, None, None),
    ("numpy * *", "numpy", None, None, None),
    ("openssl=1.1.1q  # old", "openssl", "=1.1.1q", None, None),
]


@pytest.mark.parametrize(("text", "name", "version", "build", "channel"), SPECS, ids=[spec[0] for spec in SPECS])
def test_every_spelling_of_a_match_spec_is_split(
    text: str, name: str, version: str | None, build: str | None, channel: str | None
) -> None:
    spec = MatchSpec.parse(text, source=SOURCE)
    assert (spec.name, spec.version, spec.build, spec.channel) == (name, version, build, channel)
    assert spec.source == SOURCE
    assert "s3cret" not in repr(spec)
    assert MatchSpec.parse(spec.text, source=SOURCE).meaning == spec.meaning


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("=3.8", "it does not begin with a name"),
        ("*", "it does not begin with a name"),
        ("numpy@1", "`@` cannot follow a name"),
        ("numpy;id", "`;` cannot follow a name"),
        ("numpy 1 2 3", "more than name, version and build"),
        ("numpy=1;id", "`=1;id` is not a version"),
        ("numpy=$(id)", "is not a version"),
        ("numpy 1 a;b", "the build string cannot be read"),
        ("a b::numpy", "the channel cannot be read"),
        ("numpy[md5=abc]", "`md5` in brackets is not one of `version`"),
        ("numpy[version]", "the part in brackets is not `key=value`"),
        ("https://repo.example/linux-64/numpy-1.conda", "files and URLs are not accepted"),
        ("numpy-1.tar.bz2", "files and URLs are not accepted"),
        ("numpy\nscipy", "is not a match spec"),
        ("a" + " " * 100_000 + "b", "is not a match spec"),
        ("numpy>=1,,<2", "`` is not a version"),
    ],
)
def test_anything_else_is_refused_with_a_fix(text: str, what: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        MatchSpec.parse(text, source=SOURCE)
    problem = caught.value.problems[0]
    assert what in problem.what
    assert problem.where == SOURCE
    assert problem.fix


@given(NAMES, HOSTILE, NAMES)
def test_hostile_names_are_refused(name: str, hostile: str, rest: str) -> None:
    # What looks like a version after a name is one; it may not hold anything else either.
    for text in (f"{name}{hostile}{rest}", f"{name}=1{hostile}{rest}"):
        try:
            spec = MatchSpec.parse(text, source=SOURCE)
        except InvalidFileError:
            continue
        assert hostile.startswith((">", "|"))
        assert spec.name == name.lower()


@given(st.text(max_size=60))
def test_any_text_is_a_match_spec_or_refused(text: str) -> None:
    try:
        spec = MatchSpec.parse(text, source=SOURCE)
    except InvalidFileError:
        return
    assert spec.text.isprintable()


def test_every_line_is_kept_with_its_place() -> None:
    conda = CondaYaml.parse(
        """
name: mlflow-env
prefix: /opt/conda
variables: {A: b}
platform: linux-64
channels: [conda-forge, "https://u:s3cret@h/c"]
dependencies:
- python=3.10
- "# a comment"
- pip:
  - numpy==1
  - "-i https://u:s3cret@h"
-
- openblas
- pip:
  - scipy
""",
        file="m/conda.yaml",
    )
    assert conda.name == "mlflow-env"
    assert [channel.value for channel in conda.channels] == ["conda-forge", "https://***@h/c"]
    assert [(str(one.source), one.name) for one in conda.match_specs] == [
        ("m/conda.yaml: dependencies[0]", "python"),
        ("m/conda.yaml: dependencies[4]", "openblas"),
    ]
    assert [len(block) for block in conda.pip_blocks] == [2, 1]
    assert [(str(line.source), line.value) for line in conda.pip_lines] == [
        ("m/conda.yaml: dependencies[2].pip[0]", "numpy==1"),
        ("m/conda.yaml: dependencies[2].pip[1]", "-i https://***@h"),
        ("m/conda.yaml: dependencies[5].pip[0]", "scipy"),
    ]
    assert [(one.name, one.value, one.source.key) for one in conda.variables] == [("A", "b", "variables.A")]
    assert conda.other == {"platform": "linux-64"}
    assert "s3cret" not in repr(conda) + conda.to_text()


@pytest.mark.parametrize("text", ["{}", "name:\nchannels:\ndependencies:", "dependencies: []"])
def test_an_empty_file_says_nothing(text: str) -> None:
    conda = CondaYaml.parse(text, file="conda.yaml")
    assert (conda.match_specs, conda.pip_lines, conda.channels, conda.name) == ((), (), (), None)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        CondaYaml.parse(
            """
name: [x]
channels: [a b]
dependencies:
- =3
- [x]
- pipp: [x]
- conda: [y]
- pip: x
- pip:
  - a: b
""",
            file="conda.yaml",
        )
    assert [(problem.what, str(problem.where)) for problem in caught.value.problems] == [
        ("expected text, got a list", "conda.yaml: name"),
        ("`a b` is not a channel", "conda.yaml: channels[0]"),
        ("`=3` is not a match spec: it does not begin with a name", "conda.yaml: dependencies[0]"),
        ("expected text or `pip:`, got a list", "conda.yaml: dependencies[1]"),
        ("`pipp` is not known inside `dependencies`", "conda.yaml: dependencies[2]"),
        ("`conda` is not known inside `dependencies`", "conda.yaml: dependencies[3]"),
        ("expected a list, got text", "conda.yaml: dependencies[4].pip"),
        ("expected text, got a mapping", "conda.yaml: dependencies[5].pip[0]"),
    ]
    assert caught.value.problems[4].fix == "did you mean `pip`?"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(min_size=1, max_size=5),
            "channels": st.lists(NAMES, max_size=3),
            "dependencies": st.lists(NAMES | st.fixed_dictionaries({"pip": st.lists(REQUIREMENTS, max_size=3)})),
            "variables": st.dictionaries(st.just("A"), st.sampled_from(["1", "a b", "true", "3.10", "''"])),
        },
    )
)
def test_what_is_written_can_be_read_back(document: dict[str, object]) -> None:
    one = CondaYaml.parse(dump(document), file="conda.yaml")
    again = CondaYaml.parse(one.to_text(), file="conda.yaml")
    assert again.to_plain() == one.to_plain()
    assert [spec.meaning for spec in again.match_specs] == [spec.meaning for spec in one.match_specs]
    assert [line.value for line in again.pip_lines] == [line.value for line in one.pip_lines]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("numpy=1.8", "numpy 1.8.*", True),
        ("numpy[version='1.8']", "numpy==1.8", True),
        ("numpy>=1,<2", "numpy <2, >=1", True),
        ("numpy==1|==2", "numpy ==2 | ==1", True),
        ("NumPy", "numpy *", True),
        ("numpy=1.8", "numpy==1.8", False),
        ("numpy=1.8=py36_0", "numpy=1.8", False),
        ("a::numpy", "b::numpy", False),
    ],
)
def test_what_means_the_same_is_equal(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a table's column
    meanings = {MatchSpec.parse(text, source=SOURCE).meaning for text in (one, other)}
    assert (len(meanings) == 1) is same


@pytest.mark.parametrize("text", ["dependencies: x", "- a", "x"])
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(InvalidFileError, match="expected a"):
        CondaYaml.parse(text, file="conda.yaml")
