"""Wheels that no index offers: of the model, of a URL, of a repository, and sources of an index, through the CLI."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest
from envbuilder.lockfile import Lockfile
from tests.conftest import BASE, EXAMPLES, command_line
from tests.git_server import new_repository, running_git
from tests.package_index import PackageIndex, WheelFile, running_index, wheel

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from envbuilder.locked import Lock

    Call = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.network, pytest.mark.process]

ENGINE = ("--engine", "oci", "--base", BASE)
SETUP = """\
from setuptools import setup
setup(name={name!r}, version={version!r}, py_modules=[{module!r}], install_requires={requires!r})
"""


LOADER = """\
import direct, only_source, own

class Model:
    def predict(self, data):
        return data

def _load_pyfunc(path):
    return Model()
"""


def sdist(name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), setup: str = SETUP) -> WheelFile:
    """Write a source archive with one module, whose dependencies only its build knows."""
    module = name.replace("-", "_")
    files = {
        "setup.py": setup.format(name=name, version=version, module=module, requires=list(requires)),
        f"{module}.py": f"version = {version!r}\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{module}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return WheelFile(name=f"{module}-{version}.tar.gz", data=buffer.getvalue())


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with running_index() as started:
        started.add(wheel("part", "1.0"), wheel("part", "2.0"))
        yield started


@pytest.fixture
def envbuilder(cache: Path, index: PackageIndex) -> Call:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command_line(cache, *arguments, ENVBUILDER_EXTRA_INDEX_URLS=index.url)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    return folder


def ask(model: Path, *lines: str) -> None:
    (model / "conda.yaml").write_text(json.dumps({"dependencies": ["python=3.11", {"pip": list(lines)}]}))


def locked(made: subprocess.CompletedProcess[str], path: Path) -> Lock:
    assert made.returncode == 0, made.stderr
    (lock,) = Lockfile.parse(path.read_text(), file=str(path)).locks
    return lock


def test_wheels_of_the_model_are_locked_by_digest_and_checked_when_they_are_used(
    envbuilder: Call, model: Path, tmp_path: Path
) -> None:
    own = wheel("own", requires=("part<2",))
    (model / "wheels").mkdir()
    (model / "wheels" / own.name).write_bytes(own.data)
    ask(model, f"wheels/{own.name}", "./wheels/nothing-1.0-py3-none-any.whl; sys_platform == 'win32'")
    (model / "wheels" / "nothing-1.0-py3-none-any.whl").write_bytes(b"is never looked at")
    lock = tmp_path / "x.yml"
    found = locked(envbuilder("lock", str(model), *ENGINE, "-o", str(lock)), lock)
    package, part = found.packages
    assert (package.name, package.url, package.sha256) == ("own", f"./wheels/{own.name}", own.digest)
    assert (package.dependencies, part.version) == (("part",), "1.0")
    context = tmp_path / "context"
    rendering = ("render", str(model), *ENGINE, "--lock", str(lock), "-o", str(context))
    rendered = envbuilder(*rendering)
    assert rendered.returncode == 0, rendered.stderr
    assert (context / "wheels" / own.name).read_bytes() == own.data
    asked = f"own @ file:///build/wheels/{own.name} --hash={own.digest}\n"
    assert asked in (context / "environment.txt").read_text()
    assert "COPY wheels/ /build/wheels/\n" in (context / "Dockerfile").read_text()
    shutil.rmtree(context)
    (model / "wheels" / own.name).write_bytes(wheel("own", requires=("part",)).data)
    # The model is another one now, and so is what it asks for.
    stale = envbuilder(*rendering)
    assert stale.returncode == 11
    assert "the model's environment changed since it was locked" in stale.stderr


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["oci", "docker"])
def test_an_image_has_wheels_that_no_index_offers(
    engine: str, request: pytest.FixtureRequest, cache: Path, index: PackageIndex, model: Path
) -> None:
    docker_host = request.getfixturevalue("docker_host") if engine == "docker" else ""
    own, direct = wheel("own"), wheel("direct")
    index.files[f"away/{direct.name}"] = direct.data
    index.files["source-1.tar.gz"] = sdist("only-source").data
    for folder in ("wheels", "code"):
        (model / folder).mkdir()
    (model / "wheels" / own.name).write_bytes(own.data)
    (model / "code" / "loader.py").write_text(LOADER)
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: loader, code: code, env: conda.yaml}}\n")
    urls = [f"direct @ {index.file_url(f'away/{direct.name}')}", f"only-source @ {index.file_url('source-1.tar.gz')}"]
    ask(model, f"wheels/{own.name}", *urls, *(EXAMPLES / "scale" / "requirements.txt").read_text().split())
    made = command_line(
        cache,
        *("build", str(model), "--engine", engine, "--base", BASE, "--allow-source", "only-source"),
        DOCKER_HOST=docker_host,
    )
    assert made.returncode == 0, made.stderr


def test_a_wheel_at_a_url_is_locked_with_the_digest_that_it_has(
    envbuilder: Call, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    direct = wheel("direct", requires=("part",))
    index.files[f"away/{direct.name}"] = direct.data
    url = index.file_url(f"away/{direct.name}")
    ask(model, f"direct @ {url}")
    lock = tmp_path / "x.yml"
    (package, _) = locked(envbuilder("lock", str(model), *ENGINE, "-o", str(lock)), lock).packages
    assert (package.url, package.sha256, package.is_direct) == (url, direct.digest, True)
    first = lock.read_bytes()
    ask(model, f"direct @ {url}#sha256={digest.hex_of(direct.digest)}")
    assert envbuilder("lock", str(model), *ENGINE, "-o", str(lock)).returncode == 0
    same = re.compile(rb"(packages_digest|envbuilder|lock_digest|content_hash).*|  linux-64: [0-9a-f]{64}")
    assert same.sub(b"", lock.read_bytes()) == same.sub(b"", first)
    ask(model, f"direct @ {url}#sha256={'0' * 64}")
    refused = envbuilder("lock", str(model), *ENGINE, "-o", str(lock))
    assert refused.returncode == 11, refused.stderr
    assert f"expected sha256:{'0' * 64}" in refused.stderr


@pytest.mark.parametrize(
    ("line", "code", "what", "fix"),
    [
        (
            "wrong @ {url}/own-1.0-py3-none-any.whl",
            5,
            "is a wheel of own",
            "ask for it as `own`",
        ),
        (
            "mac @ {url}/mac-1.0-cp311-cp311-macosx_11_0_arm64.whl",
            5,
            "`mac-1.0-cp311-cp311-macosx_11_0_arm64.whl` does not fit Python 3.11",
            "name a wheel that does",
        ),
        (
            "source @ {url}/source-1.0.tar.gz",
            5,
            "is source, and nothing is built unasked",
            "allow it: `--allow-source source`",
        ),
        ("gone @ {url}/gone-1.0-py3-none-any.whl", 7, "`gone @ http", "check the URL"),
    ],
    ids=["another package", "another platform", "source", "gone"],
)
def test_what_a_url_cannot_give_is_told_with_its_line(
    line: str, code: int, what: str, fix: str, envbuilder: Call, model: Path, index: PackageIndex
) -> None:
    index.add(wheel("own"), wheel("mac", tag="cp311-cp311-macosx_11_0_arm64"), sdist("source"))
    ask(model, line.format(url=index.file_url("").rstrip("/")))
    refused = envbuilder("lock", str(model), *ENGINE)
    assert refused.returncode == code, refused.stderr
    assert what in refused.stderr
    assert fix in refused.stderr


def test_two_places_of_one_package_are_refused(envbuilder: Call, model: Path, index: PackageIndex) -> None:
    first, second = (index.file_url(f"{folder}/own-1.0-py3-none-any.whl") for folder in "ab")
    ask(model, f"own @ {first}", f"own @ {second}", f"own @ {second} ; sys_platform == 'win32'")
    refused = envbuilder("lock", str(model), *ENGINE)
    assert refused.returncode == 5
    assert f"`own @ {second}` asks for another own than `own @ {first}`" in refused.stderr
    assert "pip[1]" in refused.stderr


def test_a_package_that_only_exists_as_source_is_built_when_it_is_allowed(
    envbuilder: Call, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    index.add(sdist("only-source", requires=("part<2",)), sdist("only-source", "2.0", requires=("absent",)))
    ask(model, "only-source<2")
    lock = tmp_path / "x.yml"
    again = ("lock", str(model), *ENGINE, "-o", str(lock))
    refused = envbuilder(*again)
    assert refused.returncode == 5
    assert "only-source" in refused.stderr
    assert "`--allow-source only-source`" in refused.stderr
    made = envbuilder(*again, "--allow-source", "Only_Source")
    built, part = locked(made, lock).packages
    assert (built.name, built.version, built.url) == ("only-source", "1.0", "only_source-1.0-py3-none-any.whl")
    assert built.source is not None
    assert built.source.url == index.file_url("only_source-1.0.tar.gz")
    assert {tool.name for tool in built.source.tools} == {"setuptools"}
    assert (built.dependencies, part.version) == (("part",), "1.0")
    first = lock.read_bytes()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "envbuilder.yaml").write_text("allow_source: [only-source]\n")
    assert envbuilder(*again, "--workspace", str(workspace)).returncode == 0
    assert lock.read_bytes() == first


def test_what_was_built_elsewhere_is_built_again_to_the_same_bytes(
    cache: Path, model: Path, index: PackageIndex, tmp_path: Path
) -> None:
    index.add(sdist("only-source"))
    ask(model, "only-source")
    lock = tmp_path / "x.yml"

    def call(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command_line(cache, *arguments, ENVBUILDER_EXTRA_INDEX_URLS=index.url)

    there = tmp_path / "there"
    for name in ("images", "layers", "probes", "snapshots", "debian"):
        (there / name).parent.mkdir(exist_ok=True)
        if (cache / name).exists():
            (there / name).symlink_to(cache / name)
    made = call(there, "lock", str(model), *ENGINE, "-o", str(lock), "--allow-source", "only-source")
    (package,) = locked(made, lock).packages
    rendered = call(cache, "render", str(model), *ENGINE, "--lock", str(lock), "-o", str(tmp_path / "context"))
    assert rendered.returncode == 0, rendered.stderr
    assert list(cache.glob(f"wheels/*/{package.filename}"))
    # The archive that is locked is the one that is built, whatever the index has now.
    index.add(sdist("only-source", requires=("part",)))
    other = tmp_path / "other"
    for name in ("images", "layers", "probes", "snapshots", "debian"):
        other.mkdir(exist_ok=True)
        if (cache / name).exists():
            (other / name).symlink_to(cache / name)
    refused = call(other, "render", str(model), *ENGINE, "--lock", str(lock), "-o", str(tmp_path / "other-context"))
    assert refused.returncode == 11
    assert "the download has sha256:" in refused.stderr


def test_a_repository_is_locked_at_the_commit_that_its_tag_is(envbuilder: Call, model: Path, tmp_path: Path) -> None:
    work = new_repository(tmp_path / "served" / "project")
    setup = SETUP.format(name="of-git", version="1.0", module="of_git", requires=[])
    commit = work.commit({"python/setup.py": setup, "python/of_git.py": ""}, tag="v1")
    work.commit({"python/of_git.py": "later = True"})
    lock = tmp_path / "x.yml"
    again = ("lock", str(model), *ENGINE, "-o", str(lock), "--allow-source", "of-git")
    with running_git(tmp_path / "served") as server:
        url = f"{server.url}/project/.git"
        ask(model, f"of-git @ git+{url}@v1#subdirectory=python")
        (package,) = locked(envbuilder(*again), lock).packages
    assert package.source is not None
    assert (package.version, package.source.url) == ("1.0", f"git+{url}@{commit}")
    assert package.source.subdirectory == "python"
    assert f"url: git+{url}@{commit}#subdirectory=python" in lock.read_text()
    # The server is gone, and what was fetched of a commit is kept.
    ask(model, f"of-git @ git+{url}@{commit}#subdirectory=python")
    (same,) = locked(envbuilder(*again), lock).packages
    assert same == package


def test_source_cannot_be_built_without_a_base(envbuilder: Call, model: Path, index: PackageIndex) -> None:
    index.add(sdist("only-source"))
    ask(model, "only-source")
    refused = envbuilder("lock", str(model), "--no-base", "--allow-source", "only-source")
    assert refused.returncode == 5
    assert "only-source is to be built from source, in a base image, and it is locked for none" in refused.stderr
