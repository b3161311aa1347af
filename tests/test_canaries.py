"""No credential comes out: a made-up secret at every place that takes one, and a look at everything that is written."""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import docker as docker_sdk
import pytest

from envbuilder import build_context, stages
from envbuilder.choices import Choices
from envbuilder.engine import docker
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import log as docker_log
from envbuilder.errors import EngineMissingError
from envbuilder.machine import Machine
from envbuilder.reporter import Timings
from envbuilder.settings import Settings
from tests.canaries import RUN, Canary, Watch
from tests.conda_channel import package, running_channel, running_proxy
from tests.conftest import BASE, EXAMPLES, RecordingReporter, command_line
from tests.docker_engine import bridge
from tests.package_index import PackageIndex, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.conda_channel import Proxy

pytestmark = [pytest.mark.network, pytest.mark.process]

CHANNEL, BEARER, TOKEN = Canary("channel"), Canary("bearer"), Canary("token", f"tk-{RUN}{os.urandom(6).hex()}")
INDEX, NETRC, PROXY, WRONG = Canary("index"), Canary("netrc"), Canary("proxy"), Canary("wrong")
CANARIES = (CHANNEL, BEARER, TOKEN, INDEX, NETRC, PROXY, WRONG)
HEAVY = ("debian", "images", "layers", "probes", "snapshots", "trees", "wheels")
"""The parts of a cache that are taken over from the tests' own, to save downloads."""


@dataclass(frozen=True, slots=True)
class ClosedNetwork:
    """A machine whose packages are behind logins, and everything that it has written."""

    folder: Path
    cache: Path
    known: frozenset[Path]
    watch: Watch
    environ: dict[str, str]
    index: PackageIndex
    with_netrc: PackageIndex
    proxy: Proxy

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def model(self, name: str, *lines: str) -> Path:
        """Write a model: the example, which needs these lines too."""
        model = self.folder / name
        shutil.copytree(EXAMPLES / "scale", model)
        asked = [line for line in (EXAMPLES / "scale" / "requirements.txt").read_text().split() if line]
        pip = "\n".join(f"  - {line}" for line in (*asked, *lines))
        (model / "conda.yaml").write_text(f"dependencies:\n- python=3.11\n- pip:\n{pip}\n")
        return model

    def call(
        self, verb: str, *arguments: str | Path, code: int = 0, environ: dict[str, str] | None = None
    ) -> CompletedProcess[str]:
        """Run the command line in the workspace, and look at what it prints."""
        finished = command_line(
            self.cache,
            verb,
            *map(str, arguments),
            "--workspace",
            str(self.workspace),
            cwd=self.folder,
            **{**self.environ, **(environ or {})},
        )
        assert finished.returncode == code, finished.stderr
        self.watch.look(f"the output of {verb} {arguments}", finished.stdout + finished.stderr)
        return finished

    def look_everywhere(self) -> None:
        """Look at all that was written below the cache, and at what a test put into the folder `out`."""
        self.watch.look_below(self.cache, known=self.known)
        self.watch.look_below(self.folder / "out")
        assert self.watch.found == []


@contextmanager
def closed_network(tmp_path: Path, cache: Path, first: str, second: str) -> Iterator[ClosedNetwork]:
    """Run an index with a login in its URL at `first`, one with a login in .netrc at `second`, and a proxy."""
    own = tmp_path / "cache"
    own.mkdir()
    for name in HEAVY:
        if (cache / name).is_dir():
            shutil.copytree(cache / name, own / name, symlinks=True, copy_function=os.link)
    known = frozenset(path.relative_to(own) for path in own.rglob("*"))
    with (
        running_index(login=INDEX.login, address="0.0.0.0") as index,
        running_index(login=NETRC.login, address="0.0.0.0") as with_netrc,
        running_proxy(login=PROXY.login, address="0.0.0.0") as proxy,
    ):
        for server, host in ((index, first), (with_netrc, second), (proxy, first)):
            server.host = server.host.replace("0.0.0.0", host)
        index.add(wheel("in_house"))
        with_netrc.add(wheel("in_netrc", requires=("in-house",)))
        (tmp_path / "netrc").write_text(f'machine {second} login {NETRC.user} password "{NETRC.password}"\n')
        (tmp_path / "netrc").chmod(0o600)
        (tmp_path / "out").mkdir()
        (tmp_path / "workspace").mkdir()
        (tmp_path / "workspace" / "envbuilder.yaml").write_text(
            f"defaults:\n  extra_index_urls: ['http://{INDEX.quoted}@{index.host}/simple', '{with_netrc.url}']\n"
        )
        environ = {
            "NETRC": str(tmp_path / "netrc"),
            "HTTP_PROXY": f"http://{PROXY.quoted}@{proxy.host}",
            "http_proxy": f"http://{PROXY.quoted}@{proxy.host}",
        }
        yield ClosedNetwork(tmp_path, own, known, Watch(CANARIES), environ, index, with_netrc, proxy)


