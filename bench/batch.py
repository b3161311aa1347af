"""Measures `predict` over a csv file against a plain loop of MLflow over pandas' chunks: one model, one run.

python bench/batch.py [--rows 10000000] [--form csv]. Makes an environment with MLflow once, beside the caches.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

from envbuilder import server_contract

PACKAGES = ("mlflow-skinny==3.17.2", "scikit-learn==1.7.2", "pandas==2.3.3", "numpy", "cloudpickle", "pyarrow")
CHUNK = 20_000
SETUP = """
import sys, mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
folder, rows, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]
chance = np.random.default_rng(0)
names = ["a", "b", "c", "d"]
first = pd.DataFrame(chance.random((1000, 4)), columns=names)
model = LinearRegression().fit(first, first.sum(axis=1))
mlflow.sklearn.save_model(model, folder + "/model", signature=infer_signature(first, model.predict(first)),
                          pip_requirements=[], serialization_format="cloudpickle")
made = pd.DataFrame({name: chance.integers(0, 1000, rows) / 8 for name in names})
if form == "csv":
    made.to_csv(folder + "/in.csv", index=False)
else:
    made.to_parquet(folder + "/in.parquet", index=False)
"""
LOOP = """
import sys, mlflow, numpy as np, pandas as pd
folder, size, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model = mlflow.pyfunc.load_model(folder + "/model")
if form == "csv":
    chunks = pd.read_csv(folder + "/in.csv", chunksize=size, dtype="float64")
else:
    import pyarrow.parquet as pq
    chunks = (one.to_pandas() for one in pq.ParquetFile(folder + "/in.parquet").iter_batches(batch_size=size))
row = 0
with open(folder + "/loop.csv", "w") as output:
    for number, chunk in enumerate(chunks):
        found = pd.DataFrame({"row": np.arange(row, row + len(chunk)), "prediction": model.predict(chunk)})
        found["file_name"] = "in." + form
        found.to_csv(output, index=False, header=number == 0)
        row += len(chunk)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--form", choices=["csv", "parquet"], default="csv")
    chosen = parser.parse_args()
    caches = Path(os.environ.get("ENVBUILDER_CACHE_DIR", Path.home() / ".cache/envbuilder"))
    python = environment(caches / "bench" / "batch")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        subprocess.run((python, "-c", SETUP, folder, str(chosen.rows), chosen.form), check=True, cwd=work)
        contract = folder / "contract.json"
        contract.write_bytes(server_contract.make((folder / "model/MLmodel").read_bytes(), file="MLmodel"))
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ENVBUILDER_MODEL_DIR": str(folder / "model"),
            "ENVBUILDER_MODEL_PYTHON": str(python),
            "ENVBUILDER_CONTRACT": str(contract),
        }
        source = str(folder / f"in.{chosen.form}")
        predict = (sys.executable, "-m", "envbuilder.server", "predict", "-i", source, "-o")
        runs: dict[str, tuple[str, ...]] = {
            "a loop": (str(python), "-c", LOOP, work, str(CHUNK), chosen.form),
            "predict, 1 worker": (*predict, str(folder / "one.csv"), "--batch-rows", str(CHUNK)),
            "predict, 2 workers": (*predict, str(folder / "two.csv"), "--batch-rows", str(CHUNK), "--workers", "2"),
        }
        print("| | s | rows/s | of the loop | MiB at a third | MiB at the end |\n|---|---|---|---|---|---|")
        base = 0.0
        for name, command in runs.items():
            seconds, early, late = measured(command, environ)
            base = base or seconds
            print(
                f"| {name} | {seconds:.1f} | {chosen.rows / seconds:,.0f} | {base / seconds:.2f} | {early} | {late} |"
            )
        same(folder)


def same(folder: Path) -> None:
    """Check that all came to the same predictions."""
    with (folder / "loop.csv").open() as loop, (folder / "one.csv").open() as one, (folder / "two.csv").open() as two:
        for number, lines in enumerate(zip(loop, one, two, strict=True)):
            if number and len({float(line.split(",")[1]) for line in lines}) != 1:
                sys.exit(f"line {number} differs: {lines}")


def measured(command: tuple[str, ...], environ: dict[str, str]) -> tuple[float, int, int]:
    """Return the seconds that a command takes, and its processes' memory in MiB at a third of them and at the end."""
    begin = time.monotonic()
    samples = []
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            samples.append(memory(child.pid))
            time.sleep(0.25)
        seconds = time.monotonic() - begin
        if child.returncode:
            sys.exit(f"`{' '.join(command)}` ended with {child.returncode}")
    third = len(samples) // 3
    early, late = samples[third : third + 9], samples[-10:-1]
    return seconds, round(statistics.median(early)), round(statistics.median(late))


def memory(pid: int) -> float:
    """Return the memory of a process and all that it started, shared pages counted once, in MiB."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        own = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, StopIteration):
        return 0.0
    return own + sum(memory(int(child)) for child in children)


def environment(folder: Path) -> Path:
    """Return the Python of an environment with MLflow."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run((find_uv_bin(), "venv", "-q", "--python", sys.executable, folder), check=True)
        subprocess.run((find_uv_bin(), "pip", "install", "-q", "--python", str(python), *PACKAGES), check=True)
    return python


if __name__ == "__main__":
    main()
