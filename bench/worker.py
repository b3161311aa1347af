"""Measures a worker's two ways to an answer, and one prediction for many requests: `bench/worker.py PYTHON [EXAMPLE…]`.

PYTHON is an interpreter with the examples' libraries, with or without MLflow.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
ROWS = {1: 300, 10_000: 15}
"""How often a request of so many rows is repeated."""

REQUESTS = 32


def main(python: str, examples: list[str]) -> None:
    """Measure each example in a process of its own."""
    from envbuilder import server_contract  # noqa: PLC0415 - the measured process has no envbuilder

    for example in examples or ["iris", "trees", "boost"]:
        model = ROOT / "examples" / example
        with tempfile.TemporaryDirectory() as folder:
            contract = Path(folder, "contract.json")
            contract.write_bytes(server_contract.make((model / "MLmodel").read_bytes(), file="MLmodel"))
            environment = {**os.environ, "ENVBUILDER_CONTRACT": str(contract)}
            subprocess.run((python, "-I", __file__, "measure", model), check=True, env=environment)


def measure(model_dir: str) -> None:
    """Print milliseconds a request, the two ways in turn so that both see the same noise."""
    spec = importlib.util.spec_from_file_location("worker", ROOT / "envbuilder" / "server" / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    scoring = importlib.import_module(worker.make_package() + ".scoring")
    model = scoring.load(model_dir)
    direct = model.direct
    name = Path(model_dir).name
    for rows, repeats in ROWS.items():
        body = request([entry["name"] for entry in model.contract.inputs], rows)
        found: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(repeats):
            for is_direct, times in found.items():
                model.direct = direct if is_direct else None
                times.append(timed(partial(scoring.answer, model, "application/json", body)))
        long, short = (statistics.median(found[way]) for way in (False, True))
        print(f"{name}: {rows} rows: data frame {long:.2f} ms, array {short:.2f} ms, {long / short:.1f} times")
    model.direct = direct
    requests = [("application/json", request([entry["name"] for entry in model.contract.inputs], 1))] * REQUESTS
    for model.is_row_wise in (False, True):
        times = [timed(partial(scoring.answer_all, model, requests)) for _ in range(60)]
        way = "one prediction" if model.is_row_wise else "one prediction each"
        print(f"{name}: {REQUESTS} requests, {way}: {statistics.median(times):.2f} ms")


def request(names: list[str], rows: int) -> bytes:
    """Return a request of so many rows."""
    data = [[5.1 + row % 7 * 0.01, 3.5, 1.4, 0.2 + row % 5] for row in range(rows)]
    return json.dumps({"dataframe_split": {"columns": names, "data": data}}).encode()


def timed(call: Callable[[], Any]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure(sys.argv[2])
    else:
        main(sys.argv[1], sys.argv[2:])
