"""Logins of package indexes: found by uv while it locks, and again for what is downloaded and built later."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from envbuilder import network, uv
from envbuilder.engine.docker import index as docker_index
from envbuilder.errors import EngineMissingError, UnreachableError
from envbuilder.index_logins import IndexLogins
from envbuilder.installer import wheels
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests.conda_channel import running_proxy
from tests.package_index import certificate_for_loopback, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.locked import LockedPackage
    from tests.package_index import PackageIndex

LOGIN: Final = ("reader", "p@ss:/ w?rd")
QUOTED: Final = "p%40ss%3A%2F%20w%3Frd"
TARGET: Final = Target(subdir="linux-64", glibc="2.36")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    programs = tmp_path / "bin"
    programs.mkdir()
    return Settings(
        cache_dir=tmp_path / "cache",
        environ=(("PATH", f"{programs}:{Path(sys.executable).parent}"), ("HOME", str(tmp_path))),
    )


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index(login=LOGIN) as running:
        running.add(wheel("top", requires=("part",)), wheel("part"))
        yield running


def write_netrc(folder: Path, text: str) -> None:
    (folder / ".netrc").write_text(text)
    (folder / ".netrc").chmod(0o600)


def write_keyring(folder: Path, host: str) -> Path:
    """Write a program that speaks keyring's command line, knows one login, and notes what it was asked."""
    program, asked = folder / "bin" / "keyring", folder / "asked"
    program.write_text(
        f"#!{sys.executable} -IS\nimport sys\n"
        f"open({str(asked)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"known = sys.argv[1:] == ['get', {host!r}, {LOGIN[0]!r}]\n"
        f"print({LOGIN[1]!r}) if known else sys.exit(1)\n"
    )
    program.chmod(0o755)
    return asked


def lock_and_fetch(settings: Settings) -> tuple[LockedPackage, ...]:
    """Lock with uv, then download what was locked, as a build does."""
    machine = Machine(settings=settings, reporter=Reporter())
    locked = uv.compile_lines(
        ("top",), python_version="3.11.2", target=TARGET, settings=settings, reporter=machine.reporter
    )
    wheels.fetch(locked, machine)
    assert all(wheels.wheel_path(one, machine.wheels).is_file() for one in locked)
    assert [one.name for one in locked] == ["part", "top"]
    assert not [one for one in locked if "@" in one.url or LOGIN[1] in one.url]
    return locked


@pytest.mark.process
@pytest.mark.parametrize("kind", ["index_url", "extra_index_urls", "find_links"])
def test_a_login_in_a_url_opens_the_index_and_its_files(kind: str, index: PackageIndex, settings: Settings) -> None:
    address = f"http://{LOGIN[0]}:{QUOTED}@{index.host}/simple"
    if kind == "index_url":
        lock_and_fetch(replace(settings, index_url=address))
    elif kind == "extra_index_urls":
        with running_index() as main:
            lock_and_fetch(replace(settings, index_url=main.url, extra_index_urls=(address,)))
    else:
        with running_index() as main:
            links = tuple(address.replace("/simple", f"/links/{name}") for name in ("top", "part"))
            lock_and_fetch(replace(settings, index_url=main.url, find_links=links))