@pytest.fixture
def network(tmp_path: Path, cache: Path) -> Iterator[ClosedNetwork]:
    with closed_network(tmp_path, cache, "127.0.0.1", "127.0.0.2") as running:
        yield running


@pytest.mark.parametrize("canary", [CHANNEL, BEARER, TOKEN, INDEX, NETRC, PROXY, WRONG], ids=lambda one: one.user)
def test_a_canary_is_seen_in_every_spelling(canary: Canary) -> None:
    for form in canary.forms:
        watch = Watch((canary,))
        watch.look("here", b"before " + form + b" after")
        assert watch.found == [f"{canary.user} in here"]


def test_a_build_of_the_embedded_engine_writes_no_credential_anywhere(network: ClosedNetwork) -> None:
    model, out = network.model("model", "in-netrc"), network.folder / "out"
    oci = ("--engine", "oci", "--base", BASE)
    network.call("resolve", model, "--json")
    with network.watch.on_processes(b"compile"):
        network.call("lock", model, *oci, "-v", "-o", out / "model.conda-lock.yml")
    network.call("lock", model, *oci, "--json")
    for name in ("explicit", "requirements", "pylock"):
        network.call("lock", model, *oci, "--format", name)
    built = network.call("build", model, *oci, "-v", "-t", "canary:1", "-o", out / "layout")
    assert built.stdout.startswith("canary:1@sha256:")
    network.call("render", model, *oci, "-o", out / "context")
    network.call("doctor", "--json")
    locked = (out / "model.conda-lock.yml").read_text()
    assert network.index.file_url("in_house-1.0-py3-none-any.whl") in locked
    assert network.with_netrc.file_url("in_netrc-1.0-py3-none-any.whl") in locked
    assert any("in_netrc" in url for url in network.proxy.asked), "the proxy was asked"
    network.look_everywhere()
    assert network.watch.looked_at > 100


def test_what_fails_shows_no_credential(network: ClosedNetwork) -> None:
    oci = ("--engine", "oci", "--base", BASE)
    refused = network.call(
        "lock",
        network.model("refused", "in-house"),
        *oci,
        "-v",
        code=7,
        environ={"ENVBUILDER_EXTRA_INDEX_URLS": f"http://{WRONG.quoted}@{network.index.host}/simple"},
    )
    assert "the package index asks for a login" in refused.stderr
    impossible = network.call("lock", network.model("impossible", "in-house==9"), *oci, "-v", "--json", code=5)
    assert "in-house==9" in impossible.stderr
    through = f"http://{WRONG.quoted}@{network.proxy.host}"
    network.call(
        "lock",
        network.model("outside", "in-house"),
        *oci,
        code=7,
        environ={"http_proxy": through, "HTTP_PROXY": through},
    )
    gone = f"http://{WRONG.quoted}@127.0.0.1:9/simple"
    network.call("lock", network.model("gone", "in-house"), *oci, "-v", code=7, environ={"ENVBUILDER_INDEX_URL": gone})
    network.call(
        "resolve", network.folder / "gone", code=2, environ={"ENVBUILDER_INDEX_URL": gone.replace("http:", "ftp:")}
    )
    network.call("doctor", environ={"ENVBUILDER_INDEX_URL": gone})
    locked = network.folder / "out" / "model.conda-lock.yml"
    model = network.model("cut", "in-house")
    network.call("lock", model, *oci, "-o", locked)
    network.index.files.clear()
    network.call("build", model, *oci, "--lock", locked, code=7)
    network.look_everywhere()


