from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.conda_settings import CondaSettings
from envbuilder.errors import InvalidFileError
from envbuilder.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, **environ: str) -> CondaSettings:
    machine = Settings.from_environ({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", **environ})
    return CondaSettings.from_environ(dict(machine.conda_environ), settings=machine)


def test_nothing_set_means_the_public_channels(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.channel_alias.url == "https://conda.anaconda.org"
    assert (settings.mirrors, settings.environ) == ((), ())


def test_our_own_alias_wins_over_condas(tmp_path: Path) -> None:
    conda, ours = "https://conda.example/c", "https://user:canary@ours.example/c/"
    assert read(tmp_path, CONDA_CHANNEL_ALIAS=conda).channel_alias.url == conda
    settings = read(tmp_path, CONDA_CHANNEL_ALIAS=conda, ENVBUILDER_CHANNEL_ALIAS=ours)
    assert settings.channel_alias.url == "https://ours.example/c"
    assert settings.channel_alias.authorization is not None
    assert "canary" not in repr(settings)


def test_places_tell_where_channels_are_and_nobodys_password(tmp_path: Path) -> None:
    plain, secret = (
        read(
            tmp_path,
            ENVBUILDER_CHANNEL_ALIAS=f"https://{login}a.example/c",
            ENVBUILDER_CHANNEL_MIRRORS=f"https://b.example=https://{login}m.example",
        )
        for login in ("", "user:canary@")
    )
    assert plain.places == secret.places == ["https://a.example/c", [], [["https://b.example", ["https://m.example"]]]]
    assert plain.places != read(tmp_path).places


def test_mirrors_are_read_in_their_order(tmp_path: Path) -> None:
    text = "https://a.example=https://m1.example/x  https://b.example/c=https://m2.example https://a.example/=https://m3.example"
    settings = read(tmp_path, ENVBUILDER_CHANNEL_MIRRORS=text)
    assert [(of.url, [one.url for one in by]) for of, by in settings.mirrors] == [
        ("https://a.example", ["https://m1.example/x", "https://m3.example"]),
        ("https://b.example/c", ["https://m2.example"]),
    ]


@pytest.mark.parametrize("text", ["https://a.example", "conda-forge=https://m.example", "https://a.example=m"])
def test_what_is_no_mirror_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path, ENVBUILDER_CHANNEL_MIRRORS=f"https://x.example=https://y.example {text}")
    assert str(caught.value.problems[0].where) == "ENVBUILDER_CHANNEL_MIRRORS: [1]"


def test_an_alias_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path, ENVBUILDER_CHANNEL_ALIAS="conda.example")
    assert str(caught.value.problems[0].where) == "ENVBUILDER_CHANNEL_ALIAS"


def test_the_program_gets_proxies_certificates_and_the_places_of_credentials(tmp_path: Path) -> None:
    ca, auth = tmp_path / "ca.pem", tmp_path / "auth.json"
    ca.write_text("")
    auth.write_text("{}")
    settings = read(
        tmp_path,
        HTTPS_PROXY="http://proxy.example",
        ENVBUILDER_CA_FILE=str(ca),
        RATTLER_AUTH_FILE=str(auth),
        NETRC="/n",
        RATTLER_CACHE_DIR="/stray",
    )
    environ = settings.program_environ()
    assert environ["HTTPS_PROXY"] == "http://proxy.example"
    assert environ["SSL_CERT_FILE"] == str(ca)
    assert environ["RATTLER_AUTH_FILE"] == str(auth)
    assert environ["NETRC"] == "/n"
    assert "RATTLER_CACHE_DIR" not in environ


def test_a_file_of_credentials_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = read(tmp_path, RATTLER_AUTH_FILE=str(tmp_path / "absent.json"))
    with pytest.raises(InvalidFileError, match="no such file of credentials"):
        settings.program_environ()


def test_condas_own_files_count_where_nobody_else_says_something(tmp_path: Path) -> None:
    ca, own = tmp_path / "ca.pem", tmp_path / "own.yml"
    ca.write_text("")
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".condarc").write_text("channel_alias: https://${HOST}/c\nmirrored_channels: {forge: [https://m1]}\n")
    (tmp_path / ".conda" / ".condarc").write_text(
        "channel_alias: https://far.example\ncustom_channels: {team: https://t.example}\nssl_verify: ~/ca.pem\n"
        "proxy_servers: {http: http://p.example:1, https: http://p.example:2}\n"
    )
    own.write_text("custom_channels: {mine: https://u:canary@mine.example}\n")
    settings = read(tmp_path, HOST="near.example", CONDARC=str(own), HTTPS_PROXY="http://usual.example")
    assert settings.channel_alias.url == "https://near.example/c"
    assert {name: [one.url for one in found] for name, found in settings.named} == {
        "mine": ["https://mine.example/mine"],
        "team": ["https://t.example/team"],
    }
    assert [(of.url, [one.url for one in by]) for of, by in settings.mirrors] == [
        ("https://near.example/c/forge", ["https://m1"])
    ]
    environ = settings.program_environ()
    assert environ["http_proxy"] == environ["HTTP_PROXY"] == "http://p.example:1"
    assert environ["HTTPS_PROXY"] == "http://usual.example"
    assert "https_proxy" not in environ
    assert "canary" not in repr(settings)
    told = read(
        tmp_path,
        HOST="x",
        CONDA_CHANNEL_ALIAS="https://told.example",
        ENVBUILDER_CHANNEL_MIRRORS="https://told.example/forge=https://m2",
    )
    assert told.channel_alias.url == "https://told.example"
    assert [(of.url, by[0].url) for of, by in told.mirrors] == [("https://told.example/forge", "https://m2")]


@pytest.mark.parametrize(
    ("text", "what"), [("channel_alias: x", "is not a channel"), ("{", "broken YAML"), (None, "cannot be read")]
)
def test_a_condarc_that_cannot_be_read_is_told_with_its_place(text: str | None, what: str, tmp_path: Path) -> None:
    file = tmp_path / ".condarc"
    if text is None:
        file.mkdir()
    else:
        file.write_text(text)
    with pytest.raises(InvalidFileError, match=what) as caught:
        read(tmp_path)
    assert str(caught.value.problems[0].where).startswith(str(file))