@pytest.mark.process
def test_netrc_opens_the_index_and_its_files(index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    write_netrc(tmp_path, f'machine 127.0.0.1 login {LOGIN[0]} password "{LOGIN[1]}"\n')
    index.login = (LOGIN[0], LOGIN[1])
    lock_and_fetch(replace(settings, index_url=index.url))


@pytest.mark.process
@pytest.mark.parametrize("by", ["URL", "host"])
def test_the_keyring_opens_the_index_and_its_files(
    by: str, index: PackageIndex, settings: Settings, tmp_path: Path
) -> None:
    service = index.url if by == "URL" else index.host
    asked = write_keyring(tmp_path, service)
    address = f"http://{LOGIN[0]}@{index.host}/simple"
    with_keyring = replace(settings, index_url=address, keyring=True)
    lock_and_fetch(with_keyring)
    lines = asked.read_text().splitlines()
    assert f"get {service} {LOGIN[0]}" in lines
    # Once by uv, once for all downloads.
    assert len([line for line in lines if service in line.split()]) == 2
    (secret,) = {docker_index.secrets(with_keyring)[name].count(QUOTED.encode()) for name in ("pip.conf", "uv.toml")}
    assert secret == 1


@pytest.mark.process
def test_the_real_keyring_program_is_asked(index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    """With a backend of our own: those of desktops need somebody to unlock them."""
    (tmp_path / "known.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Known(KeyringBackend):\n"
        "    priority = 1\n"
        "    set_password = delete_password = None\n"
        "    def get_password(self, service, username):\n"
        f"        return {LOGIN[1]!r} if (service, username) == {(index.url, LOGIN[0])!r} else None\n"
    )
    config = tmp_path / "config" / "python_keyring" / "keyringrc.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(f"[backend]\ndefault-keyring=known.Known\nkeyring-path={tmp_path}\n")
    lock_and_fetch(
        replace(
            settings,
            index_url=f"http://{LOGIN[0]}@{index.host}/simple",
            keyring=True,
            keyring_environ=(("XDG_CONFIG_HOME", str(tmp_path / "config")),),
        )
    )


@pytest.mark.process
def test_a_keyring_that_is_off_is_not_asked(index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    asked = write_keyring(tmp_path, index.url)
    address = f"http://{LOGIN[0]}@{index.host}/simple"
    with pytest.raises(UnreachableError):
        lock_and_fetch(replace(settings, index_url=address))
    assert IndexLogins(replace(settings, index_url=address)).find(index.file_url("x")) == (LOGIN[0], "")
    assert not asked.exists()


@pytest.mark.process
def test_a_keyring_without_its_program_is_told(settings: Settings, tmp_path: Path) -> None:
    only = replace(settings, environ=(("PATH", str(tmp_path / "bin")),), keyring=True)
    with pytest.raises(EngineMissingError) as raised:
        IndexLogins(only).find("https://reader@index.example/simple")
    assert str(raised.value) == (
        "the keyring is to be asked for a password, and there is no `keyring` program on the PATH\n"
        "  at https://index.example/simple\n"
        "  fix: `pip install keyring`, or write `keyring: disabled` (ENVBUILDER_KEYRING=disabled)"
    )


@pytest.mark.process
def test_an_index_over_tls_behind_a_proxy_is_reached_with_every_login(settings: Settings, tmp_path: Path) -> None:
    ca, *served = certificate_for_loopback(tmp_path)
    with (
        running_proxy(login=("through", "pr0xy-pass")) as proxy,
        running_index(login=LOGIN, certificate=(served[0], served[1])) as index,
    ):
        index.add(wheel("top", requires=("part",)), wheel("part"))
        closed = replace(settings, index_url=f"https://{LOGIN[0]}:{QUOTED}@{index.host}/simple", ca_file=ca)
        lock_and_fetch(replace(closed, environ=(*settings.environ, ("HTTPS_PROXY", proxy.url_with_login))))
        assert proxy.asked.count(index.host) >= 2
        asked = len(proxy.asked)
        direct = (("HTTPS_PROXY", proxy.url_with_login), ("NO_PROXY", "127.0.0.0/8"))
        other = replace(closed, environ=(*settings.environ, *direct), cache_dir=tmp_path / "other")
        lock_and_fetch(other)
        assert len(proxy.asked) == asked


@pytest.mark.process
def test_a_token_in_the_path_stays_out_of_the_lock_and_opens_the_files(settings: Settings) -> None:
    with running_index(token="tk-canary") as index:
        index.add(wheel("top", requires=("part",)), wheel("part"))
        locked = lock_and_fetch(replace(settings, index_url=f"http://{index.host}/t/tk-canary/simple"))
        assert [one.url for one in locked] == [index.file_url(one.filename) for one in locked]
        (settings.cache_dir / "wheels").rename(settings.cache_dir / "before")
        with pytest.raises(UnreachableError) as raised:
            lock_and_fetch(replace(settings, index_url=f"http://{index.host}/t/tk-wrong/simple"))
    assert "tk-" not in str(raised.value)


def test_the_login_of_the_nearest_index_on_the_host_is_taken(settings: Settings, tmp_path: Path) -> None:
    write_netrc(tmp_path, "machine index.example login named password n\nmachine files.example login f password f\n")
    logins = IndexLogins(
        replace(
            settings,
            index_url="https://a:a%3A@index.example/team-a/simple",
            extra_index_urls=("https://b:b@index.example:443/team-b/simple", "https://c:c@index.example:8443/simple"),
            find_links=("https://token@other.example/links", "https://index.example:8443/files/links"),
        )
    )
    for url, login in {
        "https://index.example/team-a/files/x.whl": ("a", "a:"),
        "https://index.example/team-b/files/x.whl": ("b", "b"),
        "https://index.example:8443/files/x.whl": ("c", "c"),
        "http://index.example/files/x.whl": ("named", "n"),
        "https://own:login@index.example/x.whl": ("own", "login"),
        "https://files.example/x.whl": ("f", "f"),
        "https://other.example/x.whl": ("token", ""),
        "https://stranger.example/x.whl": None,
    }.items():
        assert logins.find(url) == login, url
    assert logins.complete("https://files.example/x") == "https://f:f@files.example/x"
    assert logins.complete("https://a:b%3A@index.example/x") == "https://a:b%3A@index.example/x"
    assert logins.complete("https://stranger.example/x") == "https://stranger.example/x"


@pytest.mark.parametrize("text", ["machine", "machine x login", "\xff"], ids=["cut off", "no password", "no text"])
def test_a_netrc_that_cannot_be_read_lets_nobody_in(text: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_bytes(text.encode("latin-1"))
    assert IndexLogins(settings).find("https://x/simple") is None


def test_a_redirect_to_another_host_takes_no_login_along(index: PackageIndex, settings: Settings) -> None:
    with running_index() as elsewhere:
        elsewhere.files["x.whl"] = b"x"
        index.redirects["/files/x.whl"] = f"http://localhost:{elsewhere.host.partition(':')[2]}/files/x.whl"
        admitted = IndexLogins(replace(settings, index_url=f"http://{LOGIN[0]}:{QUOTED}@{index.host}/simple"))
        with network.session(settings, auth=admitted) as opened:
            url = index.file_url("x.whl")
            with network.get(opened, url, settings=settings) as response:
                assert response.content == b"x"
                assert "Authorization" not in response.request.headers
