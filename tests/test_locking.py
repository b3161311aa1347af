from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import digest, kept_lock, locking
from envbuilder.base_image import BaseImage, Interpreter
from envbuilder.environment_spec import EnvironmentSpec
from envbuilder.errors import BaseImageError, InvalidFileError, LockImpossibleError, LockMismatchError, Source
from envbuilder.fields import Stated
from envbuilder.locked import Lock, LockedBase
from envbuilder.lockfile import Lockfile
from envbuilder.locking import Place
from envbuilder.machine import Machine
from envbuilder.oci_image import Platform
from envbuilder.python_request import PythonRequest
from envbuilder.reporter import Reporter
from envbuilder.requirement import Requirement
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests import package_index as package_indexes
from tests.package_index import PackageIndex, wheel

package_index = package_indexes.package_index
FILE = Source(file="churn/conda.yaml")
BASE = BaseImage(
    reference="python:3.11-slim",
    pinned="python:3.11-slim",
    digest=digest.of_bytes(b"base"),
    platform=Platform.parse("linux/amd64"),
    interpreter=Interpreter(version="3.11.2", executable="/usr/bin/python3.11", glibc="2.36"),
    environ=(),
)

TARGET = Target(subdir="linux-64", glibc="2.36")
PLACE = Place.of_base(BASE)


class Told(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def machine(tmp_path: Path, package_index: PackageIndex) -> Machine:
    package_index.add(wheel("top", requires=("part>=2",)), wheel("part", "1.0"), wheel("part", "2.0"))
    settings = Settings(
        cache_dir=tmp_path / "cache",
        index_url=package_index.url,
        environ=(("PATH", str(Path(sys.executable).parent)), ("HOME", str(tmp_path))),
    )
    return Machine(settings=settings, reporter=Told())


def spec(*lines: str, python: str = "3.11.2", constraints: tuple[str, ...] = ()) -> EnvironmentSpec:
    def requirements(texts: tuple[str, ...], key: str) -> tuple[Requirement, ...]:
        return tuple(Requirement.parse(text, source=FILE.child(key).child(number)) for number, text in enumerate(texts))

    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse(python), source=FILE.child("dependencies").child(0)),
        requirements=requirements(lines, "pip"),
        constraints=requirements(constraints, "constraints"),
    )


@pytest.mark.parametrize("python", ["3.11.2", "3.11", ">=3.8", "3.10|3.11"])
def test_the_bases_python_is_accepted(python: str, machine: Machine) -> None:
    locking.check_python(spec(python=python), BASE, machine)
    assert isinstance(machine.reporter, Told)
    assert machine.reporter.warnings == []


def test_another_micro_version_is_a_warning(machine: Machine) -> None:
    locking.check_python(spec(python="3.11.7"), BASE, machine)
    assert isinstance(machine.reporter, Told)
    assert machine.reporter.warnings == [
        (
            "the model asks for Python 3.11.7 (churn/conda.yaml: dependencies[0]), "
            "the base provides 3.11.2: same minor version, same packages"
        )
    ]


@pytest.mark.parametrize(
    ("python", "suggested"),
    [("3.8.13", "3.8.13"), ("3.12", "3.12"), (">=3.12", "3.11"), ("==3.10.*", "3.10")],
)
def test_another_minor_version_is_refused(python: str, suggested: str, machine: Machine) -> None:
    with pytest.raises(BaseImageError) as raised:
        locking.check_python(spec(python=python), BASE, machine)
    assert str(raised.value) == (
        f"the base image `python:3.11-slim` provides Python 3.11.2, the model asks for {python}\n"
        "  at churn/conda.yaml: dependencies[0]\n"
        f"  fix: pass a base with that Python, e.g. `--base python:{suggested}-slim`"
    )


