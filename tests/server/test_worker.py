"""A worker as the front starts it, over its socket."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from envbuilder.server import protocol
from tests.conftest import EXAMPLES
from tests.server.served import WORKER, environment_for, write_contract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
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


class Worker:
    """The front's end of a worker's connection."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.ready = self.read()[0]

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
        with ours, ours.makefile("rwb") as stream:
            yield Worker(cast("BinaryIO", stream))
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
