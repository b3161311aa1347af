"""`predict --ray` on a real cluster of three nodes, which all are on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder.errors import EngineMissingError, PredictionFailedError
from tests.conftest import EXAMPLES, REPOSITORY, command_line
from tests.kept_environment import kept_python
from tests.server.served import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.process, pytest.mark.network]

FILES, ROWS = 6, 300


@dataclass(frozen=True)
class Cluster:
    """A head and two more nodes, with one CPU each."""

    python: Path
    address: str
    nodes: list[subprocess.Popen[bytes]]
    environ: dict[str, str]

    def predict(self, *words: str | Path, model: Path = EXAMPLES / "scale") -> subprocess.Popen[str]:
        command = (str(self.python), "-m", "envbuilder", "predict", str(model), "--ray", self.address)
        return subprocess.Popen(
            (*command, *map(str, words)), env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in tree(int(child)))]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextmanager
def node(python: Path, environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = (str(python.with_name("ray")), "start", "--block", "--num-cpus=1", "--disable-usage-stats", *words)
    with subprocess.Popen(
        (*command, "--object-store-memory=80000000"), env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            started = tree(process.pid)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            for pid in started:
                if "ray" in command_of(pid):
                    os.kill(pid, signal.SIGKILL)


def wait_for(count: int, python: Path, address: str, environ: dict[str, str]) -> None:
    """Wait until the cluster has so many nodes."""
    script = (
        f"import ray, time\nray.init('{address}', logging_level='ERROR')\n"
        f"while sum(one['Alive'] for one in ray.nodes()) < {count}: time.sleep(0.2)\n"
    )
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run((python, "-c", script), env=environ, check=False, capture_output=True)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, cache: Path) -> Iterator[Cluster]:
    if sys.version_info >= (3, 14):
        pytest.skip("Ray has no wheels for this Python")
    requirements = ("ray==2.60.0", "-r", str(REPOSITORY / "requirements/run.txt"))
    python = kept_python(request, "ray-environment", requirements)
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ENVBUILDER_", "RAY_", "COV_"))},
        "ENVBUILDER_CACHE_DIR": str(cache),
        "PYTHONPATH": str(REPOSITORY),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port = free_port()
    # Ray's sockets are below it, and their names may have about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        nodes = [stack.enter_context(node(python, environ, *head))]
        address = f"127.0.0.1:{port}"
        for count in (1, 2, 3):
            if count > 1:
                nodes.append(stack.enter_context(node(python, environ, f"--address={address}")))
            wait_for(count, python, address, environ)
        yield Cluster(python, address, nodes, environ)


def inputs(folder: Path) -> Path:
    folder.mkdir()
    for number in range(FILES):
        rows = "".join(f"{number * ROWS + row}.5\n" for row in range(ROWS))
        (folder / f"{number}.csv").write_text("value\n" + rows)
    return folder


def everything(folder: Path) -> list[str]:
    """Return the rows of all shards, of which there are as many as files."""
    found = []
    for index in range(FILES):
        head, *rows = (folder / f"out-{index:05}-of-{FILES:05}.csv").read_text().splitlines()
        assert head == "row,prediction,file_name"
        found += rows
    return found


EXPECTED = [f"{row},{2 * (number * ROWS + row + 0.5)},{number}.csv" for number in range(FILES) for row in range(ROWS)]


def test_all_rows_are_there_once_also_when_a_node_is_killed_halfway(cluster: Cluster, tmp_path: Path) -> None:
    words = ("-i", inputs(tmp_path / "in"), "-o", tmp_path / "out.csv", "--shard", str(FILES), "--batch-rows", "20")
    process = cluster.predict(*words)
    victim = cluster.nodes[-1]
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        works = any("envbuilder.server predict" in command_of(pid) for pid in tree(victim.pid))
        if works and any((tmp_path / f"out-{index:05}-of-{FILES:05}.csv").exists() for index in range(FILES)):
            break
        time.sleep(0.02)
    for pid in tree(victim.pid):
        os.kill(pid, signal.SIGKILL)
    out, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert out.splitlines() == [str(tmp_path / f"out-{index:05}-of-{FILES:05}.csv") for index in range(FILES)]
    assert everything(tmp_path) == EXPECTED
    assert not list(tmp_path.glob("*.parts"))

    # The same again has nothing to do, on the two nodes that are left.
    again = cluster.predict(*words)
    assert again.communicate(timeout=300)[0] == out

    (tmp_path / "in/0.csv").write_text("value\n1\nmany\n")
    failed = cluster.predict("-i", tmp_path / "in", "-o", tmp_path / "other.csv", "--shard", "2")
    _, log = failed.communicate(timeout=300)
    assert failed.returncode == PredictionFailedError.exit_code
    assert "shard 0: 1 row failed" in log
    assert "0.csv, row 1, column `value`: a text where a double is expected" in log
    assert "Traceback" not in log

    nobody = cluster.predict("-i", tmp_path / "in", "-o", tmp_path / "x.csv", "--shard", "two")
    assert "is no shard" in nobody.communicate(timeout=60)[1]


def test_a_missing_ray_is_told(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("value\n1\n")
    words = ("-i", "in.csv", "-o", "out.csv", "--ray", "auto", "--shard", "2")
    ended = command_line(cache, "predict", str(EXAMPLES / "scale"), *words, cwd=tmp_path)
    assert ended.returncode == EngineMissingError.exit_code
    assert "pip install 'envbuilder[ray]'" in ended.stderr
