"""The server under what it will meet: overload, slow and rude clients, broken bodies, an end in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.served import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]

JSON = {"content-type": "application/json"}


def row(models: Path, **more: object) -> dict[str, object]:
    example = json.loads((models / "iris" / "serving_input_example.json").read_text())["dataframe_split"]
    return {"dataframe_split": {"columns": example["columns"], "data": example["data"][:1]}, **more}


def together(count: int, call: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def memory(served: Served) -> int:
    """Return the front's resident bytes."""
    return int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_row_wise_model_answers_waiting_requests_together_and_each_gets_its_own(
    serve: Callable[..., Served], models: Path
) -> None:
    served = serve("iris", ENVBUILDER_ROW_WISE="1")
    rows = json.loads((models / "iris" / "serving_input_example.json").read_text())["dataframe_split"]
    other = [6.5, 3.0, 5.5, 1.8]
    found: dict[int, object] = {}

    def call(number: int) -> None:
        for turn in range(20):
            if number == 3 and turn % 2:
                status, _ = served.ask({"dataframe_split": {"columns": ["x"], "data": [[1]]}})
                assert status == 400
                continue
            data = [rows["data"][0], other] if number % 2 else [other]
            expected = [0, 2] if number % 2 else [2]
            answer = served.ask({"dataframe_split": {"columns": rows["columns"], "data": data}})
            found[number] = found.get(number, True) and answer == (200, {"predictions": expected})

    together(8, call)
    assert found == dict.fromkeys(range(8), True)
    text = served.request("GET", "/metrics")[2].decode()
    assert "envbuilder_worker_restarts_total 0.0" in text


def test_overload_is_refused_at_once_and_what_is_admitted_is_answered(serve: Callable[..., Served]) -> None:
    served = serve("acting", ENVBUILDER_MAX_WAITING="4")
    counted: Counter[int] = Counter()
    slowest = [0.0]
    until = time.monotonic() + 4

    def call(_: int) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            status, _answer = served.act("sleep", 0.05)
            counted[status] += 1
            slowest[0] = max(slowest[0], time.monotonic() - began)

    together(24, call)
    assert set(counted) == {200, 503}
    assert counted[200] >= 20
    assert counted[503] > counted[200]
    # One that is admitted waits for four others at most; the rest is what a busy machine adds.
    assert slowest[0] < 5
    assert served.request("GET", "/ping")[0] == 200


def test_clients_that_send_nothing_or_slowly_are_let_go_and_others_are_answered(
    serve: Callable[..., Served], models: Path
) -> None:
    served = serve("iris", ENVBUILDER_HEADER_SECONDS="1", ENVBUILDER_BODY_SECONDS="1")
    head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    beginnings = [b"", b"POST /invocations HT", b"GET /ping HTTP/1.1\r\nx: y\r\n"]
    slow = []
    for beginning in beginnings * 20:
        client = socket.create_connection(("127.0.0.1", served.port))
        client.sendall(beginning)
        slow.append(client)
    half = socket.create_connection(("127.0.0.1", served.port))
    half.sendall(head + b"{")
    assert served.ask(row(models))[0] == 200
    for client in slow:
        client.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
        client.close()
    half.settimeout(10)
    assert half.recv(1000).startswith(b"HTTP/1.1 408")
    half.close()
    assert served.ask(row(models))[0] == 200


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_a_gigabyte_is_refused_without_being_kept(kind: str, serve: Callable[..., Served]) -> None:
    served = serve("acting", ENVBUILDER_MAX_BODY_BYTES="1000000")
    before = memory(served)
    length = "content-length: 1073741824" if kind == "declared" else "transfer-encoding: chunked"
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.settimeout(20)
        client.sendall(f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\n{length}\r\n\r\n".encode())
        block = b"x" * 65536
        with contextlib.suppress(OSError):  # it does not listen any more
            for _ in range(16384):
                client.sendall(block if kind == "declared" else b"10000\r\n" + block + b"\r\n")
        try:
            answer = client.recv(1000)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert memory(served) - before < 50_000_000
    assert served.act("sleep")[0] == 200


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "body",
    [b"", b"{", DEEP, b'{"inputs": ' + DEEP + b"]" * 100_000 + b"}", b"\xff\xfe", b'{"inputs": NaN', b"null"],
    ids=["empty", "cut off", "deep", "deep and whole", "not utf-8", "cut off in a number", "null"],
)
@pytest.mark.parametrize("path", ["/invocations", "/score", "/v2/models/m/infer"])
def test_broken_bodies_are_the_clients_fault(path: str, body: bytes, shared_server: Callable[[str], Served]) -> None:
    status, _, answer = shared_server("iris").request("POST", path, body, JSON)
    assert status == 400, answer
    assert json.loads(answer)


def test_sigterm_under_load_loses_no_request(serve: Callable[..., Served], models: Path) -> None:
    served = serve("iris")
    body = json.dumps(row(models)).encode()
    counted: Counter[object] = Counter()
    stopped = threading.Event()

    def call(_: int) -> None:
        while not stopped.is_set():
            try:
                connection = served.connect()
            except OSError:
                return
            try:
                connection.connect()
            except OSError:
                return  # nobody listens any more: nothing was lost
            try:
                connection.request("POST", "/invocations", body, JSON)
                counted[connection.getresponse().status] += 1
            except OSError as error:
                counted[type(error).__name__] += 1
                return
            finally:
                connection.close()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: counted[200] > 30)
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    stopped.set()
    for thread in threads:
        thread.join()
    lost = {kind: count for kind, count in counted.items() if kind != 200}
    assert lost == {}
