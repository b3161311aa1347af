"""Released sources with the backends in use, built in a base of Debian packages, and what each of them gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import engine_choice, git_checkout, source_archive, wheel_build
from envbuilder.bases import BaseReference, debian_closure
from envbuilder.choices import Choices
from envbuilder.engine import docker as docker_engine
from envbuilder.engine import oci
from envbuilder.errors import BuildFailedError, Source
from envbuilder.git_repository import GitRepository
from tests.conftest import BASE
from tests.git_server import new_repository, running_git
from tests.sdists import sdist

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.engine import Engine
    from envbuilder.machine import Machine
    from envbuilder.wheel_build import BuiltWheel

pytestmark = [pytest.mark.network, pytest.mark.process]

PURE = {
    "setuptools of old": "pymeeus==0.5.12",
    "setuptools, no pyproject.toml": "alembic==1.4.3",
    "setuptools-scm": "pluggy==1.5.0",
    "flit": "tomli==2.0.1",
    "flit, by itself": "flit-core==3.9.0",
    "hatchling and hatch-vcs": "iniconfig==2.0.0",
    "poetry-core": "crashtest==0.4.1",
}


def base_of(engine: Engine, machine: Machine) -> BaseImage:
    return engine.base_image(BaseReference.parse(BASE), platform=engine_choice.platform_of(Choices()), machine=machine)


def build(requirement: str, machine: Machine, base: BaseImage | None = None, engine: Engine = oci) -> BuiltWheel:
    name, _, version = requirement.partition("==")
    archive = sdist(requirement, machine)
    with source_archive.open_tree(archive, machine=machine) as tree:
        return wheel_build.build(
            tree, name=name, version=version, base=base or base_of(engine, machine), engine=engine, machine=machine
        )


def anew(machine: Machine, cache: Path) -> Machine:
    """Return the machine with a cache that knows base images and downloads, and nothing that was built."""
    cache.mkdir()
    for name in ("images", "probes", "snapshots", "debian", "sources", "uv"):
        (machine.settings.cache_dir / name).mkdir(exist_ok=True)
        (cache / name).symlink_to(machine.settings.cache_dir / name)
    return replace(machine, settings=replace(machine.settings, cache_dir=cache))


@pytest.mark.parametrize("requirement", PURE.values(), ids=PURE.keys())
def test_two_caches_get_the_same_bytes(requirement: str, machine: Machine, tmp_path: Path) -> None:
    base_of(oci, machine)
    first, second = (build(requirement, anew(machine, tmp_path / name)) for name in ("first", "second"))
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.filename.endswith("-none-any.whl")


@pytest.mark.engine
@pytest.mark.parametrize("requirement", ["tomli==2.0.1", "pymeeus==0.5.12"])
def test_both_engines_give_the_same_bytes(
    requirement: str, machine: Machine, docker_machine: Machine, tmp_path: Path
) -> None:
    here = build(requirement, anew(machine, tmp_path / "oci"))
    there = build(requirement, anew(docker_machine, tmp_path / "docker"), engine=docker_engine)
    assert here.path.read_bytes() == there.path.read_bytes()


def test_a_compiler_that_the_base_does_not_have_is_named(machine: Machine) -> None:
    with pytest.raises(BuildFailedError) as raised:
        build("psutil==5.9.0", machine)
    (problem,) = raised.value.problems
    assert problem.what.startswith("`psutil` cannot be built from source: it needs a C compiler, which the base")
    assert str(problem.where).endswith("/psutil-5.9.0.tar.gz")
    assert "choose a base image that has one" in str(problem.fix)


def test_a_base_with_a_compiler_builds_extensions_to_the_same_bytes(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("gcc", "libc6-dev", "libpython3.11-dev")
    monkeypatch.setattr(debian_closure, "ROOTS", (*debian_closure.ROOTS, *more))
    # Its own cache: the record of a base does not name its roots.
    large = replace(machine, settings=replace(machine.settings, cache_dir=tmp_path / "large"))
    base = base_of(oci, large)
    first, second = (build("psutil==5.9.0", anew(large, tmp_path / name), base) for name in ("first", "second"))
    assert first.filename == "psutil-5.9.0-cp311-cp311-linux_x86_64.whl"
    assert first.path.read_bytes() == second.path.read_bytes()


SCM = {
    "setuptools-scm": (
        '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "thing"\ndynamic = ["version"]\n[tool.setuptools_scm]\n'
        '[tool.setuptools]\npy-modules = ["thing"]\n'
    ),
    "hatch-vcs": (
        '[build-system]\nrequires = ["hatchling", "hatch-vcs"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "thing"\ndynamic = ["version"]\n[tool.hatch.version]\nsource = "vcs"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["thing.py"]\n'
    ),
}


@pytest.mark.parametrize("pyproject", SCM.values(), ids=SCM.keys())
def test_versions_that_come_from_git_are_right(pyproject: str, machine: Machine, tmp_path: Path) -> None:
    work = new_repository(tmp_path / "served" / "thing")
    first = work.commit({"pyproject.toml": pyproject, "thing.py": f"folder = {str(tmp_path)!r}\n"}, tag="v1.2.3")
    second = work.commit({"thing.py": "a = 2\n"})
    base = base_of(oci, machine)
    with running_git(tmp_path / "served") as server:
        found = []
        for commit in (first, second):
            url = f"git+{server.url}/thing/.git@{commit}"
            repository = GitRepository.parse(url, source=Source(file="requirements.txt"))
            with git_checkout.open_tree(repository, commit=commit, machine=machine) as tree:
                made = wheel_build.build(tree, name="thing", version=None, base=base, engine=oci, machine=machine)
            found.append(made.version)
    assert found[0] == "1.2.3"
    assert found[1].startswith(f"1.2.4.dev1+g{second[:7]}")
