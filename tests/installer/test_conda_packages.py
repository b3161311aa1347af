"""Conda packages on this machine: fetched from a real channel, checked, and linked alone; hostile ones are refused."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import conda, digest
from envbuilder.conda_client import Access
from envbuilder.conda_package import CondaPackage
from envbuilder.conda_settings import CondaSettings
from envbuilder.errors import BuildFailedError, LockMismatchError, Source, UnreachableError
from envbuilder.installer import conda_packages
from envbuilder.machine import Machine
from envbuilder.pip_line import Line
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.conda_channel import LOGIN, TOKEN, CondaFile, package, python_package, running_channel, write_channel
from tests.conda_python import linking_sample, real_python
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conda_channel import ChannelServer

pytestmark = pytest.mark.process

PREFIX = "/opt/env"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    settings = Settings(cache_dir=tmp_path / "cache", environ=(("PATH", os.environ["PATH"]), ("HOME", str(tmp_path))))
    return Machine(settings=settings, reporter=Reporter())


@pytest.fixture
def channel() -> Iterator[ChannelServer]:
    with running_channel() as server:
        server.add("main", linking_sample())
        yield server


def locked(file: CondaFile, base: str, **other: Any) -> CondaPackage:  # noqa: ANN401 - any field
    record = {**file.record, "url": f"{base}/{file.subdir}/{file.name}"}
    return replace(CondaPackage.from_record(record), **other)


def fetch(machine: Machine, *packages: CondaPackage, access: Access | None = None) -> None:
    conda_packages.fetch(packages, access=access or Access(retries=0), machine=machine)


def linked(machine: Machine, *files: CondaFile, channel: str, work: Path, **other: Any) -> dict[str, Path]:  # noqa: ANN401
    """Link the packages, as their channel gives them or as `other` says, beside a real Python."""
    packages = [locked(file, channel, **other) for file in files]
    work.mkdir()
    return conda_packages.link(
        packages,
        locked(real_python(), channel),
        work,
        prefix=PREFIX,
        fetch=lambda wanted: fetch(machine, *wanted),
        machine=machine,
    )


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_packages_are_fetched_once_and_known_by_their_content(channel: ChannelServer, machine: Machine) -> None:
    packages = [locked(file, f"{channel.url}/main") for file in linking_sample()]
    fetch(machine, *packages)
    asked = list(channel.asked)
    assert len(asked) == len(packages)
    for one in packages:
        assert digest.of_file(conda_packages.archive_path(one, machine)) == one.sha256
    fetch(machine, *packages)
    assert channel.asked == asked
    facts = {one.name: conda_packages.facts(one, machine) for one in packages}
    assert [name for name, known in facts.items() if known.scripts] == ["hooked"]
    assert [name for name, known in facts.items() if known.activates] == ["paths"]


@pytest.mark.parametrize("kind", ["login", "token", "mirror"])
def test_credentials_and_mirrors_let_one_in_and_are_written_nowhere(kind: str, machine: Machine) -> None:
    file = python_package("greet")
    with running_channel(login=LOGIN if kind == "login" else None, token=TOKEN if kind == "token" else None) as server:
        server.add("main", (file,))
        plain = f"{server.url}/main"
        written = {
            "login": f"{server.url_with_login}/main",
            "token": f"{server.url}/t/{TOKEN}/main",
            "mirror": "https://conda.example/main",
        }[kind]
        environ = {"ENVBUILDER_CHANNEL_MIRRORS": f"https://conda.example={server.url}"} if kind == "mirror" else {}
        settings = CondaSettings.from_environ(environ, settings=machine.settings)
        line = Line.of(written, source=Source(file="conda.yaml", key="channels[0]"))
        access = conda.access((), (line,), settings)
        one = locked(file, "https://conda.example/main" if kind == "mirror" else plain)
        fetch(machine, one, access=access)
        if kind != "mirror":
            other = Machine(
                settings=replace(machine.settings, cache_dir=Path(f"{machine.settings.cache_dir}-2")),
                reporter=Reporter(),
            )
            with pytest.raises(UnreachableError, match=r"40[134]"):
                fetch(other, one)
    kept = b"".join(path.read_bytes() for path in machine.settings.cache_dir.rglob("*") if path.is_file())
    basic = base64.b64encode(":".join(LOGIN).encode())
    assert not [secret for secret in (LOGIN[1].encode(), TOKEN.encode(), basic) if secret in kept]


def test_every_package_that_cannot_be_had_is_named(channel: ChannelServer, machine: Machine) -> None:
    channel.statuses["noarch/greet-1.0-pyhd8ed1ab_0.conda"] = 404
    channel.silent.add("noarch/tzdata-2024a-0.conda")
    packages = [locked(file, f"{channel.url}/main") for file in linking_sample()[1:4]]
    with pytest.raises(UnreachableError) as raised:
        fetch(machine, *packages)
    assert {str(problem.where) for problem in raised.value.problems} == {packages[0].url, packages[1].url}
    assert "404" in str(raised.value)
    # What could be had is kept.
    assert conda_packages.archive_path(packages[2], machine).exists()


def test_offline_says_what_is_missing(channel: ChannelServer, machine: Machine) -> None:
    first, second = (locked(file, f"{channel.url}/main") for file in linking_sample()[1:3])
    fetch(machine, first)
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    fetch(offline, first)
    with pytest.raises(UnreachableError, match="--offline") as raised:
        fetch(offline, first, second)
    assert [str(problem.where) for problem in raised.value.problems] == [second.url]


def test_another_file_than_was_locked_is_refused_and_not_kept(channel: ChannelServer, machine: Machine) -> None:
    one = locked(linking_sample()[2], f"{channel.url}/main", sha256=digest.of_bytes(b"another"))
    with pytest.raises(LockMismatchError, match="expected sha256:") as raised:
        fetch(machine, one)
    assert str(raised.value.problems[0].where) == one.url
    assert not files_in(machine.conda_packages)


def test_a_file_that_came_broken_is_asked_for_again(channel: ChannelServer, machine: Machine) -> None:
    channel.cut_off.add("noarch/greet-1.0-pyhd8ed1ab_0.conda")
    one = locked(linking_sample()[2], f"{channel.url}/main")
    with pytest.raises(UnreachableError):
        fetch(machine, one)
    assert not files_in(machine.conda_packages)
    channel.cut_off.clear()
    fetch(machine, one)
    assert conda_packages.archive_path(one, machine).exists()


@pytest.mark.parametrize("damage", ["facts", "file"])
def test_what_is_damaged_or_gone_is_fetched_again(damage: str, channel: ChannelServer, machine: Machine) -> None:
    one = locked(linking_sample()[2], f"{channel.url}/main")
    fetch(machine, one)
    path = conda_packages.archive_path(one, machine)
    (path.with_name("facts.json") if damage == "facts" else path).write_bytes(b"{")
    conda_packages.drop_damaged((one,), machine)
    fetch(machine, one)
    assert digest.of_file(path) == one.sha256
    assert not conda_packages.facts(one, machine).scripts


@pytest.mark.parametrize("damaged", ["greet", "python"])
def test_a_package_that_the_cache_lost_is_fetched_again(
    damaged: str, channel: ChannelServer, machine: Machine, tmp_path: Path
) -> None:
    base = f"{channel.url}/main"
    linked(machine, *linking_sample()[2:3], channel=base, work=tmp_path / "first")
    file = next(iter(machine.conda_packages.glob(f"*/{damaged}-*.conda")))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    places = linked(machine, *linking_sample()[2:3], channel=base, work=tmp_path / "second")
    assert file.read_bytes() == whole
    assert (places["greet"] / "opt/env/bin/greet").is_file()


def test_a_package_is_linked_as_if_it_were_at_the_prefix(
    channel: ChannelServer, machine: Machine, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        places = linked(machine, *linking_sample()[3:6], channel=f"{channel.url}/main", work=tmp_path / "work")
    finally:
        os.umask(before)
    assert files_in(places["greet"] / "opt/env") == {
        "bin/greet",
        "conda-meta/greet-2.0-pyhd8ed1ab_0.json",
        "conda-meta/history",
        "lib/python3.11/site-packages/greet-2.0.dist-info/INSTALLER",
        "lib/python3.11/site-packages/greet-2.0.dist-info/METADATA",
        "lib/python3.11/site-packages/greet.py",
    }
    paths = places["paths"] / "opt/env"
    assert (paths / "share/paths/data.txt").read_text() == "root = /opt/env/share\n"
    assert (paths / "lib/libpaths.so.1").readlink() == Path("libpaths.so")
    modes = {f"{path.stat().st_mode & 0o7777:o}" for path in paths.rglob("*") if not path.is_symlink()}
    assert modes == {"755", "644"}
    record = json.loads((paths / "conda-meta/paths-1.0-0.json").read_bytes())
    assert record["url"] == f"{channel.url}/main/linux-64/paths-1.0-0.tar.bz2"
    assert record["channel"] == f"{channel.url}/main"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file())
    assert os.fspath(tmp_path).encode() not in everything
    # The hook would leave a file.
    assert "bin/.hooked-post-link.sh" in files_in(places["hooked"] / "opt/env")
    assert not (places["hooked"] / "opt/env/link-script-ran").exists()


def test_bytecode_that_a_package_brings_is_left_out_and_not_listed(machine: Machine, tmp_path: Path) -> None:
    site = "lib/python3.11/site-packages"
    cached = f"{site}/__pycache__/compiled.cpython-311.pyc"
    alone = f"{site}/__pycache__/alone.cpython-311.pyc"
    files = {f"{site}/compiled.py": b"x = 1\n", cached: b"stale", alone: b"no source"}
    brought = package("compiled", subdir="linux-64", files=files)
    channel = write_channel(tmp_path / "channel", (real_python(), brought))
    place = linked(machine, brought, channel=channel, work=tmp_path / "work")["compiled"] / "opt/env"
    assert cached not in files_in(place)
    assert alone in files_in(place)
    record = json.loads((place / "conda-meta/compiled-1.0-0.json").read_bytes())
    assert record["files"] == [alone, f"{site}/compiled.py"]
    assert [one["_path"] for one in record["paths_data"]["paths"]] == record["files"]


SECRET = Path("/etc/hostname")
HOSTILE = {
    "a path with dots": package("evil", files={"share/../../../../escaped": b"x"}),
    "an absolute path": package("evil", files={"/escaped": b"x"}),
    "a path through a link": package("evil", files={"share/x/escaped": b"x"}, links={"share/x": "/usr"}),
    "a file of this machine through a link": package("evil", links={"lib": "/etc"}, listed={"lib/hostname": {}}),
    "a file of this machine by its prefix": package(
        "evil",
        links={"lib/secret": str(SECRET)},
        listed={"lib/secret": {"prefix_placeholder": "/opt/x", "file_mode": "text"}},
    ),
    "a link for its record": package("evil", links={"conda-meta": "/usr"}),
    "a link for its entry point": package(
        "evil",
        noarch="python",
        files={"site-packages/evil.py": b""},
        links={"bin": "/usr/bin"},
        entry_points=("escaped = evil:main",),
    ),
    "a link for its modules": package(
        "evil", noarch="python", files={"site-packages/escaped.py": b""}, links={"lib": "/usr/lib"}
    ),
    "an entry point that leaves": python_package("evil", entry_points=("../../../escaped = evil:main",)),
    "another version inside": package("evil", "2.0"),
    "no archive": replace(package("evil"), data=b"nonsense"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_package_is_refused_and_writes_nothing(kind: str, machine: Machine, tmp_path: Path) -> None:
    file = replace(HOSTILE[kind], record={**HOSTILE[kind].record, "sha256": HOSTILE[kind].sha256})
    channel = write_channel(tmp_path / "channel", (real_python(), file))
    with pytest.raises(BuildFailedError, match="the conda package cannot be installed") as raised:
        linked(machine, file, channel=channel, work=tmp_path / "work", version="1.0")
    assert str(raised.value.problems[0].where).endswith(file.name)
    assert SECRET.read_bytes() not in [path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert not list(tmp_path.parent.rglob("escaped"))
    assert not [path for path in ("/escaped", "/usr/escaped", "/usr/bin/escaped") if Path(path).exists()]


def test_a_link_may_lead_anywhere_and_brings_nothing_along(machine: Machine, tmp_path: Path) -> None:
    links = {"share/os": str(SECRET), "share/folder": "/etc", "share/gone": "nowhere"}
    file = package("linked", files={"share/a": b"a"}, links=links)
    channel = write_channel(tmp_path / "channel", (real_python(), file))
    place = linked(machine, file, channel=channel, work=tmp_path / "work")["linked"] / "opt/env"
    assert {name: str((place / name).readlink()) for name in links} == links
    paths = json.loads((place / "conda-meta/linked-1.0-0.json").read_bytes())["paths_data"]["paths"]
    assert {
        one["_path"]: one.keys() & {"sha256_in_prefix", "size_in_bytes"} for one in paths if one["_path"] != "share/a"
    } == {name: set() for name in links}


def test_a_fetch_that_is_killed_leaves_only_whole_files(channel: ChannelServer, machine: Machine) -> None:
    code = """
