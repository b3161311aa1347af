"""Fixtures that many tests share: a machine with a cache, the examples, a real Docker engine, a fence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import docker_engine
from tests.by_engine import ByEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

docker_host = docker_engine.docker_host

# Machines are shared and noisy: what a test takes says nothing of what it tests.
hypothesis.settings.register_profile(
    "envbuilder", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("envbuilder")

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
EXAMPLE_NAMES = ("iris", "trees", "text", "scale")
BASE = "debian:bookworm"


@dataclass
class RecordingReporter(Reporter):
    """Keeps what was reported."""

    warnings: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def ended(self, stage: str, seconds: float, detail: str = "") -> None:
        del seconds, detail
        self.stages.append(stage)

    def line(self, stage: str, text: str) -> None:
        self.lines.append((stage, text))

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config) -> Path:
    """A cache that outlives the run: a second run of the tests downloads nothing."""
    if pytestconfig.cache is None:
        pytest.fail("the tests need pytest's cache plugin")
    return pytestconfig.cache.mkdir("envbuilder")


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def machine(cache: Path, reporter: RecordingReporter) -> Machine:
    """This machine, with the tests' own cache."""
    return Machine(settings=replace(Settings.from_environ(os.environ), cache_dir=cache), reporter=reporter)


@pytest.fixture
def docker_machine(machine: Machine, docker_host: str) -> Machine:
    """This machine, with the tests' Docker engine."""
    environ = {**dict(machine.settings.environ), "DOCKER_HOST": docker_host}
    return replace(machine, settings=replace(machine.settings, environ=tuple(environ.items())))


def expected(name: str) -> list[dict[str, Any]]:
    """Return the requests to an example with what MLflow's own server answers."""
    cases: list[dict[str, Any]] = json.loads((EXAMPLES / "expected" / f"{name}.json").read_text())
    return cases


def command_line(cache: Path, *arguments: str, cwd: Path | None = None, **environ: str) -> CompletedProcess[str]:
    """Run `envbuilder` with a cache, and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "envbuilder", *arguments],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(cache), **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Go on as a user who may enter `folder` and owns nothing in it, where the tests run as root: root reads all."""
    if os.geteuid() != 0:
        yield
        return
    closed = [(path, path.stat().st_mode) for path in (folder, *folder.parents) if path.stat().st_mode & 0o055 != 0o055]
    for path, mode in closed:
        path.chmod(mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in closed:
            path.chmod(mode)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first whose tests take long: those that use Docker's engine, then those that start programs."""
    files = {item: item.nodeid.partition("::")[0] for item in items}
    docker = {files[item] for item in items if item.get_closest_marker("engine")}
    starting = {files[item] for item in items if any(mark.name in _STARTS for mark in item.iter_markers())}
    items.sort(key=lambda item: (files[item] not in docker, files[item] not in starting))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEngine:
    """Say which tests run in one process where they run on several cores."""
    return ByEngine(config, log)


_STARTS = {"engine", "network", "process"}


@pytest.fixture(scope="session", autouse=True)
def untraced_threads() -> None:
    """Measure the main thread alone: two threads that begin at once cannot both be traced on Python 3.11, and die."""
    threading.settrace(None)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Hear Ctrl-C, and have programs hear it, also where a shell started the tests in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that starts a program without the mark that says so."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if marks & _STARTS:
        yield
        return
    started: list[object] = []
    original = subprocess.Popen.__init__

    def noted(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        started.append(arguments[0] if arguments else options.get("args"))
        original(self, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    yield
    assert not started, f"this test starts programs and needs the mark `process`: {started}"
