"""`predict --ray` on a real cluster, whose nodes all are on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import ray_cluster
from envbuilder.batch import Batch
from envbuilder.choices import Choices
from envbuilder.errors import EngineMissingError, InvalidFileError, PredictionFailedError
from envbuilder.version import __version__
from envbuilder.workspace import Workspace
from tests.conftest import EXAMPLES, REPOSITORY, command_line
from tests.kept_environment import kept_python
from tests.server.served import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FILES, ROWS = 6, 300
PATIENCE = 300
HEAD = "row,prediction,file_name"


@dataclass(frozen=True)
class Cluster:
    """A head and two more nodes, with one CPU each."""

    python: Path
    port: int
    client_port: int
    environ: dict[str, str]
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    runs: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def predict(self, *words: str | Path, address: str | None = None) -> subprocess.Popen[str]:
        """Start it for the model that is `scale`, seen from the folder of the examples."""
        ray = ("--ray", address if address is not None else self.address)
        run = subprocess.Popen(
            (str(self.python), "-m", "envbuilder", "predict", "scale", *ray, *map(str, words)),
            env=self.environ,
            cwd=EXAMPLES,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.runs.append(run)
        return run

    @contextmanager
    def node(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a node while the block lasts; of its processes none is left then."""
        command = (str(self.python.with_name("ray")), "start", "--block", "--num-cpus=1", "--disable-usage-stats")
        more = ("--node-ip-address=127.0.0.1", "--object-store-memory=80000000")
        with subprocess.Popen(
            (*command, *more, *words),
            env=self.environ,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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
                send(signal.SIGKILL, [pid for pid in started if "ray" in command_of(pid)])

    def wait(self) -> None:
        """Wait until all its nodes are there."""
        script = (
            f"import ray, time\nray.init('{self.address}', logging_level='ERROR')\n"
            f"while sum(one['Alive'] for one in ray.nodes()) < {len(self.nodes)}: time.sleep(0.2)\n"
        )
        command = (self.python, "-c", script)
        deadline = time.monotonic() + PATIENCE
        # Where it asks too early, on a node that is not ready yet, Ray gives up.
        while True:
            done = subprocess.run(command, env=self.environ, check=False, capture_output=True, timeout=PATIENCE)
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in tree(int(child)))]


