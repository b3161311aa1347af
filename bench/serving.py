"""Measures `envbuilder serve` against `mlflow models serve` and a hand-written FastAPI endpoint: one model, one run.

python bench/serving.py [--seconds 5]. Needs wrk, and an environment with MLflow, which it makes once beside the caches.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Path(__file__).resolve().parent.parent / "examples" / "iris"
PACKAGES = ("mlflow==3.17.2", "fastapi", "uvicorn[standard]", "scikit-learn==1.7.2", "skops==0.13.0", "pandas", "numpy")
ENDPOINT = """
import mlflow.pyfunc, pandas as pd
from fastapi import FastAPI, Request
model = mlflow.pyfunc.load_model({model!r})
app = FastAPI()
@app.get("/ping")
def ping(): return "ok"
@app.post("/invocations")
async def predict(request: Request):
    split = (await request.json())["dataframe_split"]
    return {{"predictions": model.predict(pd.DataFrame(split["data"], columns=split["columns"])).tolist()}}
"""


@dataclass(frozen=True)
class Contender:
    """A server to measure."""

    name: str
    command: tuple[str, ...]
    environ: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    seconds = parser.parse_args().seconds
    if shutil.which("wrk") is None:
        sys.exit("wrk is not here: apt-get install wrk")
    caches = Path(os.environ.get("ENVBUILDER_CACHE_DIR", Path.home() / ".cache/envbuilder"))
    python = environment(caches / "bench" / "serving")
    example = json.loads((MODEL / "serving_input_example.json").read_text())["dataframe_split"]
    rows = example["data"]
    bodies = {
        "one": json.dumps({"dataframe_split": {"columns": example["columns"], "data": rows[:1]}}),
        "many": json.dumps({"dataframe_split": {"columns": example["columns"], "data": (rows * 5000)[:10000]}}),
    }
    print("| server | start s | PSS MiB | 1 conn | 8 conn | 32 conn | 10,000 rows ms |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        lua = Path(work, "post.lua")
        head = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        lua.write_text(f"{head}wrk.body = [==[{bodies['one']}]==]\n")
        for number, contender in enumerate(contenders(python, Path(work))):
            measure(contender, 18600 + number, lua, bodies, seconds)


def environment(folder: Path) -> Path:
    """Return the Python of an environment with MLflow and FastAPI."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        subprocess.run((find_uv_bin(), "venv", "-q", "--python", sys.executable, folder), check=True, env=environ)
        install = (find_uv_bin(), "pip", "install", "-q", "--python", python, *PACKAGES)
        subprocess.run(install, check=True, env=environ)
        (folder / "complete").touch()
    return python


def contenders(python: Path, work: Path) -> Iterator[Contender]:
    """Give the servers in turn, MLflow's first and last: what the machine does meanwhile shows in the difference."""
    (work / "endpoint.py").write_text(ENDPOINT.format(model=str(MODEL)))
    bare = {"PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(work), "MLFLOW_DISABLE_TELEMETRY": "true"}
    for workers in ("1", "2"):
        options = ("--env-manager", "local", "-h", "127.0.0.1", "-w", workers, "-p", "PORT")
        mlflow = (str(python), "-m", "mlflow", "models", "serve", "-m", str(MODEL), *options)
        yield Contender(f"`mlflow models serve`, {workers} worker(s)", mlflow, bare)
        uvicorn = (
            str(python),
            "-m",
            "uvicorn",
            "endpoint:app",
            "--port",
            "PORT",
            "--workers",
            workers,
            "--no-access-log",
        )
        yield Contender(f"FastAPI + pandas, {workers} worker(s)", (*uvicorn, "--app-dir", str(work)), bare)
        serve = (sys.executable, "-m", "envbuilder", "serve", str(MODEL), "--workers", workers, "-p", "PORT", "-q")
        own = {**os.environ, "OMP_NUM_THREADS": "1"}
        yield Contender(f"`envbuilder serve`, {workers} worker(s)", serve, own)
        together = {**own, "ENVBUILDER_ROW_WISE": "1"}
        yield Contender(f"`envbuilder serve`, row-wise, {workers} worker(s)", serve, together)


@contextmanager
def running(contender: Contender, port: int, body: str) -> Iterator[tuple[int, float]]:
    """Start a server; gives its process and the seconds until its first prediction."""
    command = tuple(str(port) if word == "PORT" else word for word in contender.command)
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, env=contender.environ, stdout=log, stderr=log, start_new_session=True)
        try:
            while True:
                try:
                    predict(port, body)
                    break
                except OSError:
                    if child.poll() is not None or time.monotonic() - began > 120:
                        log.seek(0)
                        sys.exit(f"{contender.name} does not start: {log.read().decode(errors='replace')[-2000:]}")
                    time.sleep(0.05)
            yield child.pid, time.monotonic() - began
        finally:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def measure(contender: Contender, port: int, lua: Path, bodies: dict[str, str], seconds: int) -> None:
    """Print a row of the table."""
    with running(contender, port, bodies["one"]) as (pid, start):
        url = f"http://127.0.0.1:{port}/invocations"
        wrk(url, lua, 8, 2)
        cells = [wrk(url, lua, connections, seconds) for connections in (1, 8, 32)]
        many = statistics.median(timed(port, bodies["many"]) for _ in range(15))
        memory = sum(pss(one) for one in family(pid)) / 1024
        print(
            f"| {contender.name} | {start:.1f} | {memory:.0f} | {' | '.join(cells)} | {many * 1000:.1f} |", flush=True
        )


def wrk(url: str, lua: Path, connections: int, seconds: int) -> str:
    """Return requests per second, and the median and 99th percentile of milliseconds."""
    command = ("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(lua), url)
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {parts[0]: parts[1] for parts in (line.split() for line in told.splitlines()) if len(parts) > 1}
    bad = " **errors**" if "Non-2xx" in told or "Socket errors" in told else ""
    return f"{float(found['Requests/sec:']):.0f} / {milliseconds(found['50%'])} / {milliseconds(found['99%'])}{bad}"


def milliseconds(text: str) -> str:
    """Return wrk's time in milliseconds."""
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return f"{float(text.removesuffix(unit)) * factor:.1f}"
    return text


def predict(port: int, body: str) -> None:
    """Ask for a prediction."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body.encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        json.load(response)


def timed(port: int, body: str) -> float:
    """Return the seconds of a prediction."""
    began = time.perf_counter()
    predict(port, body)
    return time.perf_counter() - began


def family(pid: int) -> list[int]:
    """Return the processes of a server, in its session or below one of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, [])
    return found


def pss(pid: int) -> int:
    """Return the KiB of a process; what it shares with others counts in parts."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