@pytest.mark.process
def test_a_lock_belongs_to_its_spec_and_base(machine: Machine) -> None:
    asked = spec("top", constraints=("part<3",))
    made = locking.lock(asked, PLACE, machine=machine, tool_version="1.2.3")
    assert [(package.name, package.version) for package in made.packages] == [("part", "2.0"), ("top", "1.0")]
    assert replace(made, packages=()) == Lock(
        packages=(),
        target=TARGET,
        packages_digest=digest.parse(asked.packages_digest),
        base=LockedBase(reference="python:3.11-slim", digest=BASE.digest),
        python_version="3.11.2",
        tool_version="1.2.3",
    )


def test_source_is_refused_by_name_unless_it_is_allowed(machine: Machine) -> None:
    with pytest.raises(LockImpossibleError) as raised:
        locking.lock(
            spec("x @ git+https://h/x", "y @ https://h/y.zip", "top"), PLACE, machine=machine, tool_version="1"
        )
    assert [one.what for one in raised.value.problems] == [
        "`x @ git+https://h/x` is source, and nothing is built unasked",
        "`y @ https://h/y.zip` is source, and nothing is built unasked",
    ]
    assert [one.fix for one in raised.value.problems] == [
        f"allow it: `--allow-source {name}`; it is built once, in the base image, without network" for name in "xy"
    ]


@pytest.mark.process
def test_what_conflicts_is_named_with_its_places(machine: Machine) -> None:
    with pytest.raises(LockImpossibleError) as raised:
        locking.lock(spec("unrelated-name", "top", "Part==1.0"), PLACE, machine=machine, tool_version="1")
    places = {str(item.where) for item in raised.value.problems}
    assert raised.value.problems[0].what.startswith("no set of packages satisfies the requirements\n")
    assert places <= {f"churn/conda.yaml: pip[{number}]" for number in range(3)}
    assert raised.value.problems[0].fix is not None


@pytest.mark.process
def test_all_lines_of_a_conflict_are_named(machine: Machine) -> None:
    with pytest.raises(LockImpossibleError) as raised:
        locking.lock(spec("top", "Part==1.0"), PLACE, machine=machine, tool_version="1")
    first, second = raised.value.problems
    assert (str(first.where), str(second.where)) == ("churn/conda.yaml: pip[0]", "churn/conda.yaml: pip[1]")
    assert second.what == "`part==1.0` takes part in it"


@pytest.mark.process
def test_a_lock_is_made_once(machine: Machine, package_index: PackageIndex) -> None:
    first, known = locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="1")
    assert not known
    package_index.asked.clear()
    assert locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="2") == (first, True)
    assert package_index.asked == []


@pytest.mark.process
@pytest.mark.parametrize("damage", ["", "version: 1\n", "a: [", "\x00"], ids=["empty", "incomplete", "cut", "binary"])
def test_a_damaged_lock_is_made_again(damage: str, machine: Machine) -> None:
    first, _ = locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="1")
    (kept,) = machine.locks.iterdir()
    kept.write_text(damage)
    assert locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="1") == (first, False)
    assert locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="1") == (first, True)


@pytest.mark.process
@pytest.mark.parametrize("what", ["spec", "base", "platform", "index", "extra index", "find-links", "cuda", "source"])
def test_another_question_has_an_answer_of_its_own(what: str, machine: Machine, package_index: PackageIndex) -> None:
    locking.lock_once(spec("top"), PLACE, machine=machine, tool_version="1")
    settings, asked, base = machine.settings, spec("top"), BASE
    match what:
        case "spec":
            asked = spec("top", "part")
        case "base":
            base = replace(BASE, digest=digest.of_bytes(b"other"))
        case "platform":
            base = replace(BASE, platform=Platform.parse("linux/arm64"))
        case "index":
            settings = replace(settings, index_url=f"{package_index.url}/x/..")
        case "find-links":
            settings = replace(settings, find_links=(f"{package_index.url}/part/",))
        case "extra index":
            settings = replace(settings, extra_index_urls=(package_index.url,))
        case _:
            assert what in {"cuda", "source"}
    other = replace(machine, settings=settings)
    place = Place.of_base(base, cuda="12.4" if what == "cuda" else None)
    allowed = ("top",) if what == "source" else ()
    assert not locking.lock_once(asked, place, machine=other, tool_version="1", allow_source=allowed)[1]


