from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given

from envbuilder import condarc
from envbuilder.channel import Address
from envbuilder.condarc import Condarc
from envbuilder.errors import InvalidFileError, Source
from envbuilder.yaml_text import dump
from tests.strategies import YAML_VALUES

ALIAS = Address.parse("https://alias.example/conda", where=Source(file="x"))
WHOLE = """
channel_alias: https://${USER_NAME}:$TOKEN@conda.example/c
channels: [sneaky, defaults]
custom_channels:
  team: https://u:s3cret@one.example/conda/
  deep/name: file:///srv
default_channels: [https://mirror.example/main, team]
custom_multichannels:
  both: [team, https://two.example/x, plain]
  none: []
mirrored_channels:
  conda-forge: [https://m1.example/forge, oci://ghcr.example/forge, https://m2.example/forge]
  nowhere: [oci://ghcr.example/forge]
ssl_verify: /etc/company.pem
proxy_servers: {http: "u:s3cret@proxy.example:3128", https: http://proxy.example:3129, "https://one.example": x}
report_errors: false
"""


def parse(text: str | bytes, **environ: str) -> Condarc:
    return Condarc.parse(text, file=".condarc", environ=environ)


def urls(*files: Condarc) -> dict[str, list[str]]:
    return {name: [one.url for one in found] for name, found in condarc.channels(files, alias=ALIAS).items()}


def test_what_says_where_channels_are_is_read() -> None:
    found = parse(WHOLE, USER_NAME="me", TOKEN="s3cret")
    assert found.channel_alias is not None
    assert found.channel_alias.url == "https://conda.example/c"
    assert found.channel_alias.authorization is not None
    assert urls(found) == {
        "team": ["https://one.example/conda/team"],
        "deep/name": ["file:///srv/deep/name"],
        "both": ["https://one.example/conda/team", "https://two.example/x", "https://alias.example/conda/plain"],
        "defaults": ["https://mirror.example/main", "https://one.example/conda/team"],
    }
    assert [(name, [one.url for one in by]) for name, by in found.mirrored] == [
        ("conda-forge", ["https://m1.example/forge", "https://m2.example/forge"])
    ]
    assert found.ca_file == "/etc/company.pem"
    assert dict(found.proxies) == {"http": "http://u:s3cret@proxy.example:3128", "https": "http://proxy.example:3129"}
    assert "s3cret" not in repr(found)
    assert "sneaky" not in repr(found)


def test_the_nearest_file_that_names_a_channel_counts() -> None:
    near, far = parse("custom_channels: {a: https://near}"), parse("custom_channels: {a: https://far, b: https://far}")
    assert urls(near, far) == {"a": ["https://near/a"], "b": ["https://far/b"]}


@pytest.mark.parametrize("text", ["", "ssl_verify: true", "ssl_verify: false", "ssl_verify: truststore"])
def test_nothing_said_is_nothing(text: str) -> None:
    assert parse(text) == Condarc()


def test_a_variable_that_is_not_set_stays_as_it_is_written() -> None:
    assert parse("proxy_servers: {all: 'http://$HOST:${PORT}'}", HOST="h").proxies == (("all", "http://h:${PORT}"),)


def test_a_group_of_nothing_is_no_channel() -> None:
    assert urls(parse("custom_multichannels: {a: [nodefaults]}")) == {}


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        parse(
            "channel_alias: 'u:s3cret@h'\ncustom_channels: {a: nowhere, b: [x]}\ndefault_channels: x\n"
            "mirrored_channels: {c: ['https://h/?s3cret'], 'https://u:s3cret@h': [x]}\nproxy_servers: {https: [x]}\n"
        )
    assert "s3cret" not in str(caught.value)
    assert [(problem.what, str(problem.where)) for problem in caught.value.problems] == [
        ("`***@h` is not a channel", ".condarc: channel_alias"),
        ("`nowhere` is not a channel", ".condarc: custom_channels.a"),
        ("expected text, got a list", ".condarc: custom_channels.b"),
        ("expected a list, got text", ".condarc: default_channels"),
        ("`https://***@h` is not the name of a channel", ".condarc: mirrored_channels"),
        ("`https://h/?***` is not a channel: its URL has a query", ".condarc: mirrored_channels.c[0]"),
        ("expected text, got a list", ".condarc: proxy_servers.https"),
    ]


def test_a_group_of_what_is_no_channel_is_told() -> None:
    with pytest.raises(InvalidFileError) as caught:
        urls(parse("default_channels: ['a b', 'c d']"))
    assert [str(problem.where) for problem in caught.value.problems] == [
        ".condarc: default_channels[0]",
        ".condarc: default_channels[1]",
    ]


@given(YAML_VALUES)
def test_any_document_is_read_or_refused(value: object) -> None:
    with suppress(InvalidFileError):
        assert isinstance(urls(parse(dump(value))), dict)