def command_of(pid: int) -> str:
    """Return the command line of a process; nothing, where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def send(number: int, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, cache: Path) -> Iterator[Cluster]:
    requirements = ("ray[client]==2.60.0", "-r", str(REPOSITORY / "requirements/run.txt"))
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ENVBUILDER_", "RAY_", "COV_"))},
        "ENVBUILDER_CACHE_DIR": str(cache),
        "PYTHONPATH": str(REPOSITORY),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    found = Cluster(kept_python(request, "ray-environment", requirements), free_port(), free_port(), environ)
    # Ray's sockets are below it, and their names may have about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        ports = (f"--port={found.port}", f"--ray-client-server-port={found.client_port}")
        head = ("--head", *ports, "--include-dashboard=false", f"--temp-dir={folder}")
        found.nodes.append(stack.enter_context(found.node(*head)))
        # One after the other: each takes the first name that is free for its socket.
        sockets = Path(folder, "session_latest/sockets")
        wait_until((sockets / "raylet").exists, found.nodes[-1])
        for number in (1, 2):
            found.nodes.append(stack.enter_context(found.node(f"--address={found.address}")))
            wait_until((sockets / f"raylet.{number}").exists, found.nodes[-1])
        found.wait()
        try:
            yield found
        finally:
            for run in found.runs:
                run.kill()


def inputs(folder: Path, files: int = FILES) -> Path:
    folder.mkdir()
    for number in range(files):
        rows = "".join(f"{number * ROWS + row}.5\n" for row in range(ROWS))
        (folder / f"{number}.csv").write_text("value\n" + rows)
    return folder


def outputs(folder: Path, count: int) -> list[Path]:
    return [folder / f"out-{index:05}-of-{count:05}.csv" for index in range(count)]


@pytest.mark.process
@pytest.mark.network
def test_shards_on_a_cluster_come_to_what_a_run_here_comes_to(cluster: Cluster, cache: Path, tmp_path: Path) -> None:
    words = ("-i", str(inputs(tmp_path / "in", 3)))
    ran = cluster.predict(*words, "-o", tmp_path / "out.csv", "--shard", "2", "--json")
    out, log = ran.communicate(timeout=PATIENCE)
    assert ran.returncode == 0, log
    places = outputs(tmp_path, 2)
    assert {**json.loads(out), "seconds": 0} == {
        "outputs": [str(one) for one in places],
        "rows": 3 * ROWS,
        "failed": 0,
        "files": 3,
        "failures": [],
        "seconds": 0,
    }
    whole = tmp_path / "whole.csv"
    here = command_line(cache, "predict", str(EXAMPLES / "scale"), *words, "-o", str(whole))
    assert here.returncode == 0, here.stderr
    head, *rows = whole.read_text().splitlines()
    shards = [one.read_text().splitlines() for one in places]
    assert {one[0] for one in shards} == {head}
    assert sorted(line for one in shards for line in one[1:]) == sorted(rows)


@pytest.mark.process
@pytest.mark.network
def test_what_is_chosen_for_a_run_holds_on_the_nodes_also_where_the_client_is_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("value\n1\n")
    # It changes the environment: a node that did not know would refuse the lock.
    amendment = "{amend: {pip: {add: [six==1.17.0]}}}"
    words = ("-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--shard", "1", "--workers", "1")
    ran = cluster.predict(*words, "--environment", amendment, address=f"ray://127.0.0.1:{cluster.client_port}")
    out, log = ran.communicate(timeout=PATIENCE)
    assert (ran.returncode, out) == (0, f"{tmp_path / 'out.csv'}\n"), log
    assert (tmp_path / "out.csv").read_text() == f"{HEAD}\n0,2.0,in.csv\n"


@pytest.mark.process
@pytest.mark.network
def test_a_shard_that_fails_ends_the_run_with_its_own_error(cluster: Cluster, tmp_path: Path) -> None:
    (inputs(tmp_path / "in", 2) / "0.csv").write_text("value\n1\nmany\n")
    failed = cluster.predict("-i", tmp_path / "in", "-o", tmp_path / "out.csv", "--shard", "2")
    _, log = failed.communicate(timeout=PATIENCE)
    assert failed.returncode == PredictionFailedError.exit_code
    assert "error: shard 0: 1 row failed" in log
    assert "0.csv, row 1, column `value`: a text where a double is expected" in log
    assert "Traceback" not in log


@pytest.mark.process
@pytest.mark.network
def test_a_node_that_is_lost_halfway_leaves_no_writer_and_no_row_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    places = outputs(tmp_path, FILES)
    words = ("-i", inputs(tmp_path / "in"), "-o", tmp_path / "out.csv", "--batch-rows", "20")
    process = cluster.predict(*words, "--shard", str(FILES))
    victim = cluster.nodes[-1].pid

    def servers() -> list[int]:
        return [pid for pid in tree(victim) if "envbuilder.server predict" in command_of(pid)]

    wait_until(lambda: bool(servers()) and any(one.exists() for one in places), process)
    started = tree(victim)
    of_shards = {one for pid in started if "runpy.run_module" in command_of(pid) for one in tree(pid)}
    assert of_shards
    # Ray's own processes only: those of the shard must end with them, and stopped, they cannot by being done.
    send(signal.SIGSTOP, servers())
    send(signal.SIGKILL, [pid for pid in started if pid not in of_shards])
    try:
        wait_until(lambda: not any(command_of(pid) for pid in of_shards), process)
    finally:
        send(signal.SIGKILL, [pid for pid in of_shards if str(tmp_path) in command_of(pid)])
    out, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, log
    assert out.splitlines() == [str(one) for one in places]
    for number, one in enumerate(places):
        rows = (f"{row},{2 * (number * ROWS + row + 0.5)},{number}.csv\n" for row in range(ROWS))
        assert one.read_text() == f"{HEAD}\n{''.join(rows)}"
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.process
@pytest.mark.network
def test_where_nobody_listens_is_told_soon(cluster: Cluster, tmp_path: Path) -> None:
    words = ("-i", inputs(tmp_path / "in", 1), "-o", tmp_path / "out.csv", "--shard", "2")
    nobody = cluster.predict(*words, address=f"127.0.0.1:{free_port()}")
    _, log = nobody.communicate(timeout=60)
    assert nobody.returncode == EngineMissingError.exit_code
    assert "cannot be used: [Errno 111] Connection refused" in log


@pytest.mark.process
@pytest.mark.network
def test_a_missing_ray_is_told(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("value\n1\n")
    words = ("-i", "in.csv", "-o", "out.csv", "--ray", "auto", "--shard", "2")
    ended = command_line(cache, "predict", str(EXAMPLES / "scale"), *words, cwd=tmp_path)
    assert ended.returncode == EngineMissingError.exit_code
    assert "pip install 'envbuilder[ray]'" in ended.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("more", "what"),
    [
        ((), "no number of shards is given"),
        (("--shard", "two"), "`two` is no number of shards"),
        (("--shard", "1/2"), "`1/2` is no number of shards"),
        (("--shard", "2", "-i", "absent.csv"), "`absent.csv` does not exist"),
        (("--shard", "2", "-o", "absent/out.csv"), "the output's directory does not exist"),
    ],
    ids=["none", "word", "shard", "input", "folder"],
)
def test_what_cannot_be_is_told_before_a_cluster_is_asked(
    more: tuple[str, ...], what: str, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("value\n1\n")
    words = ("predict", str(EXAMPLES / "scale"), "-i", "in.csv", "-o", "out.csv", "--ray", "auto", *more)
    ended = command_line(cache, *words, cwd=tmp_path)
    assert ended.returncode == InvalidFileError.exit_code
    assert what in ended.stderr


def test_a_shard_is_asked_for_with_all_that_was_chosen_in_places_that_do_not_depend_on_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "envbuilder.yaml").touch()
    monkeypatch.chdir(tmp_path)
    wanted = Batch(inputs=(Path("in"),), output=Path("out.csv"), workers=2, params={"factor": 3})
    choices = Choices(environment="slim.yaml", python="3.11", repairs=False, workspace=Workspace.read(Path()))
    assert ray_cluster._words(Path("model"), wanted, choices, is_offline=True) == [
        *("predict", f"{tmp_path}/model", "--json", "--quiet"),
        *(f"--input={tmp_path}/in", f"--output={tmp_path}/out.csv"),
        *(f"--workspace={tmp_path}", f"--environment={tmp_path}/slim.yaml", "--python=3.11"),
        *("--workers=2", "--error-threshold=0", '--params={"factor": 3}', "--no-repairs", "--offline"),
    ]


@pytest.mark.parametrize(
    ("place", "version", "code", "what"),
    [
        ("absent", __version__, InvalidFileError.exit_code, "does not see it"),
        (".", "0", EngineMissingError.exit_code, f"has envbuilder {__version__}, and 0 asks"),
    ],
    ids=["place", "version"],
)
def test_a_node_says_what_it_lacks(place: str, version: str, code: int, what: str, tmp_path: Path) -> None:
    told = ray_cluster.run_shard([], "", [str(tmp_path / place)], version)
    assert told["code"] == code
    (problem,) = json.loads(told["output"])["error"]["problems"]
    assert what in problem["what"]
