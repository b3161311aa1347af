from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import disk, uv
from envbuilder import package_index as package_index_module
from envbuilder.errors import EnvBuilderError, LockImpossibleError, Source, UnreachableError
from envbuilder.fields import Stated
from envbuilder.problems import Problems
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests import package_index as package_indexes
from tests.package_index import LOGIN, PackageIndex, certificate_for_loopback, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.locked import LockedPackage
    from envbuilder.package_index import IndexKind

package_index = package_indexes.package_index
TARGET = Target(subdir="linux-64", glibc="2.36")
ARM = Target(subdir="linux-aarch64", glibc="2.36")


@pytest.fixture
def settings(tmp_path: Path, package_index: PackageIndex) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache",
        index_url=package_index.url,
        environ=(("PATH", str(Path(sys.executable).parent)), ("HOME", str(tmp_path))),
    )


def compile_lines(
    *lines: str,
    settings: Settings,
    python: str = "3.11.2",
    target: Target = TARGET,
    constraints: tuple[str, ...] = (),
    dependencies: bool = True,
) -> tuple[LockedPackage, ...]:
    return uv.compile_lines(
        lines,
        constraints=constraints,
        python_version=python,
        target=target,
        settings=settings,
        reporter=Reporter(),
        dependencies=dependencies,
    )


def pins(packages: tuple[LockedPackage, ...]) -> list[str]:
    return [f"{package.name}=={package.version}" for package in packages]


def test_no_lines_need_no_index(tmp_path: Path) -> None:
    assert compile_lines(settings=Settings(cache_dir=tmp_path / "cache")) == ()
    assert not (tmp_path / "cache").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    ("python", "target", "tag"),
    [
        ("3.11.2", TARGET, "cp311-cp311-manylinux_2_34_x86_64"),
        ("3.11", replace(TARGET, glibc="2.28"), "cp311-cp311-manylinux_2_17_x86_64"),
        ("3.8.10", TARGET, "cp38-cp38-manylinux1_x86_64"),
        ("3.13.0", TARGET, "py3-none-any"),
        ("3.11.2", ARM, "cp311-cp311-manylinux_2_17_aarch64"),
        ("3.11.2", Target(subdir="osx-arm64"), "cp311-cp311-macosx_11_0_arm64"),
        ("3.11.2", Target(subdir="osx-arm64", macos="14.0"), "cp311-cp311-macosx_14_0_arm64"),
        ("3.11.2", Target(subdir="osx-64"), "cp311-cp311-macosx_10_9_universal2"),
        ("3.11.2", Target(subdir="win-64"), "cp311-cp311-win_amd64"),
    ],
    ids=["new glibc", "old glibc", "old Python", "new Python", "arm64", "macOS", "new macOS", "old Mac", "Windows"],
)
def test_the_wheel_fits_the_target_not_this_machine(
    python: str, target: Target, tag: str, package_index: PackageIndex, settings: Settings
) -> None:
    tags = (
        "cp311-cp311-manylinux_2_34_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
        "cp311-cp311-musllinux_1_1_x86_64",
        "cp311-cp311-macosx_11_0_arm64",
        "cp311-cp311-macosx_14_0_arm64",
        "cp311-cp311-macosx_10_9_universal2",
        "cp311-cp311-win_amd64",
        "cp38-cp38-manylinux1_x86_64",
        "py3-none-any",
    )
    wheels = {name: wheel("native", tag=name) for name in tags}
    package_index.add(*wheels.values())
    (found,) = compile_lines("native", settings=settings, python=python, target=target)
    assert found.filename == f"native-1.0-{tag}.whl"
    assert found.sha256 == wheels[tag].digest
    assert found.url == package_index.file_url(found.filename)


