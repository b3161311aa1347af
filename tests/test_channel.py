from __future__ import annotations

import base64

import pytest

from envbuilder.channel import Address, Channel, split_subdir
from envbuilder.errors import InvalidFileError, Source

WHERE = Source(file="conda.yaml", key="channels[0]")
ALIAS = Address.parse("https://conda.anaconda.org/", where=WHERE)


def urls(text: str, alias: Address = ALIAS) -> tuple[str, ...]:
    found = Channel.find(text, alias=alias, source=WHERE)
    return found.urls if found is not None else ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conda-forge", ("https://conda.anaconda.org/conda-forge",)),
        ("conda-forge/label/dev", ("https://conda.anaconda.org/conda-forge/label/dev",)),
        ("conda-forge/noarch", ("https://conda.anaconda.org/conda-forge",)),
        ("pkgs/main", ("https://repo.anaconda.com/pkgs/main",)),
        ("defaults", ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")),
        ("nodefaults", ()),
        ("https://host.example/c/", ("https://host.example/c",)),
        ("http://host.example:8080/c/linux-64", ("http://host.example:8080/c",)),
        ("https://user:pw@host.example/c", ("https://host.example/c",)),
        ("https://host.example/t/tk-1/c", ("https://host.example/c",)),
        ("file:///srv/channel", ("file:///srv/channel",)),
    ],
)
def test_names_and_urls_lead_to_addresses(text: str, expected: tuple[str, ...]) -> None:
    assert urls(text) == expected


def test_names_are_looked_up_below_the_alias_with_its_login() -> None:
    alias = Address.parse("https://user:p%40ss@host.example/t/tk-1/conda/", where=WHERE)
    found = Channel.find("team", alias=alias, source=WHERE)
    assert found is not None
    (address,) = found.addresses
    assert address.url == "https://host.example/conda/team"
    assert address.request_url == "https://host.example/t/tk-1/conda/team"
    assert address.authorization == f"Basic {base64.b64encode(b'user:p@ss').decode()}"
    assert not [secret for secret in ("p@ss", "p%40ss", "tk-1", "Basic") if secret in repr(found)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../up",
        "/srv/channel",
        "a b",
        "ftp://host/c",
        "https://",
        "https://host:port/c",
        "file://host/c",
        "s3://b/c",
    ],
)
def test_what_is_no_channel_is_refused(text: str) -> None:
    with pytest.raises(InvalidFileError, match="is not a channel") as caught:
        urls(text)
    assert caught.value.problems[0].where == WHERE


def test_a_query_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidFileError, match="has a query") as caught:
        urls("https://user:canary@host.example/c?sig=canary")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conda-forge/linux-64", ("conda-forge", "linux-64")),
        ("https://h/c/noarch/", ("https://h/c", "noarch")),
        ("conda-forge", ("conda-forge", None)),
        ("team/linux-65", ("team/linux-65", None)),
        ("", ("", None)),
    ],
)
def test_a_subdir_at_the_end_is_split_off(text: str, expected: tuple[str, str | None]) -> None:
    assert split_subdir(text) == expected


def test_match_specs_call_a_group_by_its_name_and_others_by_their_url() -> None:
    keys = {
        text: found.key for text in ("defaults", "bioconda") if (found := Channel.find(text, alias=ALIAS, source=WHERE))
    }
    assert keys == {"defaults": "defaults", "bioconda": "https://conda.anaconda.org/bioconda"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("team", ("https://one.example/team",)),
        ("team/label/dev", ("https://one.example/team/label/dev",)),
        ("team/deep", ("https://deep.example/x",)),
        ("team/../up", None),
        ("both/label/dev", ("https://a.example/label/dev", "https://b.example/label/dev")),
        ("defaults", ("https://c.example",)),
        ("pkgs/main", ("https://d.example",)),
        ("teams", ("https://conda.anaconda.org/teams",)),
        ("https://team/team", ("https://team/team",)),
    ],
)
def test_a_named_channel_is_where_its_name_leads(text: str, expected: tuple[str, ...] | None) -> None:
    places = {
        "team": ("https://one.example/team",),
        "team/deep": ("https://deep.example/x",),
        "both": ("https://a.example", "https://b.example"),
        "defaults": ("https://c.example",),
        "pkgs/main": ("https://d.example",),
    }
    named = {name: tuple(Address.parse(url, where=WHERE) for url in found) for name, found in places.items()}
    if expected is None:
        with pytest.raises(InvalidFileError):
            Channel.find(text, alias=ALIAS, source=WHERE, named=named)
        return
    found = Channel.find(text, alias=ALIAS, source=WHERE, named=named)
    assert found is not None
    assert found.urls == expected
    assert found.key == (text if len(expected) > 1 else expected[0])