def test_a_lock_of_conda_channels_writes_no_credential_anywhere(network: ClosedNetwork) -> None:
    model, auth = network.folder / "conda", network.folder / "auth.json"
    model.mkdir()
    (model / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    with (
        running_channel(login=CHANNEL.login) as basic,
        running_channel(token=TOKEN.password) as token,
        running_channel(bearer=BEARER.password, address="127.0.0.3") as bearer,
    ):
        basic.add("main")
        token.add("team", [package("part")])
        bearer.add("more", [package("piece")])
        auth.write_text(json.dumps({"127.0.0.3": {"BearerToken": BEARER.password}}))
        channels = [
            f"http://{CHANNEL.quoted}@{basic.host}/main",
            f"{token.url}/t/{TOKEN.password}/team",
            f"{bearer.url}/more",
        ]
        (model / "conda.yaml").write_text(
            json.dumps({"channels": channels, "dependencies": ["python=3.11", "six", "part", "piece"]})
        )
        arguments = (model, "--engine", "oci", "--base", BASE, "-v")
        environ = {"RATTLER_AUTH_FILE": str(auth)}
        with network.watch.on_processes(b"envbuilder.conda_solve"):
            network.call("lock", *arguments, "-o", network.folder / "out" / "conda-lock.yml", environ=environ)
        network.call("lock", *arguments, "--json", environ=environ)
        network.call("lock", *arguments, "--format", "explicit", environ=environ)
        network.call("resolve", model, "--json", environ=environ)
        wrong = (model / "conda.yaml").read_text().replace(CHANNEL.quoted, WRONG.quoted)
        (model / "conda.yaml").write_text(wrong)
        other = network.folder / "out" / "cache"
        network.call("lock", *arguments, code=7, environ={**environ, "ENVBUILDER_CACHE_DIR": str(other)})
        assert any("/more/" in url for url in network.proxy.asked), "the proxy was asked"
    network.look_everywhere()


def outside() -> str:
    """Return another address of this machine that containers reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.fixture
def container_network(tmp_path: Path, cache: Path, docker_host: str) -> Iterator[ClosedNetwork]:
    with closed_network(tmp_path, cache, bridge(docker_host), outside()) as running:
        yield replace(running, environ={**running.environ, "DOCKER_HOST": docker_host})


def look_at_image(network: ClosedNetwork, name: str) -> None:
    client = docker_sdk.DockerClient(base_url=network.environ["DOCKER_HOST"])
    try:
        image = client.images.get(name)
        network.watch.look("the image's history", json.dumps(image.history()))
        network.watch.look("the image's configuration", json.dumps(image.attrs))
        # Layers are plain tars in a saved image.
        network.watch.look("the image's layers", b"".join(image.save()))
    finally:
        client.close()


@pytest.mark.engine
def test_a_build_with_buildkit_finds_every_login_and_keeps_none(container_network: ClosedNetwork) -> None:
    network = container_network
    model = network.model("model", "in-netrc")
    with network.watch.on_processes(b"--secret"):
        network.call("build", model, "--engine", "docker", "--base", BASE, "-v", "-t", "canary-buildkit:1")
    assert network.with_netrc.asked.count("/files/in_netrc-1.0-py3-none-any.whl") >= 1
    look_at_image(network, "canary-buildkit:1")
    network.look_everywhere()


@pytest.mark.engine
def test_a_build_with_the_classic_builder_keeps_no_login(
    container_network: ClosedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = container_network
    for name, value in network.environ.items():
        monkeypatch.setenv(name, value)
    settings = replace(Settings.from_environ(os.environ), cache_dir=network.cache)
    machine = Machine(settings=settings, reporter=RecordingReporter())
    plan = stages.make_plan(
        network.model("model"),
        docker,
        Choices(engine="docker", base=BASE),
        machine=machine,
        timings=Timings(machine.reporter),
    )
    context = build_context.make(plan, variant="classic", machine=machine)
    network.watch.look("the context", b"".join(context.tar_stream()))
    with docker_client.opened(machine, timeout=None) as client, docker_log.kept(machine, "classic") as log:
        identity = docker_classic.build(client, context, log=log, machine=machine)
    look_at_image(network, identity)
    closed = replace(
        machine, settings=replace(settings, index_url=f"http://{INDEX.quoted}@{network.index.host}/simple")
    )
    with (
        pytest.raises(EngineMissingError) as refused,
        docker_client.opened(closed) as client,
        docker_log.kept(closed, "refused") as log,
    ):
        docker_classic.build(client, context, log=log, machine=closed)
    network.watch.look("the refusal", str(refused.value))
    network.look_everywhere()
