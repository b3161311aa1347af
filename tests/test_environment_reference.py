from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.environment_reference import EnvironmentReference
from envbuilder.errors import InvalidFileError, Source
from tests.strategies import HOSTILE

SOURCE = Source(file="--environment")


def parse(text: str) -> EnvironmentReference:
    return EnvironmentReference.parse(text, source=SOURCE)


@pytest.mark.parametrize(
    ("text", "name", "version", "label"),
    [
        ("azureml:foo:1", "foo", "1", None),
        ("azureml:foo@latest", "foo", None, "latest"),
        ("azureml:foo", "foo", None, None),
        ("azureml:foo:latest", "foo", None, "latest"),
        ("foo:1", "foo", "1", None),
        ("foo:1.10", "foo", "1.10", None),
        ("foo@prod", "foo", None, "prod"),
        ("foo:latest", "foo", None, "latest"),
        (" foo ", "foo", None, None),
        ("AzureML-sklearn_1.0:12", "AzureML-sklearn_1.0", "12", None),
        ("azureml:foo.yaml", "foo.yaml", None, None),
    ],
)
def test_a_registered_environment_is_named(text: str, name: str, version: str | None, label: str | None) -> None:
    found = parse(text)
    assert (found.name, found.version, found.label, found.path) == (name, version, label, None)
    assert found.source == SOURCE


@pytest.mark.parametrize(
    "text", ["slim.yaml", "a b.yml", "./slim", "../e/slim.yaml", "/e/slim", "~/slim.yaml", "envs/x"]
)
def test_a_file_is_told_apart(text: str) -> None:
    assert parse(text) == EnvironmentReference(path=text, source=SOURCE)
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "azureml://registries/azureml/environments/x/versions/3",
        "azureml://registries/azureml/environments/x/labels/latest",
        "azureml:azureml://registries/r/environments/x/versions/3",
        "azureml:/subscriptions/s/resourceGroups/g/providers/p/workspaces/w/environments/e/versions/1",
        "/subscriptions/s/resourceGroups/g/environments/e/versions/1",
    ],
)
def test_what_is_in_azure_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InvalidFileError, match="is in Azure, which is not asked") as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.where == SOURCE
    assert problem.fix == (
        "save it with `az ml environment show … > FILE` and register that: `envbuilder environment register FILE`"
    )


@pytest.mark.parametrize(
    "text",
    ["", ":1", "foo:", "foo@", "foo:1:2", "foo@a@b", "foo:1@latest", "foo bar", "-x", "azureml:", "a\x1b", "f" * 256],
)
def test_anything_else_names_no_environment(text: str) -> None:
    with pytest.raises(InvalidFileError, match="names no environment") as caught:
        parse(text)
    assert (caught.value.problems[0].where, "NAME@latest" in str(caught.value.problems[0].fix)) == (SOURCE, True)


def test_a_url_is_refused_without_its_credentials() -> None:
    with pytest.raises(InvalidFileError) as caught:
        parse("https://u:s3cret@h/slim.yaml")
    assert caught.value.problems[0].what == "`https://***@h/slim.yaml` is a URL, which environments are not read from"


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}(\.yaml|\.yml)?", fullmatch=True)


@given(
    st.tuples(st.sampled_from(["", "azureml:"]), NAMES, st.sampled_from(["", ":", "@"]), NAMES).map(
        lambda parts: "".join(parts if parts[2] else parts[:2])
    )
)
def test_a_reference_is_the_same_after_it_is_written(text: str) -> None:
    found = parse(text)
    assert parse(str(found)) == found


@given(st.text(max_size=12) | st.tuples(NAMES, HOSTILE, NAMES).map("".join))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidFileError:
        return
    assert str(found).isprintable()
    assert parse(str(found)) == found
