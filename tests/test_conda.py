from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import conda, digest, disk, network
from envbuilder.channel import Address
from envbuilder.conda_settings import CondaSettings
from envbuilder.conda_yaml import MatchSpec
from envbuilder.errors import (
    EnvBuilderError,
    InvalidFileError,
    LockImpossibleError,
    LockMismatchError,
    Source,
    UnreachableError,
)
from envbuilder.pip_line import Line
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests.conda_channel import (
    LOGIN,
    SUBDIRS,
    TOKEN,
    ChannelServer,
    package,
    running_channel,
    running_proxy,
    sample,
    write_channel,
)
from tests.conftest import RecordingReporter
from tests.package_index import certificate_for_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.conda_package import CondaPackage

pytestmark = pytest.mark.process

LINUX = Target(subdir="linux-64", glibc="2.36")
WHERE = Source(file="models/churn/conda.yaml")
PASSWORD = LOGIN[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample channel in a folder."""
    return write_channel(tmp_path_factory.mktemp("channel"), sample())


@pytest.fixture
def server() -> Iterator[ChannelServer]:
    with running_channel() as running:
        running.add("main")
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> CondaSettings:
    machine = Settings(cache_dir=tmp_path / "cache", environ=(("HOME", str(tmp_path)),))
    return replace(CondaSettings.from_environ({}, settings=machine), retries=0)


def with_environ(settings: CondaSettings, **environ: str) -> CondaSettings:
    machine = settings.settings
    return replace(settings, settings=replace(machine, environ=(*machine.environ, *environ.items())))


def with_machine(settings: CondaSettings, **changes: Any) -> CondaSettings:  # noqa: ANN401 - the fields of Settings
    return replace(settings, settings=replace(settings.settings, **changes))


def solve(
    *lines: str,
    channels: tuple[str, ...],
    settings: CondaSettings,
    target: Target = LINUX,
    **options: Any,  # noqa: ANN401 - passed on
) -> tuple[CondaPackage, ...]:
    return conda.solve(
        [MatchSpec.parse(line, source=WHERE.child("dependencies").child(i)) for i, line in enumerate(lines)],
        channels=[Line.of(url, source=WHERE.child("channels").child(i)) for i, url in enumerate(channels)],
        target=target,
        settings=settings,
        reporter=options.pop("reporter", RecordingReporter()),
        **options,
    )


def failed(*lines: str, channels: tuple[str, ...], settings: CondaSettings, **options: Any) -> EnvBuilderError:  # noqa: ANN401
    with pytest.raises(EnvBuilderError) as caught:
        solve(*lines, channels=channels, settings=settings, **options)
    return caught.value


def pins(packages: tuple[CondaPackage, ...]) -> list[str]:
    return [f"{one.name}={one.version}" for one in packages]


def test_exact_packages_come_with_all_that_a_lock_needs(folder: str, settings: CondaSettings) -> None:
    found = solve("hello=1", "python=3.11", channels=(folder,), settings=settings)
    assert pins(found) == ["hello=1.0", "libffi=3.4.2", "python=3.11.7", "six=1.16.0", "tzdata=2024a"]
    hello, libffi, python, *_ = found
    files = {one.name: one for one in sample() if one.subdir in {"linux-64", "noarch"}}
    assert hello.url == f"{folder}/noarch/hello-1.0-pyhd8ed1ab_0.conda"
    assert digest.hex_of(hello.sha256) == files[hello.filename].sha256
    assert (hello.size, hello.md5) == (len(files[hello.filename].data), files[hello.filename].record["md5"])
    assert (hello.noarch, hello.depends, hello.license) == ("python", ("python", "six"), "BSD-3-Clause")
    assert (libffi.subdir, libffi.noarch, libffi.filename) == ("linux-64", None, "libffi-3.4.2-0.tar.bz2")
    assert python.python_site_packages_path == "lib/python3.11/site-packages"
    assert python.constrains == ("python_abi 3.11.* *_cp311",)


def test_nothing_asked_starts_nothing(settings: CondaSettings) -> None:
    assert solve(channels=(), settings=settings) == ()
    assert not settings.settings.cache_dir.exists()


def test_the_same_wishes_get_the_same_answer_in_any_order(folder: str, settings: CondaSettings) -> None:
    lines = ("numpy", "hello", "python=3.11", "pytorch")
    first = solve(*lines, channels=(folder,), settings=settings)
    assert solve(*reversed(lines), channels=(folder,), settings=settings) == first
    assert solve(*lines, channels=(folder,), settings=settings, preferred=first) == first


def test_condas_own_configuration_says_where_names_lead(
    server: ChannelServer, settings: CondaSettings, tmp_path: Path
) -> None:
    server.add("other", [package("part")])
    (tmp_path / ".condarc").write_text(
        f"custom_channels: {{main: {server.url}}}\nchannels: [{server.url}/nowhere]\n"
        f"default_channels: [main, {server.url}/other]\n"
    )
    told = replace(CondaSettings.from_environ({}, settings=settings.settings), retries=0)
    assert solve("tzdata", channels=("main",), settings=told)[0].url.startswith(f"{server.url}/main/")
    both = solve("tzdata", "part", channels=("defaults",), settings=told)
    assert [one.url.split("/")[3] for one in both] == ["other", "main"]
    assert solve("part", channels=(), settings=told) == both[:1]
    assert not [path for path in server.asked if "nowhere" in path]


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("numpy=1.26", "1.26.4"),
        ("numpy 1.24.4", "1.24.4"),
        ("numpy==1.24.4", "1.24.4"),
        ("numpy>=1.25,<2", "1.26.4"),
        ("numpy >=1.25, <2", "1.26.4"),
        ("numpy=1.24.4|1.26.4", "1.26.4"),
        ("numpy<1.25|>=2", "2.0.1"),
        ("numpy=1.24.4=py311h0d1ab_0", "1.24.4"),
        ("numpy=1.*=py39*", "1.26.4"),
        ("numpy!=2.0.1", "1.26.4"),
        ("numpy~=1.24.0", "1.24.4"),
        ("numpy 1.26*", "1.26.4"),
        ("numpy[version='>=1.20,<1.25']", "1.24.4"),
        ("numpy", "2.0.1"),
        ("NumPy=1.26", "1.26.4"),
    ],
)
def test_every_spelling_of_a_version_means_what_it_means_to_conda(
    line: str, version: str, folder: str, settings: CondaSettings
) -> None:
    found = {one.name: one.version for one in solve(line, channels=(folder,), settings=settings)}
    assert found["numpy"] == version


@pytest.mark.parametrize("subdir", SUBDIRS)
def test_other_machines_are_solved_for_on_this_one(subdir: str, folder: str, settings: CondaSettings) -> None:
    found = solve("python=3.11", "numpy", channels=(folder,), settings=settings, target=Target(subdir=subdir))
    assert {one.subdir for one in found} == {subdir, "noarch"}
    assert "python=3.11.7" in pins(found)


def test_the_build_for_a_gpu_is_taken_when_the_target_has_one(folder: str, settings: CondaSettings) -> None:
    lines, gpu = ("pytorch", "python=3.11"), replace(LINUX, cuda="12.4")
    without = {one.name: one for one in solve(*lines, channels=(folder,), settings=settings)}
    found = {one.name: one for one in solve(*lines, channels=(folder,), settings=settings, target=gpu)}
    assert (without["pytorch"].build, without["pytorch"].purls) == ("cpu_py311_0", ("pkg:pypi/torch@2.3.1",))
    assert found["pytorch"].build == "cuda_py311_1"
    assert "cudalib" in found
    assert "cudalib" not in without


def test_the_virtual_packages_are_the_targets_and_not_the_hosts(folder: str, settings: CondaSettings) -> None:
    new = Target(subdir="linux-aarch64", glibc="2.39")
    assert pins(solve("fresh", channels=(folder,), settings=settings, target=new)) == ["fresh=1.0"]
    # Whatever this machine runs.
    kernel = failed("modern-kernel", channels=(folder,), settings=settings)
    assert "__linux >=6, for which no candidates were found" in str(kernel)
    error = failed("fresh", channels=(folder,), settings=settings)
    assert "__glibc >=2.38, for which no candidates were found" in str(error)
    assert error.problems[0].fix == (
        "the target has `__glibc 2.36`: take another target, or another version of the package"
    )


def test_preferred_packages_stay_and_an_update_moves_only_what_is_named(folder: str, settings: CondaSettings) -> None:
    old = solve("hello=1", "six=1.15", "numpy=1.24", "python=3.11", channels=(folder,), settings=settings)
    lines = ("hello", "six", "numpy", "python=3.11")
    assert solve(*lines, channels=(folder,), settings=settings, preferred=old) == old
    moved = solve(*lines, channels=(folder,), settings=settings, preferred=old, update={"Hello"})
    assert set(pins(moved)) - set(pins(old)) == {"hello=2.0"}
    assert set(pins(old)) - set(pins(moved)) == {"hello=1.0"}


def test_an_update_moves_what_it_must(settings: CondaSettings, tmp_path: Path) -> None:
    files = [package("app", "1.0", depends=("part",)), package("app", "2.0", depends=("part >=2",))]
    url = write_channel(
        tmp_path / "channel", [*files, package("part", "1.0"), package("part", "2.0"), package("part", "2.1")]
    )
    old = solve("app=1.0", "part=1", channels=(url,), settings=settings)
    moved = solve("app", channels=(url,), settings=settings, preferred=old, update=("app",))
    assert (pins(old), pins(moved)) == (["app=1.0", "part=1.0"], ["app=2.0", "part=2.1"])


def test_a_preferred_package_that_its_channel_took_back_is_not_kept(settings: CondaSettings, tmp_path: Path) -> None:
    both = [package("part", "1.0"), package("part", "2.0")]
    url = write_channel(tmp_path / "channel", both)
    old = solve("part=1", channels=(url,), settings=settings)
    write_channel(tmp_path / "channel", both[1:])
    assert pins(solve("part", channels=(url,), settings=settings, preferred=old)) == ["part=2.0"]


def test_what_is_newer_than_a_date_does_not_exist(folder: str, settings: CondaSettings) -> None:
    date = dt.datetime(2021, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert pins(solve("dated", channels=(folder,), settings=settings)) == ["dated=2.0"]
    assert pins(solve("dated", channels=(folder,), settings=settings, exclude_newer=date)) == ["dated=1.0"]
    error = failed("undated", channels=(folder,), settings=settings, exclude_newer=date)
    assert "has no timestamp" in str(error)
    assert error.problems[0].fix == "ask for a later date than `--exclude-newer`, or for none"


@pytest.fixture
def two(server: ChannelServer) -> ChannelServer:
    server.add("first", [package("x", "1.0"), package("y", depends=("x",))])
    server.add("second", [package("x", "2.0"), package("z", depends=("x >=2",))])
    return server


def test_the_first_channel_that_has_a_package_is_the_only_one(two: ChannelServer, settings: CondaSettings) -> None:
    settings = replace(settings, channel_alias=Address.parse(f"{two.url}/", where=WHERE))
    first, second = solve("x", "y", channels=("first", "second"), settings=settings)
    assert (first.version, first.url) == ("1.0", f"{two.url}/first/noarch/x-1.0-0.conda")
    assert second.name == "y"
    assert pins(solve("x", channels=("second", "first"), settings=settings)) == ["x=2.0"]
    error = failed("z", channels=("first", "second"), settings=settings)
    assert "strict channel priority" in str(error)
    assert (
        error.problems[0].fix == "name the channel in the line, as `channel::name`, or change the order of the channels"
    )


@pytest.mark.parametrize("line", ["second::x", "second/noarch::x", "x[channel=second]", "{url}/second::x"])
def test_a_line_can_name_its_channel(line: str, two: ChannelServer, settings: CondaSettings) -> None:
    settings = replace(settings, channel_alias=Address.parse(two.url, where=WHERE))
    # Listed with a lower priority, or not at all.
    for channels in (("first", "second"), ("first", "nodefaults")):
        found = solve(line.format(url=two.url), "y", channels=channels, settings=settings)
        assert pins(found) == ["x=2.0", "y=1.0"]


def test_a_subdir_of_a_line_is_kept_to(folder: str, settings: CondaSettings) -> None:
    assert "python=3.11.7" in pins(solve(f"{folder}/linux-64::python", channels=(folder,), settings=settings))
    error = failed(f"{folder}/noarch::python", channels=(folder,), settings=settings)
    assert isinstance(error, LockImpossibleError)
    assert error.problems[0].what.endswith("asks for the subdir `noarch`, the best is in `linux-64`")
    assert error.problems[0].where == WHERE.child("dependencies").child(0)
    bracket = failed("python[subdir=noarch]", channels=(folder,), settings=settings)
    assert "asks for the subdir `noarch`" in bracket.problems[0].what


def test_defaults_are_two_channels_on_one_step(two: ChannelServer, settings: CondaSettings) -> None:
    mirrors = [("https://repo.anaconda.com/pkgs/main", "first"), ("https://repo.anaconda.com/pkgs/r", "second")]
    settings = replace(
        settings,
        mirrors=tuple(
            (Address.parse(of, where=WHERE), (Address.parse(f"{two.url}/{by}", where=WHERE),)) for of, by in mirrors
        ),
    )
    two.add("third", [package("x", "3.0")])
    for channels, line in (
        (("defaults", f"{two.url}/third"), "x"),
        ((f"{two.url}/third", "defaults"), "defaults::x"),
        ((), "x"),
    ):
        (found,) = solve(line, channels=channels, settings=settings)
        assert (found.version, found.url) == ("2.0", "https://repo.anaconda.com/pkgs/r/noarch/x-2.0-0.conda")


def test_a_mirror_is_asked_and_the_channel_is_locked(server: ChannelServer, settings: CondaSettings) -> None:
    where = Source(file="mirrors")
    with running_channel(login=LOGIN) as private:
        private.add("conda-forge")
        # The first of the two is down.
        by = tuple(Address.parse(url, where=where) for url in ("http://127.0.0.1:1", private.url_with_login))
        mirrored = replace(settings, mirrors=((settings.channel_alias, by),), retries=3)
        found = solve("tzdata", channels=("conda-forge",), settings=mirrored)
        assert [one.url for one in found] == ["https://conda.anaconda.org/conda-forge/noarch/tzdata-2024a-0.conda"]
        assert "/conda-forge/noarch/repodata.json" in private.asked
        private.login = ("reader", "changed")
        error = failed("six", "tzdata", channels=(f"{server.url}/main", "conda-forge"), settings=mirrored)
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith("the channel `conda-forge` refused (403)\n")
    assert error.problems[0].where == WHERE.child("channels").child(1)
    assert PASSWORD not in str(error)


UNSATISFIABLE = "no set of conda packages satisfies what is asked for on linux-64\n"


@pytest.mark.parametrize(
    ("lines", "words", "named", "fix"),
    [
        (("left", "six", "right"), "shared >=2", [0, 2], "change one of these lines"),
        (("six", "absent"), "absent", [1], "check the name, the version and the channels"),
        (("python=3.12", "six"), "python 3.12.*", [0], "check the name, the version and the channels"),
        (("numpy=1.24", "python=3.9"), "python >=3.11", [0, 1], "change one of these lines"),
        (
            ("six", "cudalib"),
            "__cuda >=12",
            [1],
            "it needs a GPU, and none is counted on: take the build for CPUs, e.g. `name=version=*cpu*`",
        ),
    ],
    ids=["conflict", "no such package", "no such version", "python", "cuda"],
)
def test_what_cannot_be_had_is_explained_with_its_lines(
    lines: tuple[str, ...], words: str, named: list[int], fix: str, folder: str, settings: CondaSettings
) -> None:
    error = failed(*lines, channels=(folder,), settings=settings)
    assert isinstance(error, LockImpossibleError)
    assert error.exit_code == 5
    first, *others = error.problems
    assert first.what.startswith(UNSATISFIABLE)
    assert words in first.what
    assert first.fix == fix
    places = sorted(str(problem.where) for problem in error.problems)
    assert places == [str(WHERE.child("dependencies").child(i)) for i in named]
    assert all(problem.what.endswith("takes part in it") for problem in others)


def test_an_older_cuda_than_needed_is_told(folder: str, settings: CondaSettings) -> None:
    error = failed("cudalib", channels=(folder,), settings=settings, target=replace(LINUX, cuda="11.8"))
    assert error.problems[0].fix == (
        "the target has `__cuda 11.8`: take another target, or another version of the package"
    )


def test_a_line_that_rattler_cannot_read_is_named(folder: str, settings: CondaSettings) -> None:
    error = failed("six", "numpy=1.0.0.!", channels=(folder,), settings=settings)
    assert isinstance(error, InvalidFileError)
    assert error.problems[0].where == WHERE.child("dependencies").child(1)
    assert error.problems[0].what.startswith("`numpy=1.0.0.!` is not a match spec: ")


PACKAGE_LIST = "linux-64/repodata.json"


def broken_status(status: int) -> Any:  # noqa: ANN401 - a function
    def change(server: ChannelServer) -> None:
        server.statuses[PACKAGE_LIST] = status

    return change


def half(server: ChannelServer) -> None:
    data = server.channels["main"][PACKAGE_LIST]
    server.put("main", PACKAGE_LIST, data[: len(data) // 2])


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        (broken_status(401), "the channel `{url}` asks for a login (401)", "check the user and password"),
        (broken_status(403), "the channel `{url}` refused (403)", "check the user and password"),
        (broken_status(500), "the channel `{url}` cannot answer now (500 Internal Server Error)", "try again later"),
        (broken_status(429), "the channel `{url}` cannot answer now (429 Too Many Requests)", "try again later"),
        (half, "the package list of the channel `{url}` is broken or was cut off", "try again; if it stays"),
        (
            lambda server: server.put("main", PACKAGE_LIST, b"<html>Sign in</html>"),
            "the package list of the channel `{url}` is broken or was cut off",
            "try again; if it stays",
        ),
        (
            lambda server: server.cut_off.add(PACKAGE_LIST),
            "the package list of the channel `{url}` is broken or was cut off",
            "try again; if it stays",
        ),
        (lambda server: server.silent.add(PACKAGE_LIST), "the channel `{url}` did not answer", "check the network"),
        (lambda server: server.channels.clear(), "there is no channel at {url}", "check its name"),
    ],
    ids=["401", "403", "500", "429", "truncated", "html", "cut off", "hung up", "404"],
)
def test_a_channel_that_cannot_be_read_is_told_with_its_place(
    change: Any,  # noqa: ANN401 - a function
    what: str,
    fix: str,
    server: ChannelServer,
    settings: CondaSettings,
) -> None:
    with running_channel() as other:
        other.add("other", [package("part")])
        change(server)
        url = f"{server.url}/main"
        channels = (f"{other.url}/other", url)
        error = failed("six", "part", channels=channels, settings=settings)
    assert isinstance(error, UnreachableError)
    assert error.exit_code == 7
    (problem,) = error.problems
    assert problem.what.split("\n")[0] == what.format(url=url)
    assert problem.where == WHERE.child("channels").child(1)
    assert str(problem.fix).startswith(fix)


def test_a_channel_that_only_a_line_names_is_told_with_that_line(
    server: ChannelServer, settings: CondaSettings
) -> None:
    error = failed(f"{server.url}/absent::six", "six", channels=(f"{server.url}/main",), settings=settings)
    assert error.problems[0].what.startswith(f"there is no channel at {server.url}/absent\n")
    assert error.problems[0].where == WHERE.child("dependencies").child(0)


@pytest.mark.parametrize("text", ["ftp://host/channel", "../channel", "http://", "https://host/c?sig=canary"])
def test_what_is_no_channel_is_refused(text: str, settings: CondaSettings) -> None:
    error = failed("six", channels=(text,), settings=settings)
    assert isinstance(error, InvalidFileError)
    assert "is not a channel" in error.problems[0].what
    assert error.problems[0].where == WHERE.child("channels").child(0)
    assert "canary" not in str(error)


def test_a_passing_failure_is_tried_again_and_a_refusal_is_not(server: ChannelServer, settings: CondaSettings) -> None:
    url = f"{server.url}/main"
    server.failures = [503, 500]
    assert pins(solve("tzdata", channels=(url,), settings=replace(settings, retries=3))) == ["tzdata=2024a"]
    shutil.rmtree(settings.settings.cache_dir)
    for status in (401, 403, 404):
        server.asked.clear()
        server.statuses = {"noarch/repodata.json": status}
        failed("tzdata", channels=(url,), settings=replace(settings, retries=3))
        assert server.asked.count("/main/noarch/repodata.json") == 1


def test_a_channel_that_hangs_ends_the_wait(server: ChannelServer, settings: CondaSettings) -> None:
    server.hanging = threading.Event()
    try:
        url, begin = f"{server.url}/main", time.monotonic()
        error = failed("six", channels=(url,), settings=replace(settings, answer_seconds=1))
        assert error.problems[0].what.startswith(f"the channel `{url}` did not answer\n")
        late = failed("six", channels=(url,), settings=replace(settings, solve_seconds=1))
        assert late.problems[0].what == "no answer of the channels, or no solution, within 1 s"
        assert time.monotonic() - begin < 20
    finally:
        server.hanging.set()


def test_nobody_there_is_told(settings: CondaSettings) -> None:
    error = failed("six", channels=("http://127.0.0.1:1/main",), settings=settings)
    assert error.problems[0].what.startswith("the channel `http://127.0.0.1:1/main` did not answer\n")
    assert "Connection refused" in str(error)


@pytest.mark.parametrize("etag", [None, '"same"'], ids=["told apart", "by a proxy, unseen"])
def test_a_channel_that_was_broken_is_read_once_it_is_whole(
    etag: str | None, server: ChannelServer, settings: CondaSettings
) -> None:
    server.etag = etag
    whole = server.channels["main"][PACKAGE_LIST]
    half(server)
    failed("python", channels=(f"{server.url}/main",), settings=settings)
    offline = failed("python", channels=(f"{server.url}/main",), settings=with_machine(settings, offline=True))
    assert isinstance(offline, UnreachableError)
    server.put("main", PACKAGE_LIST, whole)
    for _ in range(2):
        assert "python=3.11.7" in pins(solve("python", channels=(f"{server.url}/main",), settings=settings))


def test_a_private_ca_is_trusted_when_it_is_named(settings: CondaSettings, tmp_path: Path) -> None:
    ca, certificate, key = certificate_for_loopback(tmp_path)
    with running_channel(certificate=(certificate, key)) as secure:
        secure.add("main")
        url = f"{secure.url}/main"
        error = failed("tzdata", channels=(url,), settings=settings)
        assert pins(solve("tzdata", channels=(url,), settings=with_machine(settings, ca_file=ca))) == ["tzdata=2024a"]
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith(f"the channel `{url}` has a certificate that is not trusted\n")
    assert error.problems[0].fix == "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file"
    assert error.problems[0].where == WHERE.child("channels").child(0)


def test_proxies_are_used(server: ChannelServer, settings: CondaSettings, tmp_path: Path) -> None:
    ca, certificate, key = certificate_for_loopback(tmp_path)
    with running_proxy(login=LOGIN) as proxy, running_channel(certificate=(certificate, key)) as secure:
        secure.add("main")
        environ = {"HTTP_PROXY": proxy.url_with_login, "HTTPS_PROXY": proxy.url_with_login}
        through = with_machine(with_environ(settings, **environ), ca_file=ca)
        for url in (f"{server.url}/main", f"{secure.url}/main"):
            assert pins(solve("tzdata", channels=(url,), settings=through)) == ["tzdata=2024a"]
        assert f"{server.url}/main/noarch/repodata.json" in proxy.asked
        assert secure.host in proxy.asked
        asked = len(proxy.asked)
        direct = with_environ(through, NO_PROXY="127.0.0.1")
        assert pins(solve("shared", channels=(f"{server.url}/main",), settings=direct)) == ["shared=2.0"]
        assert len(proxy.asked) == asked


@pytest.mark.parametrize("kind", ["http", "https"])
@pytest.mark.parametrize("trouble", ["password", "gone"])
def test_a_proxy_that_does_not_let_through_is_told_without_its_password(
    kind: str, trouble: str, settings: CondaSettings, tmp_path: Path
) -> None:
    ca, certificate, key = certificate_for_loopback(tmp_path)
    with (
        running_channel(certificate=(certificate, key) if kind == "https" else None) as channel,
        running_proxy() as proxy,
    ):
        channel.add("main")
        proxy.login = ("reader", "another")
        host = proxy.host if trouble == "password" else "127.0.0.1:1"
        address = f"http://reader:{PASSWORD}@{host}"
        through = with_machine(with_environ(settings, **{f"{kind}_proxy": address}), ca_file=ca)
        error = failed("six", channels=(f"{channel.url}/main",), settings=through)
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith(
        f"the proxy {host} did not let through to the channel `{channel.url}/main`\n"
    )
    assert error.problems[0].fix == "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and the user and password in them"
    assert PASSWORD not in str(error)


@contextmanager
def private_channel(kind: str, tmp_path: Path) -> Iterator[tuple[ChannelServer, str, dict[str, str]]]:
    """Serve a channel that only this kind of credential opens; give it, its address and the variables."""
    user, password = LOGIN
    auth, netrc = tmp_path / "auth.json", tmp_path / "netrc"
    basic = {"BasicHTTP": {"username": user, "password": password}}
    netrc.write_text(f"machine 127.0.0.1 login {user} password {password}\n")
    netrc.chmod(0o600)
    ways: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
        "login in the URL": ({"login": LOGIN}, "login", {}),
        "netrc": ({"login": LOGIN}, "", {"NETRC": str(netrc)}),
        "auth file": ({"login": LOGIN}, "", {"RATTLER_AUTH_FILE": str(auth)}),
        "bearer": ({"bearer": TOKEN}, "", {"RATTLER_AUTH_FILE": str(auth)}),
        "token": ({"token": TOKEN}, "", {"RATTLER_AUTH_FILE": str(auth)}),
        "token in the URL": ({"token": TOKEN}, "token", {}),
    }
    options, login, environ = ways[kind]
    entry = {"bearer": {"BearerToken": TOKEN}, "token": {"CondaToken": TOKEN}}.get(kind, basic)
    auth.write_text(json.dumps({"127.0.0.1": entry}))
    with running_channel(**options) as channel:
        channel.add("private")
        base = {"login": channel.url_with_login, "token": f"{channel.url}/t/{TOKEN}", "": channel.url}[login]
        yield channel, f"{base}/private", environ


KINDS = ["login in the URL", "netrc", "auth file", "bearer", "token", "token in the URL"]


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_open_a_channel_and_are_kept_nowhere(kind: str, settings: CondaSettings, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    with private_channel(kind, tmp_path) as (channel, url, environ):
        allowed = replace(settings, environ=tuple(environ.items()))
        found = solve("six", f"{url}::shared", channels=(url,), settings=allowed, reporter=reporter)
        line = f'shared[channel="{url}"]'
        assert solve("six", line, channels=("nodefaults",), settings=allowed, preferred=found) == found
        assert all(one.url.startswith(f"{channel.url}/private/") for one in found)
        if kind in {"login in the URL", "token in the URL"}:
            wrong = url.replace(PASSWORD, "canary-wrong").replace(TOKEN, "canary-wrong")
            error = failed("six", channels=(wrong,), settings=with_machine(settings, cache_dir=tmp_path / "other"))
            assert "(403)" in error.problems[0].what
            assert "canary" not in str(error)
    written = b"".join(path.read_bytes() for path in settings.settings.cache_dir.rglob("*") if path.is_file())
    assert b"private" in written
    shown = repr(found) + repr(reporter.lines)
    assert not [secret for secret in (PASSWORD, TOKEN) if secret.encode() in written or secret in shown]


def test_credentials_are_on_no_command_line(settings: CondaSettings, tmp_path: Path) -> None:
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with private_channel("login in the URL", tmp_path) as (_, url, _):
            solve("tzdata", channels=(url,), settings=settings)
    finally:
        done.set()
        watcher.join()
    assert any(b"envbuilder.conda_solve" in line for line in seen), "the solver was seen"
    assert not [line for line in seen if PASSWORD.encode() in line]


@pytest.mark.parametrize(("content", "what"), [(None, "there is no such file"), ("{canary", "cannot be read")])
def test_a_bad_file_of_credentials_is_told(
    content: str | None, what: str, server: ChannelServer, settings: CondaSettings, tmp_path: Path
) -> None:
    path = tmp_path / "auth.json"
    if content is not None:
        path.write_text(content)
    settings = replace(settings, environ=(("RATTLER_AUTH_FILE", str(path)),))
    error = failed("six", channels=(f"{server.url}/main",), settings=settings)
    assert isinstance(error, InvalidFileError)
    assert what in error.problems[0].what
    assert "RATTLER_AUTH_FILE" in str(error.problems[0].where)
    assert "canary" not in str(error)


def test_offline_uses_the_cache_or_says_what_is_missing(server: ChannelServer, settings: CondaSettings) -> None:
    server.add("other", [package("part")])
    main, other = f"{server.url}/main", f"{server.url}/other"
    online = solve("hello", channels=(main,), settings=settings)
    server.asked.clear()
    offline = with_machine(settings, offline=True)
    assert solve("hello", channels=(main,), settings=offline) == online
    assert solve("hello", channels=(main,), settings=offline, preferred=online) == online
    error = failed("hello", "part", channels=(main, other), settings=offline)
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith(
        f"the package list of the channel `{other}` is not in the cache, and `--offline` forbids to download it\n"
    )
    assert error.problems[0].where == WHERE.child("channels").child(1)
    assert error.problems[0].fix == "run once without `--offline`, or bring the cache of a machine that has it"
    assert server.asked == []


@pytest.mark.parametrize("record", [{"build": "../../up"}, {"version": "1/0"}, {"sha256": None}, {"name": "part "}])
def test_a_record_that_would_leave_its_folder_is_refused(
    record: dict[str, object], settings: CondaSettings, tmp_path: Path
) -> None:
    bad = package("part")
    url = write_channel(tmp_path / "channel", [replace(bad, record=bad.record | record)])
    error = failed("part", channels=(url,), settings=settings)
    assert isinstance(error, (LockImpossibleError, UnreachableError))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://u:canary@files.example/t/tk-canary/c/", "https://files.example/c/part-1.0-0.conda"),
        ("https://files.example/c/?sig=canary", None),
        ("ftp://canary@files.example/c/", None),
    ],
)
def test_files_that_a_channel_keeps_elsewhere_are_named_without_credentials(
    base: str, expected: str | None, server: ChannelServer, settings: CondaSettings
) -> None:
    server.add("elsewhere", [package("part")])
    content = json.loads(server.channels["elsewhere"]["noarch/repodata.json"])
    content["info"]["base_url"] = base
    if expected is None:
        content["packages.conda"]["part-1.0-0.conda"]["url"] = f"{base}part-1.0-0.conda"
    server.put("elsewhere", "noarch/repodata.json", json.dumps(content).encode())
    channels = (f"{server.url}/elsewhere",)
    if expected is not None:
        (found,) = solve("part", channels=channels, settings=settings)
        assert found.url == expected
        return
    try:
        shown = repr(solve("part", channels=channels, settings=settings))
    except EnvBuilderError as error:
        shown = str(error)
    assert "canary" not in shown


def test_downloads_are_held_to_the_record(server: ChannelServer, settings: CondaSettings, tmp_path: Path) -> None:
    (found,) = solve("tzdata", channels=(f"{server.url}/main",), settings=settings)
    machine, target, path = settings.settings, tmp_path / found.filename, f"noarch/{found.filename}"
    session = network.session(machine)
    network.download(session, found.url, target, expected=found.sha256, settings=machine)
    server.put("main", path, b"another package")
    with pytest.raises(LockMismatchError):
        network.download(session, found.url, tmp_path / "other", expected=found.sha256, settings=machine)
    server.add("main")
    server.cut_off.add(path)
    with pytest.raises(UnreachableError, match="the download broke off"):
        network.download(session, found.url, tmp_path / "other", expected=found.sha256, settings=machine)
    assert not (tmp_path / "other").exists()


def test_a_solver_that_dies_is_our_bug(
    settings: CondaSettings, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    disk.write_file(broken, b"#!/bin/sh\necho 'http://u:canary@host/ broke' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(RuntimeError, match="gave no answer") as caught:
        solve("six", channels=(folder,), settings=settings)
    assert "canary" not in str(caught.value)
    disk.write_file(broken, b"#!/bin/sh\nkill -9 $$\n")
    broken.chmod(0o755)
    error = failed("six", channels=(folder,), settings=settings)
    assert error.problems[0].what == "the conda solver was ended by signal 9"
