from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.served import AS_SUBREAPER, wait_until

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]


def test_a_dead_worker_is_replaced_and_503_until_then(serve: Callable[..., Served]) -> None:
    served = serve("acting", ready=False)
    wait_until(lambda: "503" in _ping(served))
    served.wait_ready()
    status, body = served.act("exit", 3)
    assert (status, body["error_code"]) == (500, "INTERNAL_ERROR")
    assert "the worker exited with code 3" in body["message"]
    assert served.request("GET", "/ping")[0] == 503
    status, body = served.act("sleep")
    assert (status, body["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    served.wait_ready()
    assert served.act("sleep")[0] == 200
    assert served.act("sys.exit", 1)[0] == 400
    assert served.act("sleep")[0] == 200, "SystemExit in a model is an error like any other"


def _ping(served: Served) -> str:
    try:
        return str(served.request("GET", "/ping")[0])
    except OSError:
        return ""


def test_a_stuck_worker_is_killed_and_replaced(serve: Callable[..., Served]) -> None:
    served = serve("acting", MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT="1")
    (stuck,) = served.workers()
    started = time.monotonic()
    body = json.dumps({"dataframe_records": [{"do": "sleep", "argument": 60}]}).encode()
    status, _, answer = served.request("POST", "/invocations", body, {"content-type": "application/json"})
    assert (status, answer) == (504, b"Request processing time exceeded limit")
    assert 0.9 < time.monotonic() - started < 3
    wait_until(lambda: stuck not in served.workers())
    served.wait_ready()
    assert served.act("sleep")[0] == 200


def test_sigterm_lets_a_request_in_flight_end(serve: Callable[..., Served]) -> None:
    served = serve("acting")
    answers: list[tuple[int, object]] = []
    thread = threading.Thread(target=lambda: answers.append(served.act("sleep", 1.5)))
    thread.start()
    time.sleep(0.5)
    assert served.stop() == 0
    thread.join(10)
    assert [status for status, _ in answers] == [200]
    assert served.processes() == set()


def test_sigterm_does_not_wait_longer_than_the_grace(serve: Callable[..., Served]) -> None:
    served = serve("acting", ENVBUILDER_GRACE_SECONDS="1")
    thread = threading.Thread(target=_ignore_errors, args=(lambda: served.act("sleep", 60),))
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - started < 5
    thread.join(10)
    assert served.processes() == set()


def _ignore_errors(action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, ValueError):
        return


def test_sigterm_while_the_model_loads_ends_at_once(serve: Callable[..., Served]) -> None:
    served = serve("iris", ready=False)
    wait_until(lambda: len(served.processes()) == 2)
    wait_until(lambda: "503" in _ping(served))
    assert served.stop() == 0
    assert served.processes() == set()


def test_workers_end_with_a_front_that_is_killed(serve: Callable[..., Served]) -> None:
    served = serve("acting")
    threading.Thread(target=_ignore_errors, args=(lambda: served.act("sleep", 60),)).start()
    time.sleep(0.3)
    served.process.kill()
    served.process.wait()
    wait_until(lambda: not served.processes(), 3)


def test_orphans_of_the_model_are_reaped(serve: Callable[..., Served]) -> None:
    served = serve("acting", wrap=AS_SUBREAPER)
    assert served.act("orphan", 0.5)[0] == 200
    assert len(_children(served)) == 2, "the worker, and the orphan that was handed up"
    wait_until(lambda: len(_children(served)) == 1, 5)


def _children(served: Served) -> list[str]:
    pid = str(served.process.pid)
    return Path("/proc", pid, "task", pid, "children").read_text().split()


def test_a_model_that_never_loads_ends_the_server_with_the_reason(serve: Callable[..., Served]) -> None:
    served = serve("unloadable", ready=False, ENVBUILDER_LOAD_ATTEMPTS="2")
    assert served.process.wait(60) == 1
    log = served.log.read_text()
    assert log.endswith("LookupError: no such weights\n")
    assert "attempt 2" in log
    assert served.processes() == set()


def test_two_workers_answer_without_stalls_and_a_killed_one_costs_only_clean_errors(
    serve: Callable[..., Served],
) -> None:
    served = serve("acting", MLFLOW_MODELS_WORKERS="2")
    wait_until(lambda: served.log.read_text().count("has loaded") == 2, 60)
    _assert_no_stalls(served.connect())
    statuses = _statuses_while(served, _kill_workers)
    assert set(statuses) <= {200, 500, 503}
    assert statuses[200] > 50
    assert 1 <= statuses[500] <= 2, "one answer is lost for each killed worker"
    served.wait_ready()
    assert served.act("sleep")[0] == 200
    assert served.stop() == 0
    assert served.processes() == set()


def _kill_workers(served: Served) -> None:
    for pid in served.workers():
        os.kill(pid, signal.SIGKILL)


def _assert_no_stalls(connection: http.client.HTTPConnection) -> None:
    """A connection that waits for delayed acknowledgements takes 40 ms for each request."""
    body = json.dumps({"dataframe_records": [{"do": "nothing", "argument": 0}]})
    seconds, workers = [], set()
    for _ in range(60):
        started = time.perf_counter()
        connection.request("POST", "/invocations", body, {"content-type": "application/json"})
        workers.add(json.loads(connection.getresponse().read())["predictions"][0])
        seconds.append(time.perf_counter() - started)
    assert len(workers) == 2
    assert min(seconds) < 0.02
    assert statistics.median(seconds) < 0.035


def _statuses_while(served: Served, disturb: Callable[[Served], None]) -> Counter[int]:
    """Ask from six connections for a while, with a disturbance early on."""
    body = json.dumps({"dataframe_records": [{"do": "sleep", "argument": 0.001}]})
    statuses: Counter[int] = Counter()
    end = time.monotonic() + 2.5

    def client() -> None:
        connection = served.connect()
        while time.monotonic() < end:
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            response = connection.getresponse()
            assert set(json.loads(response.read())) in ({"predictions"}, {"error_code", "message"})
            statuses[response.status] += 1

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    disturb(served)
    for thread in threads:
        thread.join(30)
    return statuses


def test_workers_are_forked_from_the_first_and_replaced_like_any(serve: Callable[..., Served]) -> None:
    served = serve("acting", MLFLOW_MODELS_WORKERS="4", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    wait_until(lambda: len(served.workers()) == 4, log=served.log)
    wait_until(lambda: b"envbuilder_workers_ready 4.0" in served.request("GET", "/metrics")[2], log=served.log)
    pids = {served.act("pid")[1]["predictions"][0] for _ in range(40)}
    assert pids <= set(served.workers())
    (alone,) = serve("acting").workers()
    workers = sorted(served.workers())
    # They share what was loaded; four that were started apart take four times as much.
    if "forks no other" not in served.log.read_text():
        assert sum(map(_pss, workers)) < 2.5 * _pss(alone)
    others = workers[1:]
    os.kill(others[0], signal.SIGKILL)
    wait_until(lambda: others[0] not in served.workers() and len(served.workers()) == 4, 20, served.log)
    wait_until(lambda: b"envbuilder_workers_ready 4.0" in served.request("GET", "/metrics")[2], 20, served.log)
    assert served.act("sleep")[0] == 200


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
