"""A worker as the front starts it, over its socket."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from envbuilder.server import protocol
from tests.conftest import EXAMPLES
from tests.server.served import WORKER, environment_for, write_contract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

pytestmark = [pytest.mark.process, pytest.mark.network]

ARROW = "application/vnd.apache.arrow.stream"
ROWS = {"sepal_length": [5.1, 6.3], "sepal_width": [3.5, 3.3], "petal_length": [1.4, 6.0], "petal_width": [0.2, 2.5]}

# Arrow is written and read in the model's environment; the tests' own has no pyarrow.
STREAM = """
import io, json, sys
import pyarrow as pa
table = pa.table(json.loads(sys.argv[1]))
with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
    for batch in table.to_batches(max_chunksize=1):
        stream.write_batch(batch)
"""
TABLE = (
    "import json, sys, pyarrow as pa; print(json.dumps(pa.ipc.open_stream(sys.stdin.buffer).read_all().to_pydict()))"
)


# 300 MB that every prediction reads.
LARGE = """
import numpy as np

class Model:
    def __init__(self):
        self.weights = np.ones(300_000_000 // 8)

    def predict(self, data):
        return [float(self.weights.sum() + one) for one in data["x"]]

def _load_pyfunc(path):
    return Model()
"""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SUBREAPER = 36


class Worker:
    """The front's end of a worker's connection."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self.stream = cast("BinaryIO", connection.makefile("rwb"))
        self.ready = self.read()[0]

    def fork(self) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            head, _ = self.ask({"event": "fork"}, b"")
            assert head == {"event": "give"}
            socket.send_fds(self.connection, [b"."], [theirs.fileno()])
        head, _ = self.read()
        assert head["event"] == "forked"
        return Worker(ours, head["pid"])

    def close(self) -> None:
        self.stream.close()
        self.connection.close()

    @property
    def memory(self) -> int:
        """Its share of the machine's memory in KiB: what several processes share is divided among them."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))

    def read(self) -> tuple[dict[str, Any], bytes]:
        frame = protocol.read_frame(self.stream)
        assert frame is not None
        return frame

    def ask(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        protocol.write_frame(self.stream, head, body)
        return self.read()


@contextmanager
def working(model: Path, python: str, folder: Path, **environment: str) -> Iterator[Worker]:
    ours, theirs = socket.socketpair()
    told = write_contract(model, folder / "contract.json")
    process = subprocess.Popen(
        (python, "-I", WORKER, str(theirs.fileno()), str(model), str(os.getpid())),
        pass_fds=(theirs.fileno(),),
        env={**environment_for(model, python), **told, **environment},
    )
    theirs.close()
    try:
        worker = Worker(ours, process.pid)
        try:
            yield worker
        finally:
            worker.close()
    finally:
        assert process.wait(20) == 0


def test_a_frame_of_several_requests_gets_one_of_their_answers(bare_python: str, tmp_path: Path) -> None:
    rows = [[row[index] for row in ROWS.values()] for index in range(2)]
    bodies = [json.dumps({"dataframe_split": {"columns": list(ROWS), "data": [row]}}).encode() for row in rows]
    bodies.insert(1, b"{")
    with working(EXAMPLES / "iris", bare_python, tmp_path, ENVBUILDER_ROW_WISE="1") as worker:
        assert worker.ready["row_wise"] is True
        heads = [{"content_type": "application/json", "size": len(body)} for body in bodies]
        head, answers = worker.ask({"batch": heads}, b"".join(bodies))
        stream = io.BytesIO(answers)
        found = [(one["status"], json.loads(stream.read(one["size"]))) for one in head["batch"]]
        assert stream.read() == b""
        assert [status for status, _ in found] == [200, 400, 200]
        assert (found[0][1], found[2][1]) == ({"predictions": [0]}, {"predictions": [2]})
        head, answer = worker.ask({"content_type": "application/json"}, bodies[0])
        assert (head, json.loads(answer)) == ({"status": 200}, {"predictions": [0]})


def test_arrow_streams_go_in_and_out(bare_python: str, tmp_path: Path) -> None:
    body = subprocess.run((bare_python, "-c", STREAM, json.dumps(ROWS)), check=True, stdout=subprocess.PIPE).stdout
    with working(EXAMPLES / "iris", bare_python, tmp_path) as worker:
        head, answer = worker.ask({"content_type": ARROW}, body)
        assert (head, json.loads(answer)) == ({"status": 200}, {"predictions": [0, 2]})
        head, answer = worker.ask({"content_type": ARROW, "accept": ARROW}, body)
        assert head == {"status": 200, "content_type": ARROW}
        read = subprocess.run((bare_python, "-c", TABLE), input=answer, check=True, stdout=subprocess.PIPE)
        assert json.loads(read.stdout) == {"predictions": [0, 2]}
        head, answer = worker.ask({"content_type": ARROW, "accept": ARROW}, b"no stream")
        assert head == {"status": 400}
        assert "a valid Arrow stream" in json.loads(answer)["message"]


def test_without_pyarrow_an_arrow_stream_is_refused_with_the_reason(
    models: Path, model_python: str, tmp_path: Path
) -> None:
    with working(models / "iris", model_python, tmp_path) as worker:
        head, answer = worker.ask({"content_type": ARROW}, b"")
        assert head == {"status": 415}
        assert "needs pyarrow, which is not in the model's environment" in json.loads(answer)["message"]
        example = (models / "iris" / "serving_input_example.json").read_bytes()
        head, answer = worker.ask({"content_type": "application/json", "accept": ARROW}, example)
        assert head == {"status": 406}


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Makes this process what the front is: the one that gets its descendants' orphans."""
    library = ctypes.CDLL(None)
    library.prctl(SUBREAPER, 1)
    yield
    library.prctl(SUBREAPER, 0)


@pytest.mark.usefixtures("subreaper")
def test_forked_workers_share_the_model_and_end_like_started_ones(bare_python: str, tmp_path: Path) -> None:
    model = tmp_path / "large"
    (model / "code").mkdir(parents=True)
    (model / "code" / "large.py").write_text(LARGE)
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: large, code: code}}\n")
    body = b'{"dataframe_records": [{"x": 0.5}]}'
    with working(model, bare_python, tmp_path, **ONE_THREAD) as started:
        assert started.ask({"content_type": "application/json"}, body)[0] == {"status": 200}
        alone = started.memory
        assert alone > 300_000
    # The one that forks predicts nothing itself: libraries start threads when they are used.
    with working(model, bare_python, tmp_path, **ONE_THREAD) as loaded:
        assert loaded.ready["can_fork"] is True
        workers = [loaded.fork() for _ in range(4)]
        for worker in workers:
            head, answer = worker.ask({"content_type": "application/json"}, body)
            assert (head, json.loads(answer)) == ({"status": 200}, {"predictions": [37500000.5]})
        together = sum(worker.memory for worker in (loaded, *workers))
        print(f"one worker {alone // 1024} MiB, four {together // 1024} MiB: {together / alone:.2f}")
        assert together < 1.5 * alone
        os.kill(workers[0].pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(workers[0].pid, 0)[1]) == -signal.SIGKILL
        workers.append(loaded.fork())
        for worker in workers[1:]:
            assert worker.ask({"content_type": "application/json"}, body)[0] == {"status": 200}
            worker.close()
            assert os.waitpid(worker.pid, 0)[1] == 0
        workers[0].close()


def test_a_worker_with_other_threads_does_not_fork(bare_python: str, tmp_path: Path) -> None:
    model = tmp_path / "busy"
    (model / "code").mkdir(parents=True)
    code = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n" + LARGE
    (model / "code" / "busy.py").write_text(code.replace("300_000_000", "8"))
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: busy, code: code}}\n")
    with working(model, bare_python, tmp_path, **ONE_THREAD) as worker:
        assert worker.ready["can_fork"] is False
        head, _ = worker.ask({"event": "fork"}, b"")
        assert (head["event"], head["what"]) == ("failed", "threads run beside the main one")
        head, answer = worker.ask({"content_type": "application/json"}, b'{"dataframe_records": [{"x": 0.5}]}')
        assert (head, json.loads(answer)) == ({"status": 200}, {"predictions": [1.5]})