@pytest.mark.process
def test_dependencies_are_the_edges_of_the_graph(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(
        wheel("Top_Level", requires=("left", "right[extra]>=1", 'old; python_version < "3.9"')),
        wheel("left", requires=("shared",)),
        wheel("right", requires=("shared", 'more; extra == "extra"')),
        wheel("shared"),
        wheel("more"),
        wheel("old"),
    )
    found = compile_lines("top-level", "shared", settings=settings)
    assert {package.name: package.dependencies for package in found} == {
        "left": ("shared",),
        "more": (),
        "right": ("more", "shared"),
        "shared": (),
        "top-level": ("left", "right"),
    }
    assert [package.name for package in found] == sorted(package.name for package in found)
    older = compile_lines("top-level", settings=settings, python="3.8.10")
    assert "old" in {package.name for package in older}


@pytest.mark.process
def test_constraints_limit_what_is_chosen(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(wheel("top", requires=("part",)), *(wheel("part", version) for version in ("1.0", "1.5", "2.0")))
    assert pins(compile_lines("top", settings=settings)) == ["part==2.0", "top==1.0"]
    assert pins(compile_lines("top", settings=settings, constraints=("part<2", "absent==1"))) == [
        "part==1.5",
        "top==1.0",
    ]


@pytest.mark.process
@pytest.mark.parametrize("kind", package_index_module.KINDS)
def test_the_specs_own_indexes_are_asked(kind: IndexKind, package_index: PackageIndex, settings: Settings) -> None:
    with running_index(login=LOGIN) as own:
        own.add(wheel("private"))
        package_index.add(wheel("public"))
        address = own.url.replace("://", f"://{':'.join(LOGIN)}@")
        if kind == "find_links":
            address = f"{address.rstrip('/')}/private/"
        found = package_index_module.read(kind, Stated(value=address, source=Source(file="x")), Problems())
        assert found is not None
        lines = ("private",) if kind == "index_url" else ("private", "public")
        packages = uv.compile_lines(
            lines,
            indexes=(found,),
            python_version="3.11.2",
            target=TARGET,
            settings=settings,
            reporter=Reporter(),
            dependencies=False,
        )
        assert pins(packages) == [f"{line}==1.0" for line in lines]
        assert not any(LOGIN[1] in package.url for package in packages)
        assert own.asked
    assert bool(package_index.asked) is (kind != "index_url")


@pytest.mark.process
def test_lines_can_be_the_whole_answer(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(wheel("top", requires=("part",)))
    (found,) = compile_lines("top", settings=settings, dependencies=False)
    assert (found.name, found.dependencies) == ("top", ())


def failed(*lines: str, settings: Settings, target: Target = TARGET) -> EnvBuilderError:
    with pytest.raises(EnvBuilderError) as raised:
        compile_lines(*lines, settings=settings, target=target)
    return raised.value


def source_only(name: str) -> str:
    return (
        "it exists only as source for this target: ask for a version that has a wheel, offer one in an index, "
        f"or let it be built: `--allow-source {name}`"
    )


LOOSEN = "loosen or remove one of the lines that are named here"
ANOTHER_VERSION = "ask for a version that exists"
ANOTHER_NAME = "check its name, or name an index that has it: ENVBUILDER_EXTRA_INDEX_URLS, or the workspace's"
ANOTHER_PYTHON = "ask for a version that supports this Python, or for a Python that it supports"


@pytest.mark.process
@pytest.mark.parametrize(
    ("lines", "because", "words", "fix"),
    [
        (("part<1",), ": there is no such version", "part<1", ANOTHER_VERSION),
        (("part==7",), ": there is no such version", "part==7", ANOTHER_VERSION),
        (("top", "part==1.0"), "", "you require part==1.0", LOOSEN),
        (("absent", "top"), ": no index has `absent`", "absent", ANOTHER_NAME),
        *(
            ((name,), f": of `{name}` there is no fitting wheel for Python 3.11 on linux-64", name, source_only(name))
            for name in ("source", "foreign", "broken")
        ),
        (("gone",), ": `gone` was yanked", "gone", "ask for another version, or pin it (`gone==VERSION`) to take it"),
        (("recent",), " for Python 3.11 on linux-64", "Python >=3.13", ANOTHER_PYTHON),
    ],
    ids=[
        "too old a version",
        "no such version",
        "conflict",
        "no such package",
        "source only",
        "other platform only",
        "no archive",
        "yanked",
        "newer Python",
    ],
)
def test_what_cannot_be_had_is_explained(
    lines: tuple[str, ...], because: str, words: str, fix: str, package_index: PackageIndex, settings: Settings
) -> None:
    package_index.add(wheel("top", requires=("part>=2",)), wheel("part", "1.0"), wheel("part", "2.0"))
    package_index.add(wheel("foreign", tag="cp311-cp311-win_amd64"), wheel("recent", python=">=3.13"))
    package_index.add(wheel("gone"))
    package_index.yanked = {"gone-1.0-py3-none-any.whl": "it broke"}
    package_index.files["source-1.0.tar.gz"] = b"not even an archive"
    package_index.files["broken-1.0-py3-none-any.whl"] = b"not even an archive"
    error = failed(*lines, settings=settings)
    assert isinstance(error, LockImpossibleError)
    (problem,) = error.problems
    assert problem.what.startswith(f"no set of packages satisfies the requirements{because}\n")
    assert words in problem.what
    assert "hint" not in problem.what
    assert problem.fix == fix
    assert words in error.explanation


@pytest.fixture
def index_with_login() -> Iterator[PackageIndex]:
    with running_index(login=LOGIN) as index:
        index.add(wheel("top", requires=("part",)), wheel("part"))
        yield index


@pytest.mark.process
def test_credentials_open_the_index_and_stay_out_of_the_lock(
    index_with_login: PackageIndex, settings: Settings
) -> None:
    found = compile_lines("top", settings=replace(settings, index_url=index_with_login.url_with_login))
    assert pins(found) == ["part==1.0", "top==1.0"]
    assert all(package.url.startswith(f"http://{index_with_login.host}/files/") for package in found)


@pytest.mark.process
@pytest.mark.parametrize("password", [None, "wr0ng-password"])
def test_an_index_that_refuses_is_told_without_the_password(
    password: str | None, index_with_login: PackageIndex, settings: Settings
) -> None:
    user = f"reader:{password}@" if password else ""
    error = failed("top", settings=replace(settings, index_url=f"http://{user}{index_with_login.host}/simple"))
    assert isinstance(error, UnreachableError)
    (problem,) = error.problems
    assert problem.what == "the package index asks for a login, or did not take the one it got (401)"
    assert problem.where == Source(file=index_with_login.url)
    assert problem.fix == (
        "check the user and password: in the index's URL, in .netrc, or what `keyring get URL USER` prints"
    )
    assert "wr0ng" not in str(error)


@pytest.mark.process
def test_credentials_are_on_no_command_line(index_with_login: PackageIndex, settings: Settings) -> None:
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        url = index_with_login.url_with_login
        compile_lines("top", settings=replace(settings, index_url=url, extra_index_urls=(url,)))
    finally:
        done.set()
        watcher.join()
    assert any("pip compile requirements.in" in line for line in seen), "uv was seen"
    assert not [line for line in seen if LOGIN[1] in line]


@pytest.mark.process
def test_an_index_that_does_not_answer_is_told(package_index: PackageIndex, settings: Settings) -> None:
    with running_index() as gone:
        url = gone.url_with_login
    package_index.add(wheel("top"))
    error = failed("top", settings=replace(settings, index_url=url))
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith("the package index did not answer\n")
    assert LOGIN[1] not in str(error)


@pytest.mark.process
def test_a_private_ca_is_trusted_when_it_is_named(settings: Settings, tmp_path: Path) -> None:
    ca, *certificate = certificate_for_loopback(tmp_path)
    with running_index(certificate=(certificate[0], certificate[1])) as index:
        index.add(wheel("top"))
        untrusting = replace(settings, index_url=index.url)
        error = failed("top", settings=untrusting)
        assert pins(compile_lines("top", settings=replace(untrusting, ca_file=ca))) == ["top==1.0"]
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith("the package index's certificate is not trusted\n")
    assert error.problems[0].fix == "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file"


@pytest.mark.process
def test_offline_uses_the_cache_or_says_what_to_do(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(wheel("top"), wheel("other"))
    online = compile_lines("top", settings=settings)
    package_index.asked.clear()
    offline = replace(settings, offline=True)
    assert compile_lines("top", settings=offline) == online
    links = replace(offline, find_links=(f"http://{package_index.host}/links/other",))
    assert "other" in failed("other", settings=links).problems[0].what
    error = failed("other", settings=offline)
    assert isinstance(error, LockImpossibleError)
    assert error.problems[0].what.startswith("not all that is needed is in the cache, and `--offline` forbids")
    assert error.problems[0].fix == "run once without `--offline`, or bring the cache of a machine that has it"
    assert package_index.asked == []


@pytest.mark.process
def test_another_index_of_the_machine_is_never_asked(
    package_index: PackageIndex, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_index.add(wheel("top"))
    (tmp_path / "links").mkdir()
    canary = wheel("top", "9.9")
    (tmp_path / "links" / canary.name).write_bytes(canary.data)
    with running_index() as other:
        other.add(canary)
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL"):
            monkeypatch.setenv(name, other.url)
        for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
            monkeypatch.setenv(name, str(tmp_path / "links"))
        (tmp_path / "pip.conf").write_text(f"[global]\nextra-index-url = {other.url}\nfind-links = {tmp_path}/links\n")
        (tmp_path / "uv.toml").write_text(f'extra-index-url = ["{other.url}"]\n')
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
        assert pins(compile_lines("top", settings=settings)) == ["top==1.0"]
    assert other.asked == []


@pytest.mark.process
def test_extra_indexes_are_asked_first(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(wheel("top", "2.0"), wheel("part"))
    with running_index() as other:
        other.add(wheel("top", "1.0", requires=("part",)))
        found = compile_lines("top", settings=replace(settings, extra_index_urls=(other.url,)))
    assert pins(found) == ["part==1.0", "top==1.0"]


@pytest.mark.process
def test_no_python_of_the_path_is_started(package_index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    package_index.add(wheel("top"))
    (tmp_path / "bin").mkdir()
    for name in ("python", "python3", "python3.11"):
        disk.write_file(tmp_path / "bin" / name, f"#!/bin/sh\necho $0 >> {tmp_path}/started\nexit 1\n".encode())
        (tmp_path / "bin" / name).chmod(0o755)
    environ = (("PATH", str(tmp_path / "bin")), ("HOME", str(tmp_path)))
    assert pins(compile_lines("top", settings=replace(settings, environ=environ))) == ["top==1.0"]
    assert not (tmp_path / "started").exists()


@pytest.mark.process
def test_what_was_yanked_is_told_once(package_index: PackageIndex, settings: Settings) -> None:
    package_index.add(
        wheel("top", requires=("part==1.0", "other")), wheel("part"), wheel("other"), wheel("other", "2.0")
    )
    package_index.yanked = {"part-1.0-py3-none-any.whl": 'it \x07eats "data"', "other-2.0-py3-none-any.whl": "new"}
    heard: list[tuple[str, str]] = []
    found = uv.compile_lines(
        ("top", "part==1.0"),
        python_version="3.11.2",
        target=TARGET,
        settings=settings,
        reporter=Reporter(),
        on_yanked=lambda pin, reason: heard.append((pin, reason)),
    )
    assert pins(found) == ["other==1.0", "part==1.0", "top==1.0"]
    assert heard == [("part==1.0", 'it eats "data"')]


@pytest.mark.process
def test_what_uv_prints_is_passed_on(package_index: PackageIndex, settings: Settings) -> None:
    lines: list[tuple[str, str]] = []

    class Told(Reporter):
        def line(self, stage: str, text: str) -> None:
            lines.append((stage, text))

    package_index.add(wheel("top"))
    uv.compile_lines(("top",), python_version="3.11.2", target=TARGET, settings=settings, reporter=Told())
    assert any(stage == "lock" and "Resolved 1 package" in text for stage, text in lines)