@pytest.fixture
def lock() -> Lock:
    return Lock(
        packages=(wheel("top").locked(),),
        target=TARGET,
        packages_digest=digest.parse(spec("top").packages_digest),
        base=LockedBase(reference=BASE.reference, digest=BASE.digest),
        python_version="3.11.2",
        tool_version="0.0.1",
    )


def test_a_lock_that_fits_is_read(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "lock.yml").write_text(Lockfile.of([lock]).to_text())
    assert kept_lock.read(tmp_path / "lock.yml", spec("TOP"), BASE) == lock


def test_everything_that_differs_is_told(lock: Lock, tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    path.write_text(Lockfile.of([lock]).to_text())
    base = replace(
        BASE,
        digest=digest.of_bytes(b"other"),
        interpreter=replace(BASE.interpreter, version="3.11.9", glibc="2.31"),
    )
    with pytest.raises(LockMismatchError) as raised:
        kept_lock.read(path, spec("top", "part"), base)
    keys = [
        item.where.key.removeprefix("metadata.custom_metadata.")
        for item in raised.value.problems
        if item.where is not None
    ]
    assert keys == ["packages_digest", "linux-64.base_digest", "linux-64.glibc", "linux-64.python_version"]
    assert raised.value.problems[3].what == "the base has another Python: locked 3.11.2, now 3.11.9"
    assert raised.value.problems[3].fix == (
        f"`envbuilder lock MODEL --base python:3.11-slim -o {path}`, or pass the base it was locked for"
    )


def test_a_lock_of_other_platforms_is_told(lock: Lock, tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    path.write_text(Lockfile.of([lock, replace(lock, target=Target(subdir="osx-arm64"))]).to_text())
    with pytest.raises(LockMismatchError) as raised:
        kept_lock.read(path, spec("top"), replace(BASE, platform=Platform.parse("linux/arm64")))
    (problem,) = raised.value.problems
    assert (problem.what, problem.fix) == (
        "the lock is for linux-64, osx-arm64, the image for linux-aarch64",
        f"`envbuilder lock MODEL --platform linux/arm64 -o {path}`",
    )


@pytest.mark.parametrize(
    ("python", "glibc", "differs"),
    [("3.11", "2.28", []), ("3.11.7", "2.36", []), ("3.11", "2.39", ["glibc"]), ("3.10", "2.28", ["python_version"])],
)
def test_a_lock_of_no_base_fits_every_base_that_runs_it(
    python: str, glibc: str, differs: list[str], lock: Lock, tmp_path: Path
) -> None:
    path = tmp_path / "lock.yml"
    without = replace(lock, base=None, python_version=python, target=Target(subdir="linux-64", glibc=glibc))
    path.write_text(Lockfile.of([without]).to_text())
    if not differs:
        assert kept_lock.read(path, spec("top"), BASE) == without
        return
    with pytest.raises(LockMismatchError) as raised:
        kept_lock.read(path, spec("top"), BASE)
    assert [str(one.where).rpartition(".")[2] for one in raised.value.problems] == differs


@pytest.mark.parametrize(
    ("python", "expected"),
    [("3.8.5", "3.8.5"), ("3.9", "3.9"), (">=3.8,<3.11", "3.10"), ("*", "3.14"), ("3.7", "3.7"), ("2.7.18", "2.7.18")],
)
def test_without_a_base_python_is_the_one_that_is_asked_for(python: str, expected: str) -> None:
    assert Place.without_base(spec(python=python), TARGET).python_version == expected


def test_a_python_that_nobody_knows_is_told() -> None:
    with pytest.raises(LockImpossibleError, match=r"nothing is known of a Python >=3\.99") as raised:
        Place.without_base(spec(python=">=3.99"), TARGET)
    assert "3.6 to 3.14" in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["absent", "binary"])
def test_a_lock_that_cannot_be_read_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidFileError, match="the lock cannot be read") as raised:
        kept_lock.read(path, spec("top"), BASE)
    assert raised.value.problems[0].fix == "make it with `envbuilder lock MODEL -o FILE`"
