from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import network_diagnosis
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.conda_channel import running_channel, running_proxy
from tests.package_index import LOGIN, certificate_for_loopback, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.finding import Finding
    from tests.package_index import PackageIndex

pytestmark = pytest.mark.process

NOBODY = "127.0.0.1:9"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index(login=LOGIN) as running:
        running.add(wheel("pip"))
        yield running


@pytest.fixture
def settings(tmp_path: Path, index: PackageIndex) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache",
        index_url=index.url_with_login,
        environ=(("PATH", str(Path(sys.executable).parent)), ("HOME", str(tmp_path))),
        conda_environ=(("ENVBUILDER_CHANNEL_ALIAS", tmp_path.as_uri()),),
    )


def found(settings: Settings) -> dict[str, Finding]:
    findings = network_diagnosis.diagnose(Machine(settings=settings, reporter=Reporter()))
    assert all(bool(one.fix) is not one.ok for one in findings)
    assert LOGIN[1] not in repr(findings)
    return {one.subject: one for one in findings}


def test_what_answers_is_named_without_its_login(settings: Settings, index: PackageIndex, tmp_path: Path) -> None:
    findings = found(settings)
    assert findings["package index"].detail == f"http://***@{index.host}/simple answers (it has pip 1.0)"
    assert findings["conda channels"].detail == tmp_path.as_uri()
    assert findings["keyring"].detail == "not asked (`keyring: disabled`)"
    assert findings["certificates"].detail == "the usual ones"
    assert all(one.ok for one in findings.values())


def test_every_extra_index_and_page_is_asked_on_its_own(settings: Settings, index: PackageIndex) -> None:
    wrong = index.url_with_login.replace(LOGIN[1], "wrong")
    pages = (f"http://{index.host}/links/pip", f"http://{index.host}/links/none")
    for url, ok, words in (
        (index.url_with_login, True, "answers"),
        (wrong, False, "the server answered 401 Unauthorized"),
        (f"http://{NOBODY}/simple", False, "no answer"),
    ):
        finding = found(replace(settings, extra_index_urls=(url,)))["extra index"]
        assert finding.ok is ok
        assert words in finding.detail
    for url, ok in zip(pages, (True, False), strict=True):
        finding = found(replace(settings, find_links=(url,)))["find-links"]
        assert finding.ok is ok
        assert url in finding.detail


def test_channels_mirrors_and_condas_own_settings_are_looked_at(settings: Settings, tmp_path: Path) -> None:
    with running_channel(login=LOGIN) as channel:
        (tmp_path / ".condarc").write_text(
            f"custom_channels: {{team: {channel.url_with_login}, gone: 'http://{NOBODY}', away: file:///absent}}\n"
        )
        mirrors = ("ENVBUILDER_CHANNEL_MIRRORS", f"https://a.example={channel.url} https://a.example=http://{NOBODY}/x")
        findings = network_diagnosis.diagnose(
            Machine(
                settings=replace(settings, conda_environ=(("ENVBUILDER_CHANNEL_ALIAS", channel.url), mirrors)),
                reporter=Reporter(),
            )
        )
    about = [(one.subject, one.ok) for one in findings if one.subject.startswith(("channel", "conda", "mirror"))]
    assert about == [
        ("conda channels", True),
        ("channel team", True),
        ("channel gone", False),
        ("channel away", False),
        ("mirror of https://a.example", True),
        ("mirror of https://a.example", False),
    ]
    assert LOGIN[1] not in repr(findings)
    (tmp_path / ".condarc").write_text("channel_alias: x")
    finding = found(settings)["conda's settings"]
    assert finding.detail == "`x` is not a channel"


def test_proxies_are_knocked_at(settings: Settings) -> None:
    with running_proxy(login=LOGIN) as proxy:
        dead = (("https_proxy", NOBODY), ("HTTP_PROXY", proxy.url_with_login), ("ALL_PROXY", "http://h:port"))
        findings = found(replace(settings, environ=(*settings.environ, *dead, ("NO_PROXY", "127.0.0.1"))))
        assert findings["proxy HTTP_PROXY"].detail == f"{proxy.host} answers"
    assert findings["proxy HTTPS_PROXY"].detail == f"{NOBODY}: Connection refused"
    assert not findings["proxy ALL_PROXY"].ok


def test_a_keyring_needs_its_program_and_a_user(settings: Settings, index: PackageIndex, tmp_path: Path) -> None:
    with_keyring = replace(settings, keyring=True, find_links=(f"http://{index.host}/links/pip",))
    assert not found(replace(with_keyring, environ=(("PATH", ""), ("HOME", str(tmp_path)))))["keyring"].ok
    program = tmp_path / "keyring"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    finding = found(replace(with_keyring, environ=(("PATH", str(tmp_path)),)))["keyring"]
    assert finding.detail == f"{program}; not for http://{index.host}/links/pip, whose URL names no user"


def test_certificates_are_read(settings: Settings, tmp_path: Path) -> None:
    ca, *_ = certificate_for_loopback(tmp_path)
    assert found(replace(settings, ca_file=ca))["certificates"].detail == f"{ca} (1 authorities)"
    (tmp_path / "none.pem").write_text("none")
    assert not found(replace(settings, ca_file=tmp_path / "none.pem"))["certificates"].ok


def test_offline_nobody_is_asked(settings: Settings, index: PackageIndex) -> None:
    found(settings)
    index.asked.clear()
    away = (("ENVBUILDER_CHANNEL_ALIAS", "https://conda.example"),)
    findings = found(replace(settings, offline=True, extra_index_urls=(f"http://{NOBODY}/simple",), conda_environ=away))
    assert findings["extra index"].detail == f"http://{NOBODY}/simple (not asked: `--offline`)"
    assert findings["conda channels"].detail == "https://conda.example (not asked: `--offline`)"
    assert index.asked == []
