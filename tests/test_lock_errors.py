"""Every way in which a lock can fail, through the command line and real servers: one message, its code, its retries."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.conda_channel import LOGIN, ChannelServer, Proxy, running_channel, running_proxy
from tests.conftest import BASE, EXAMPLES, command_line
from tests.package_index import PackageIndex, certificate_for_loopback, running_index, wheel

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.process

PAGE, REPODATA = "/simple/top/", "/main/noarch/repodata.json"
RETRIED = 4
"""Requests: the first, and three more."""

CHANNEL_LINE, PIP = "conda.yaml: channels[0]", "conda.yaml: dependencies[1].pip"
UNSATISFIED = "no set of packages satisfies the requirements"
LOGIN_FIX = "check the user and password"
CA_FIX = "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file"
PROXY_FIX = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and the user and password in them"


@dataclass
class Servers:
    """An index, a channel and a proxy that a test breaks, and the model that is locked with them."""

    index: PackageIndex
    channel: ChannelServer
    proxy: Proxy
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    """Variables that win over those of the tests."""

    def ask(self, *pip: str, conda: tuple[str, ...] = (), python: str = "3.11") -> None:
        lines = [f"python={python}", *conda]
        pip_list = f", {{pip: {json.dumps(list(pip))}}}" if pip else ""
        text = f"channels: [{self.channel.url}/main]\ndependencies: [{', '.join(map(json.dumps, lines))}{pip_list}]\n"
        (self.folder / "model" / "conda.yaml").write_text(text)

    def through_proxy(self) -> None:
        self.environ |= {f"{scheme}_proxy": self.proxy.url for scheme in ("http", "https")}

    def lock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ("lock", str(self.folder / "model"), "--no-base", "--platform", "linux/amd64")
        environ = {"ENVBUILDER_INDEX_URL": self.index.url, "NO_PROXY": "", "no_proxy": "", **self.environ}
        return command_line(self.folder / "cache", *where, *arguments, cwd=None, **environ)


def served(folder: Path, stack: ExitStack, *, secure: bool = False) -> Servers:
    _, certificate, key = certificate_for_loopback(folder)
    pair = (certificate, key) if secure else None
    servers = Servers(
        index=stack.enter_context(running_index(certificate=pair)),
        channel=stack.enter_context(running_channel(certificate=pair)),
        proxy=stack.enter_context(running_proxy()),
        folder=folder,
    )
    servers.index.add(wheel("top", requires=("part>=2",)), wheel("part", "1.0"), wheel("part", "2.0"))
    servers.index.add(wheel("lone"), wheel("foreign", tag="cp311-cp311-win_amd64"), wheel("recent", python=">=3.13"))
    servers.channel.add("main")
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    return servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield served(tmp_path, stack)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield served(tmp_path, stack, secure=True)


def told(finished: subprocess.CompletedProcess[str], code: int, first: str, place: str | None, fix: str) -> None:
    """Hold a failed command to its code, the first line of its error, a place that it names, and its fix."""
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    errors = re.findall(r"^error: (.*)$", finished.stderr, re.MULTILINE)
    assert errors[0] == first
    if place is not None:
        places = re.findall(r"^  at (.*)$", finished.stderr, re.MULTILINE)
        assert [one for one in places if one.endswith(place)], places
    hints = re.findall(r"^hint: (.*)$", finished.stderr, re.MULTILINE)
    assert hints
    assert hints[0].startswith(fix)
    assert LOGIN[1] not in finished.stderr


@pytest.mark.parametrize(
    ("pip", "conda", "python", "code", "first", "place", "fix"),
    [
        (
            ("top", "part==1.0"),
            (),
            "3.11",
            5,
            UNSATISFIED,
            f"{PIP}[1]",
            "loosen or remove one of the lines",
        ),
        (
            ("lone", "tpo"),
            (),
            "3.11",
            5,
            f"{UNSATISFIED}: no index has `tpo`",
            f"{PIP}[1]",
            "check its name, or name an index that has it",
        ),
        (
            ("lone==9",),
            (),
            "3.11",
            5,
            f"{UNSATISFIED}: there is no such version",
            f"{PIP}[0]",
            "ask for a version that exists",
        ),
        (
            ("lone", "foreign"),
            (),
            "3.11",
            5,
            f"{UNSATISFIED}: of `foreign` there is no fitting wheel for Python 3.11 on linux-64",
            f"{PIP}[1]",
            "it exists only as source for this target",
        ),
        (
            ("recent",),
            (),
            "3.11",
            5,
            f"{UNSATISFIED} for Python 3.11 on linux-64",
            "conda.yaml: dependencies[0]",
            "ask for a version that supports this Python",
        ),
        (
            (),
            ("left", "right"),
            "3.11",
            5,
            "no set of conda packages satisfies what is asked for on linux-64",
            "conda.yaml: dependencies[1]",
            "change one of these lines",
        ),
        (
            (),
            ("no-such-package",),
            "3.11",
            5,
            "no set of conda packages satisfies what is asked for on linux-64",
            "conda.yaml: dependencies[1]",
            "check the name, the version and the channels",
        ),
        (
            (),
            ("hello",),
            "3.7",
            5,
            "no set of conda packages satisfies what is asked for on linux-64",
            "conda.yaml: dependencies[0]",
            "check the name, the version and the channels",
        ),
        (
            ("six==1.15.0", "numpy>=2"),
            ("six=1.16", "numpy=1.26"),
            "3.11",
            5,
            "`six==1.15.0` clashes with the conda package six 1.16.0, which `six=1.16` asks for",
            "conda.yaml: dependencies[3].pip[1]",
            "ask for six in one place",
        ),
    ],
    ids=[
        "pip conflict",
        "no such package",
        "no such version",
        "no wheel",
        "package of another Python",
        "conda conflict",
        "no such conda package",
        "no such Python",
        "conda and pip clash",
    ],
)
def test_what_cannot_be_satisfied_names_the_line(
    pip: tuple[str, ...],
    conda: tuple[str, ...],
    python: str,
    code: int,
    first: str,
    place: str,
    fix: str,
    servers: Servers,
) -> None:
    servers.ask(*pip, conda=conda, python=python)
    told(servers.lock(), code, first, place, fix)
    assert servers.index.asked.count(PAGE) <= 1


def test_a_wheel_that_needs_another_conda_package_names_both_lines(servers: Servers) -> None:
    servers.index.add(wheel("vision", requires=("six>=2",)), wheel("six", "1.16.0"), wheel("six", "2.0"))
    servers.ask("vision", conda=("six=1.16",))
    finished = servers.lock()
    told(finished, 5, UNSATISFIED, "dependencies[2].pip[0]", "loosen or remove")
    assert re.search(r"error: `six=1.16` takes part in it\n  at .*conda.yaml: dependencies\[1\]\n", finished.stderr)


def index_failures(*statuses: int) -> Callable[[Servers], None]:
    def change(servers: Servers) -> None:
        servers.index.failures = list(statuses)

    return change


def refused_login(servers: Servers) -> None:
    servers.index.login = ("reader", "another")
    servers.environ["ENVBUILDER_INDEX_URL"] = servers.index.url.replace("://", f"://{':'.join(LOGIN)}@")


def cut_page(servers: Servers) -> None:
    servers.index.cut_off = {""}


@pytest.mark.parametrize(
    ("change", "first", "fix", "requests"),
    [
        (
            index_failures(401),
            "the package index asks for a login, or did not take the one it got (401)",
            LOGIN_FIX,
            1,
        ),
        (refused_login, "the package index asks for a login, or did not take the one it got (401)", LOGIN_FIX, 1),
        (index_failures(403), "the package index refused `top` (403)", LOGIN_FIX, 1),
        (index_failures(410), "the package index answered 410 Gone", "check its URL", 1),
        (
            index_failures(*[503] * 9),
            "the package index cannot answer now (503 Service Unavailable)",
            "try again later",
            RETRIED,
        ),
        (cut_page, "the answer of the package index was cut off", "try again; if it stays", RETRIED),
    ],
    ids=["401", "wrong password", "403", "410", "503", "truncated"],
)
def test_an_index_that_fails_is_told_and_asked_again_only_where_that_can_help(
    change: Callable[[Servers], None], first: str, fix: str, requests: int, servers: Servers
) -> None:
    servers.ask("top")
    change(servers)
    told(servers.lock(), 7, first, servers.index.url, fix)
    assert servers.index.asked.count(PAGE) == requests


def channel_status(status: int) -> Callable[[Servers], None]:
    def change(servers: Servers) -> None:
        servers.channel.statuses = {"noarch/repodata.json": status}

    return change


def no_channel(servers: Servers) -> None:
    servers.channel.channels.clear()


def cut_repodata(servers: Servers) -> None:
    servers.channel.cut_off = {"noarch/repodata.json"}


@pytest.mark.parametrize(
    ("change", "first", "fix", "requests"),
    [
        (channel_status(401), "the channel `{url}` asks for a login (401)", LOGIN_FIX, 1),
        (channel_status(403), "the channel `{url}` refused (403)", LOGIN_FIX, 1),
        (channel_status(503), "the channel `{url}` cannot answer now (503 Service Unavailable)", "try again", RETRIED),
        (
            cut_repodata,
            "the package list of the channel `{url}` is broken or was cut off",
            "try again; if it stays",
            RETRIED,
        ),
        (no_channel, "there is no channel at {url}", "check its name", 1),
    ],
    ids=["401", "403", "503", "truncated", "no such channel"],
)
def test_a_channel_that_fails_is_told_and_asked_again_only_where_that_can_help(
    change: Callable[[Servers], None], first: str, fix: str, requests: int, servers: Servers
) -> None:
    servers.ask(conda=("hello",))
    change(servers)
    told(servers.lock(), 7, first.format(url=f"{servers.channel.url}/main"), CHANNEL_LINE, fix)
    assert servers.channel.asked.count(REPODATA) == requests


@pytest.mark.parametrize("what", ["index", "channel"])
def test_a_certificate_that_nobody_vouches_for_is_told(what: str, secure: Servers) -> None:
    if what == "index":
        secure.ask("top")
        told(secure.lock(), 7, "the package index's certificate is not trusted", secure.index.url, CA_FIX)
    else:
        secure.ask(conda=("hello",))
        url = f"{secure.channel.url}/main"
        told(secure.lock(), 7, f"the channel `{url}` has a certificate that is not trusted", CHANNEL_LINE, CA_FIX)
    assert secure.index.asked == secure.channel.asked == []
    secure.environ["ENVBUILDER_CA_FILE"] = str(secure.folder / "ca.pem")
    assert secure.lock().returncode == 0


@pytest.mark.parametrize("what", ["index", "channel"])
@pytest.mark.parametrize("trouble", ["login", "gone"])
def test_a_proxy_that_does_not_let_through_is_told(what: str, trouble: str, servers: Servers) -> None:
    if trouble == "login":
        servers.proxy.login = ("reader", "another")
    else:
        servers.proxy.host = "127.0.0.1:1"
    servers.through_proxy()
    first = f"the proxy {servers.proxy.host} did not let through to"
    if what == "index":
        servers.ask("top")
        told(servers.lock(), 7, f"{first} the package index", servers.index.url, PROXY_FIX)
    else:
        servers.ask(conda=("hello",))
        told(servers.lock(), 7, f"{first} the channel `{servers.channel.url}/main`", CHANNEL_LINE, PROXY_FIX)
    assert servers.index.asked == servers.channel.asked == []


def test_what_passes_is_tried_again_and_forgotten(servers: Servers) -> None:
    servers.ask("top", conda=("hello",))
    servers.index.failures, servers.channel.failures = [500], [503, 500]
    finished = servers.lock("--json")
    assert finished.returncode == 0, finished.stderr
    (lock,) = json.loads(finished.stdout)["locks"]
    assert {one["name"] for one in lock["packages"]} == {"top", "part"}
    assert json.loads(finished.stdout)["warnings"] == []
    assert servers.index.asked.count(PAGE) == 2


def test_a_yanked_pin_is_a_warning_that_names_the_line(servers: Servers) -> None:
    servers.index.yanked = {"part-2.0-py3-none-any.whl": "it eats data"}
    servers.ask("lone", "part==2.0")
    finished = servers.lock("--json")
    assert finished.returncode == 0, finished.stderr
    expected = (
        f"`part==2.0` was yanked from its index because: it eats data; `part==2.0` ({servers.folder}/model/{PIP}[1]) "
        "asks for it: change it there"
    )
    assert json.loads(finished.stdout)["warnings"] == [expected]
    assert [line for line in finished.stderr.splitlines() if "yanked" in line] == [f"warning: {expected}"]


def test_what_is_yanked_later_stays_locked_and_is_warned_of(servers: Servers) -> None:
    lock = str(servers.folder / "x.yml")
    servers.ask("part")
    assert servers.lock("-o", lock).returncode == 0
    first = (servers.folder / "x.yml").read_bytes()
    servers.index.yanked = {"part-2.0-py3-none-any.whl": ""}
    again = servers.lock("-o", lock)
    assert again.returncode == 0, again.stderr
    assert (servers.folder / "x.yml").read_bytes() == first
    assert "warning: `part==2.0` was yanked from its index; the lock, or another package, pins it" in again.stderr
    moved = servers.lock("-o", lock, "--update", "part")
    assert moved.returncode == 0, moved.stderr
    assert "version: '1.0'" in (servers.folder / "x.yml").read_text()


@pytest.mark.network
@pytest.mark.parametrize("trouble", ["changed", "cut off"])
def test_a_download_is_held_to_the_lock(trouble: str, servers: Servers, cache: Path) -> None:
    lock, model = str(servers.folder / "x.yml"), str(servers.folder / "model")
    servers.index.add(wheel("held"))
    servers.ask("held")
    where = ("--engine", "oci", "--base", BASE)
    environ = {"ENVBUILDER_EXTRA_INDEX_URLS": servers.index.url}
    made = command_line(cache, "lock", model, *where, "-o", lock, cwd=None, **environ)
    assert made.returncode == 0, made.stderr
    file = wheel("held", files={"held.py": f"host = {servers.index.host!r}".encode()})
    text = (servers.folder / "x.yml").read_text()
    assert re.search(rf"/{file.name}\n", text)
    servers.index.asked.clear()
    if trouble == "changed":
        servers.index.add(file)
    else:
        servers.index.cut_off = {file.name}
    finished = command_line(cache, "build", model, *where, "--lock", lock, "-t", "never:1", cwd=None, **environ)
    url = servers.index.file_url(file.name)
    if trouble == "changed":
        told(finished, 11, f"the download has {file.digest}, expected {wheel('held').digest}", url, "lock again if")
    else:
        told(finished, 7, "the download broke off (ChunkedEncodingError)", url, "try again")
    # The first build also asks where the server's own packages are.
    assert [path for path in servers.index.asked if path.startswith("/files/")] == [f"/files/{file.name}"]