import sys
from tests.installer import test_conda_packages as given
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from pathlib import Path
import os
settings = Settings(cache_dir=Path(sys.argv[1]), environ=(("PATH", os.environ["PATH"]),))
machine = Machine(settings=settings, reporter=Reporter())
given.fetch(machine, *(given.locked(file, sys.argv[2]) for file in given.linking_sample()))
"""
    packages = [locked(file, f"{channel.url}/main") for file in linking_sample()]
    command = (sys.executable, "-c", code, str(machine.settings.cache_dir), f"{channel.url}/main")
    for seconds in (1.2, 1.5, 1.8, 2.2):
        child = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        time.sleep(seconds)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for one in packages:
            path = conda_packages.archive_path(one, machine)
            if path.exists():
                assert digest.of_file(path) == one.sha256
                conda_packages.facts(one, machine)
    fetch(machine, *packages)
    assert all(digest.of_file(conda_packages.archive_path(one, machine)) == one.sha256 for one in packages)


def test_the_closure_is_what_a_package_needs() -> None:
    def one(name: str, *depends: str) -> CondaPackage:
        return locked(package(name, depends=depends), "https://conda.example/main")

    packages = (one("a", "b >=1", "__glibc >=2.17"), one("b", "c"), one("c", "b"), one("d"))
    assert conda_packages.closure(packages, ("a", "nowhere")) == {"a", "b", "c"}
