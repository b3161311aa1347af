"""Builds without a network, in a base made of this machine's Python; real backends are in `test_wheel_backends`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import backend_call, digest, engine_choice, sandbox, wheel_build
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.engine import oci
from envbuilder.errors import BuildFailedError, EnvBuilderError, InvalidFileError, LockImpossibleError, Source
from envbuilder.machine import Machine
from envbuilder.settings import Settings
from envbuilder.source_tree import SourceTree
from tests import package_index as package_indexes
from tests import root_file_system as root_file_systems
from tests.conftest import REPOSITORY, RecordingReporter
from tests.package_index import PackageIndex, wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.wheel_build import BuiltWheel

package_index = package_indexes.package_index
root_file_system = root_file_systems.root_file_system
pytestmark = pytest.mark.process
WHERE = Source(file="https://index.example/thing-1.0.tar.gz")

# Backends of real life write times and orders of their own.
BACKEND = """
import os, random, sys, zipfile
print("building", file=sys.stderr)
NAME, VERSION, TAG = "thing", "1.0", "py3-none-any"
EXTRA = {}
def write(directory, name=None):
    info = f"{NAME}-{VERSION}.dist-info"
    members = {
        "thing.py": open("thing.py").read(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\nRequires-Dist: numpy>=1\\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: {TAG}\\n",
        f"{info}/RECORD": "",
        **EXTRA,
    }
    names = list(members)
    random.shuffle(names)
    name = name or f"{NAME}-{VERSION}-{TAG}.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for member in names:
            archive.writestr(member, members[member])
    return name
def build_wheel(directory, config_settings=None, metadata_directory=None):
    return write(directory)
"""
PYPROJECT = '[build-system]\nrequires = {}\nbuild-backend = "own"\nbackend-path = ["tools"]\n'


@pytest.fixture(scope="session")
def base(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseImage, Settings]:
    """A base image with this machine's Python, and the settings whose cache holds it."""
    reason = sandbox.is_allowed()
    if reason is not None:
        pytest.skip(f"this machine allows no sandbox: {reason}")
    folder = tmp_path_factory.mktemp("base")
    python = root_file_systems.own_interpreter().executable
    with tarfile.open(folder / "root.tar", "w") as tar:
        tar.add(root_file_system, ".")
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, python
        tar.addfile(link)
    settings = Settings(cache_dir=folder / "cache", environ=(("PATH", os.environ["PATH"]),))
    machine = Machine(settings=settings, reporter=RecordingReporter())
    reference = BaseReference.parse(str(folder / "root.tar"))
    return oci.base_image(reference, platform=engine_choice.platform_of(Choices()), machine=machine), settings


@pytest.fixture
def machine(base: tuple[BaseImage, Settings], package_index: PackageIndex, reporter: RecordingReporter) -> Machine:
    """A machine with an index of its own; its cache holds the base, and what other tests built."""
    return Machine(settings=replace(base[1], index_url=package_index.url), reporter=reporter)


def source(folder: Path, *, backend: str = "", requires: tuple[str, ...] = (), pyproject: str = "") -> SourceTree:
    """Write a source with a backend of its own; `backend` is added to BACKEND."""
    written: Mapping[str, str] = {
        "pyproject.toml": pyproject or PYPROJECT.format(json.dumps(list(requires))),
        "tools/own.py": BACKEND + backend,
        # No test finds what another one built.
        "thing.py": f"folder = {str(folder)!r}\n",
    }
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return tree_of(folder)


def tree_of(folder: Path) -> SourceTree:
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    content = [[str(path), path.read_text()] for path in names]
    return SourceTree(directory=folder, digest=digest.of_json(content), where=WHERE)


def build(tree: SourceTree, base: tuple[BaseImage, Settings], machine: Machine, **options: Any) -> BuiltWheel:  # noqa: ANN401
    wanted: dict[str, Any] = {"name": "thing", "version": "1.0", **options}
    return wheel_build.build(tree, base=base[0], engine=oci, machine=machine, **wanted)


def failed(tree: SourceTree, base: tuple[BaseImage, Settings], machine: Machine, **options: Any) -> EnvBuilderError:  # noqa: ANN401
    before = set(machine.wheels.glob("*/thing-*"))
    with pytest.raises(EnvBuilderError) as raised:
        build(tree, base, machine, **options)
    assert set(machine.wheels.glob("*/thing-*")) == before
    assert {path.suffix for path in machine.builds.glob("*")} <= {".json", ""}
    assert not list(machine.builds.glob(".tmp-*"))
    return raised.value


def test_a_source_becomes_a_wheel_in_the_cache_once(
    base: tuple[BaseImage, Settings], machine: Machine, reporter: RecordingReporter, tmp_path: Path
) -> None:
    tree = source(tmp_path / "source")
    made = build(tree, base, machine)
    assert made == build(tree, base, machine)
    assert [line for _, line in reporter.lines].count("building") == 2  # once for each hook
    assert made == wheel_build.BuiltWheel(
        filename="thing-1.0-py3-none-any.whl",
        sha256=digest.of_file(made.path),
        name="thing",
        version="1.0",
        requires=("numpy>=1",),
        requires_python="",
        tools=(),
        path=machine.wheels / digest.hex_of(made.sha256) / "thing-1.0-py3-none-any.whl",
    )
    with zipfile.ZipFile(made.path) as archive:
        assert archive.read("thing.py").decode() == (tree.directory / "thing.py").read_text()
    assert sorted(path.name for path in tree.directory.iterdir()) == ["pyproject.toml", "thing.py", "tools"]


def test_two_builds_are_the_same_bytes(base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path) -> None:
    tree = source(tmp_path / "source")
    made = build(tree, base, machine)
    data = made.path.read_bytes()
    for record in machine.builds.glob("*.json"):
        record.unlink()
    made.path.unlink()
    time.sleep(2.1)  # a zip file's time has steps of two seconds
    assert build(tree, base, machine).path.read_bytes() == data


def test_a_wheel_that_was_deleted_is_built_again(
    base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    tree = source(tmp_path / "source")
    made = build(tree, base, machine)
    made.path.unlink()
    assert build(tree, base, machine) == made
    assert made.path.exists()


def test_the_umask_does_not_matter(
    base: tuple[BaseImage, Settings], machine: Machine, package_index: PackageIndex, tmp_path: Path
) -> None:
    package_index.add(wheel("helper"))
    before = os.umask(0o077)
    try:
        made = build(source(tmp_path / "source", requires=("helper",), backend="import helper"), base, machine)
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o644


def test_what_a_build_sees_is_fixed(base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path) -> None:
    backend = """
import json, sys
def build_wheel(directory, config_settings=None, metadata_directory=None):
    open("thing.py", "w").write(json.dumps({
        "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "user": os.getuid(),
        "umask": os.umask(0o22), "executable": sys.executable, "prefix": sys.prefix,
        "files": sorted(os.listdir(".")),
    }))
    return write(directory)
"""
    made = build(source(tmp_path / "source", backend=backend), base, machine)
    with zipfile.ZipFile(made.path) as archive:
        told = json.loads(archive.read("thing.py"))
    assert {name: value for name, value in told["environ"].items() if name != "LC_CTYPE"} == {
        "PATH": f"/build/environment/bin:{dict(base[0].environ)['PATH']}",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "315532800",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert (told["cwd"], told["user"], told["umask"]) == ("/build/source", 1000, 0o022)
    assert (told["executable"], told["prefix"]) == ("/build/environment/bin/python", "/build/environment")
    assert told["path"][0] == "/build/source/tools"
    assert "" not in told["path"]
    assert told["files"] == ["pyproject.toml", "thing.py", "tools"]


def test_tools_come_from_the_index_and_build_it_again_without(
    base: tuple[BaseImage, Settings], machine: Machine, package_index: PackageIndex, tmp_path: Path
) -> None:
    package_index.add(
        wheel(
            "maker",
            requires=("helper",),
            files={"maker.py": BACKEND.encode(), "__init__.py": b""},
            entry_points="[console_scripts]\nmake-it = maker:main\n",
        ),
        wheel("helper"),
    )
    text = '[build-system]\nrequires = ["maker"]\nbuild-backend = "maker"\n'
    tree = source(tmp_path / "source", pyproject=text)
    made = build(tree, base, machine)
    assert [(tool.name, tool.version) for tool in made.tools] == [("helper", "1.0"), ("maker", "1.0")]
    package_index.files.clear()
    for record in machine.builds.glob("*.json"):
        record.unlink()
    assert build(tree, base, machine, tools=made.tools) == made


def test_a_backend_may_ask_for_more(
    base: tuple[BaseImage, Settings],
    machine: Machine,
    reporter: RecordingReporter,
    package_index: PackageIndex,
    tmp_path: Path,
) -> None:
    package_index.add(wheel("helper"))
    backend = """
def get_requires_for_build_wheel(config_settings=None): return ["Helper >= 0"]
def build_wheel(directory, config_settings=None, metadata_directory=None):
    import helper
    return write(directory)
"""
    tree = source(tmp_path / "source", backend=backend)
    made = build(tree, base, machine)
    assert [tool.name for tool in made.tools] == ["helper"]
    lines = len(reporter.lines)
    assert build(tree, base, machine) == made
    assert "building" not in [line for _, line in reporter.lines[lines:]]
    for record in machine.builds.glob("*.json"):
        record.unlink()
    assert build(tree, base, machine, tools=made.tools) == made


def test_a_subdirectory_is_built(base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path) -> None:
    source(tmp_path / "source" / "python" / "thing")
    tree = replace(tree_of(tmp_path / "source"), subdirectory="python/thing")
    assert build(tree, base, machine).name == "thing"


def test_two_at_once_build_once(
    base: tuple[BaseImage, Settings], machine: Machine, reporter: RecordingReporter, tmp_path: Path
) -> None:
    tree = source(tmp_path / "source", backend="import time; time.sleep(0.5)")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build(tree, base, machine), range(2))
    assert first == second
    lines = [line for _, line in reporter.lines]
    assert lines.count("building") == 2
    assert "another envbuilder builds this wheel; waiting for it" in lines


ASKED = {
    "name": ({"name": "other"}, "it is `thing 1.0`, expected `other 1.0`"),
    "version": ({"version": "2"}, "it is `thing 1.0`, expected `thing 2`"),
    "version alone": ({"name": None, "version": "2"}, "it is `thing 1.0`, expected `2`"),
}


@pytest.mark.parametrize(("asked", "said"), ASKED.values(), ids=ASKED.keys())
def test_another_package_than_the_expected_one_is_refused(
    asked: dict[str, Any], said: str, base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    tree = source(tmp_path / "source")
    build(tree, base, machine, name="Thing", version="1.0.0")
    build(tree, base, machine, name=None, version=None)
    with pytest.raises(BuildFailedError, match=said):
        build(tree, base, machine, **asked)


WRONG = {
    "raises": ("def build_wheel(*_): raise ValueError('no')", "its build ended with code 1"),
    "exits": ("def build_wheel(*_): sys.exit('enough')", "enough"),
    "kills itself": ("def build_wheel(*_): os.kill(os.getpid(), 9)", "its build ended with code 1"),
    "no such hook": ("del build_wheel", "its backend left nothing, expected one wheel"),
    "nothing": ("def build_wheel(*_): return 'thing-1.0-py3-none-any.whl'", "its backend left nothing"),
    "no name": ("def build_wheel(directory, *_): write(directory)", "its backend left `thing-1.0-py3-none-any.whl`"),
    "two": (
        "def build_wheel(directory, *_): write(directory, 'a-1-py3-none-any.whl'); return write(directory)",
        "its backend left `a-1-py3-none-any.whl`, `thing-1.0-py3-none-any.whl`, expected one",
    ),
    "a link": (
        "def build_wheel(directory, *_): os.symlink('/etc/passwd', directory + '/t-1-py3-none-any.whl'); return 't'",
        "its backend left nothing",
    ),
    "a folder": (
        "def build_wheel(directory, *_): os.mkdir(directory + '/t-1-py3-none-any.whl'); return 't'",
        "its backend left nothing",
    ),
    "another platform": ("TAG = 'cp27-cp27mu-win32'", "its wheel `thing-1.0-cp27-cp27mu-win32.whl` does not fit"),
    "path out": ("EXTRA = {'../out': ''}", "it holds the path '../out', which leaves it"),
    "own answer": (
        "def build_wheel(directory, *_): open(directory + '/requires.json', 'w').write('{}'); return write(directory)",
        "its backend asks for what is no list of requirements",
    ),
    "no json": (
        "def build_wheel(directory, *_): open(directory + '/requires.json', 'w').write('{'); return write(directory)",
        "its backend gave no answer",
    ),
    "wants an option": (
        "def get_requires_for_build_wheel(*_): return ['--index-url=https://evil.example']",
        "`--index-url=https://evil.example` is not a requirement",
    ),
    "is no object": ("del sys.modules['own']; raise ImportError('no backend')", "no backend"),
}


@pytest.mark.parametrize(("backend", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_backend_that_fails_or_lies_is_told(
    backend: str, said: str, base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    error = failed(source(tmp_path / "source", backend=backend), base, machine)
    (problem,) = error.problems
    assert said in problem.what
    assert problem.where == WHERE or str(problem.where).startswith(f"{WHERE}: requires")
    assert problem.fix


def test_a_backend_that_is_not_satisfied_is_left(
    base: tuple[BaseImage, Settings], machine: Machine, package_index: PackageIndex, tmp_path: Path
) -> None:
    package_index.add(wheel("first"), wheel("second"))
    backend = """
def get_requires_for_build_wheel(config_settings=None):
    try: import first
    except ImportError: return ["first"]
    return ["first", "second"]
"""
    error = failed(source(tmp_path / "source", backend=backend), base, machine)
    assert "its backend never has enough tools" in str(error)


def test_a_backend_from_elsewhere_than_its_path_is_not_used(
    base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    text = PYPROJECT.format("[]").replace('"own"', '"json"')
    tree = source(tmp_path / "source", pyproject=text)
    assert "the backend `json` does not come from its backend-path" in str(failed(tree, base, machine))


def test_tools_that_exist_as_source_only_are_refused_by_name(
    base: tuple[BaseImage, Settings], machine: Machine, package_index: PackageIndex, tmp_path: Path
) -> None:
    package_index.files["maker-1.0.tar.gz"] = b"source"
    error = failed(source(tmp_path / "source", requires=("maker",)), base, machine)
    assert isinstance(error, LockImpossibleError)
    assert "`thing` cannot be built from source: its build tools (maker) cannot be had as wheels" in str(error)


def test_a_build_that_takes_too_long_is_ended(
    base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_call, "TIMEOUT", 2)
    backend = "import time\ndef build_wheel(*_): os.fork(); time.sleep(600)"
    begin = time.monotonic()
    error = failed(source(tmp_path / "source", backend=backend), base, machine)
    assert "it took longer than 2 s" in str(error)
    assert time.monotonic() - begin < 20


def test_output_without_end_fills_no_memory(base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path) -> None:
    backend = "def build_wheel(*_):\n for _ in range(64): os.write(1, b'x' * (1 << 20))\n raise ValueError('end')"
    error = failed(source(tmp_path / "source", backend=backend), base, machine)
    assert "ValueError: end" in str(error)
    assert len(str(error)) < 2_000_000


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "it has neither `pyproject.toml` nor `setup.py`"),
        ({"pyproject.toml": "x = '" + "y" * (1 << 20) + "'"}, "its pyproject.toml has more than 1048576 bytes"),
        ({"pyproject.toml": "[build-system]"}, "does not say what it `requires`"),
    ],
    ids=["nothing", "too large", "no requires"],
)
def test_what_is_no_project_is_told(
    files: dict[str, str], said: str, base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    error = failed(tree_of(folder), base, machine)
    assert isinstance(error, InvalidFileError)
    assert said in str(error)


BUILD_ALONE = """
import sys
from pathlib import Path
from envbuilder import engine_choice, wheel_build
from envbuilder.bases import BaseReference
from envbuilder.choices import Choices
from envbuilder.engine import oci
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.test_wheel_build import tree_of
machine = Machine(settings=Settings(cache_dir=Path(sys.argv[1])), reporter=Reporter())
base = oci.base_image(BaseReference.parse(sys.argv[2]), platform=engine_choice.platform_of(Choices()), machine=machine)
wheel_build.build(tree_of(Path(sys.argv[3])), name=None, version=None, base=base, engine=oci, machine=machine)
"""


def test_a_build_killed_at_any_moment_leaves_nothing_half_written(
    base: tuple[BaseImage, Settings], machine: Machine, tmp_path: Path
) -> None:
    tree = source(tmp_path / "source")
    cache = machine.settings.cache_dir
    command = (sys.executable, "-c", BUILD_ALONE, str(cache), str(cache.parent / "root.tar"), str(tree.directory))
    moments = random.Random(7)
    for _ in range(6):
        child = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
        time.sleep(moments.uniform(0.5, 3.0))
        child.send_signal(signal.SIGKILL)
        child.wait()
        for path in machine.wheels.glob("[0-9a-f]*/*.whl"):
            assert digest.of_file(path) == f"sha256:{path.parent.name}"
        for path in machine.builds.glob("*.json"):
            json.loads(path.read_text())
    assert build(tree, base, machine).name == "thing"
