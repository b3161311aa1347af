"""Measures image builds side by side on one base: envbuilder's engines, and MLflow's own builder.

    make bench

Needs Debian, root and a Docker engine (started like the tests' one). The base is made with mmdebstrap, as MLflow's
Dockerfile needs apt and pip in it; envbuilder builds on the very same root file system. Every figure is wall-clock
seconds of one whole command, in one run; medians where a step is repeated.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests import docker_engine  # noqa: E402 - the repository is not a package

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = REPOSITORY / "examples" / "iris"
MLFLOW = "mlflow==3.17.2"
LEAN = "{amend: {pip: {swap: {mlflow: mlflow-skinny}}}}"
SUITE = "bookworm"
PYTHON = "3.11.2"
TAG = "envbuilder-bench-base:1"
REPEATS = 5


def call(*command: str, cwd: Path | None = None, **environ: str) -> str:
    finished = subprocess.run(
        command, env={**os.environ, **environ}, cwd=cwd, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        sys.exit(f"{' '.join(command)} failed\n{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}")
    return finished.stdout


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def make_base(folder: Path) -> Path:
    """Make a root file system with apt, Python and pip, which trusts what this machine trusts."""
    if shutil.which("mmdebstrap") is None:
        call("apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap")
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    tar = folder / "base.tar"
    call(
        "mmdebstrap",
        "--variant=minbase",
        "--include=python3,python3-pip,ca-certificates",
        f"--setup-hook=mkdir -p $1/etc/ssl/certs; cp {bundle} $1/etc/ssl/certs/machine.crt",
        "--customize-hook=ln -s python3 $1/usr/bin/python",
        "--customize-hook=rm -f $1/usr/lib/python3*/EXTERNALLY-MANAGED",
        f"--customize-hook=cp {bundle} $1/etc/ssl/certs/ca-certificates.crt",
        SUITE,
        str(tar),
        str(_sources(folder)),
    )
    return tar


def _sources(folder: Path) -> Path:
    """Return a copy of this machine's apt sources that mmdebstrap can read."""
    text = "\n\n".join(path.read_text() for path in sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources")))
    target = folder / "base.sources"
    target.write_text(text)
    return target


def size(reference: str, host: str) -> int:
    return int(call("docker", "image", "inspect", "-f", "{{.Size}}", reference, DOCKER_HOST=host))


def make_model(folder: Path) -> Path:
    """Make the example ask for all of MLflow, as MLflow itself writes it into models."""
    model = folder / "model"
    shutil.copytree(EXAMPLE, model, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conda.yaml", "requirements.txt", "python_env.yaml"):
        file = model / name
        file.write_text(file.read_text().replace("mlflow-skinny", "mlflow"))
    return model


def first_prediction(reference: str, host: str) -> float:
    """Return the seconds from `docker run` to the first answer, the median of three."""
    request = (EXAMPLE / "serving_input_example.json").read_bytes()

    def once() -> None:
        options = ("--detach", "--rm", "--publish", "127.0.0.1:18765:8080")
        container = call("/usr/bin/docker", "run", *options, reference, DOCKER_HOST=host).strip()
        try:
            deadline = time.monotonic() + 120
            while not answered(request):
                if time.monotonic() > deadline:
                    sys.exit(f"{reference} does not answer")
                time.sleep(0.05)
        finally:
            times.append(time.monotonic() - began)
            call("/usr/bin/docker", "kill", container, DOCKER_HOST=host)

    times: list[float] = []
    for _ in range(3):
        began = time.monotonic()
        once()
    return statistics.median(times)


def answered(body: bytes) -> bool:
    request = urllib.request.Request(
        "http://127.0.0.1:18765/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bool(json.load(response)["predictions"] == [0, 0, 0])
    except (OSError, http.client.HTTPException):
        return False


def mlflow_side(folder: Path, source: Path, host: str, results: dict[str, object]) -> None:
    """Measure `mlflow models generate-dockerfile` and `docker build`."""
    environment = folder / "mlflow"
    call(str(REPOSITORY / ".venv/bin/uv"), "venv", "-q", "--python", sys.executable, str(environment))
    call(str(REPOSITORY / ".venv/bin/uv"), "pip", "install", "-q", "--python", str(environment / "bin/python"), MLFLOW)
    model = folder / "mlflow-model"
    shutil.copytree(source, model)
    context = folder / "mlflow-context"

    def generate() -> None:
        shutil.rmtree(context, ignore_errors=True)
        call(
            str(environment / "bin/mlflow"),
            *("models", "generate-dockerfile", "-m", str(model), "-d", str(context), "--env-manager", "local"),
        )
        dockerfile = context / "Dockerfile"
        lines = dockerfile.read_text().splitlines()
        lines = [f"FROM {TAG}" if line.startswith("FROM ") else line for line in lines]
        dockerfile.write_text("\n".join(lines) + "\n")

    def build() -> None:
        call("/usr/bin/docker", "build", "-t", "mlflow-iris:1", str(context), DOCKER_HOST=host, DOCKER_BUILDKIT="1")

    results["mlflow generate-dockerfile"] = seconds(generate)
    results["mlflow docker build, nothing cached"] = seconds(build)
    results["mlflow size added, MB"] = (size("mlflow-iris:1", host) - size(TAG, host)) / 1e6
    results["mlflow, first prediction"] = first_prediction("mlflow-iris:1", host)
    (model / "note.txt").write_text("changed")
    results["mlflow, only the model changed"] = seconds(generate) + seconds(build)


def envbuilder_side(folder: Path, source: Path, engine: str, base: str, host: str, results: dict[str, object]) -> None:
    """Measure `envbuilder build` from nothing cached to everything cached."""
    cache = folder / f"cache-{engine}"
    model = folder / f"model-{engine}"
    shutil.copytree(source, model)

    def build(*more: str) -> dict[str, object]:
        arguments = ("build", str(model), "--engine", engine, "--base", base, "-t", f"bench-{engine}:1", "--json", "-q")
        output = call(
            sys.executable, "-m", "envbuilder", *arguments, *more, ENVBUILDER_CACHE_DIR=str(cache), DOCKER_HOST=host
        )
        report: dict[str, object] = json.loads(output)
        return report

    def measured(label: str, prepare: Callable[[], object], repeats: int = REPEATS) -> None:
        for smoke in ("--smoke", "--no-smoke"):
            times = []
            for _ in range(repeats):
                prepare()
                times.append(seconds(lambda smoke=smoke: build(smoke, "--rebuild")))  # type: ignore[misc]
            results[f"{engine}, {label}{'' if smoke == '--smoke' else ', not tried'}"] = statistics.median(times)

    def forget(*names: str) -> None:
        for name in names:
            shutil.rmtree(cache / name, ignore_errors=True)

    def change() -> None:
        (model / "note.txt").write_text(str(time.time_ns()))

    results[f"{engine}, nothing cached"] = seconds(build)
    if engine == "oci":
        report = build("--rebuild")
        layers = report["layers"]
        assert isinstance(layers, list)
        results["oci size added, MB (compressed)"] = (
            sum(item["size"] for item in layers if item["comment"] != "base") / 1e6
        )
        measured("wheels downloaded", lambda: forget("trees", "layers"), repeats=3)
        measured("wheels installed", lambda: forget("layers"), repeats=3)
    else:
        results["docker size added, MB"] = (size("bench-docker:1", host) - size(TAG, host)) / 1e6
        results["docker, first prediction"] = first_prediction("bench-docker:1", host)
        build("--environment", LEAN)
        results["docker, mlflow-skinny: size added, MB"] = (size("bench-docker:1", host) - size(TAG, host)) / 1e6
        results["docker, mlflow-skinny: first prediction"] = first_prediction("bench-docker:1", host)
        build()
    measured("only the model changed", change)
    measured("nothing changed", lambda: None)


def main() -> None:
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="envbuilder-bench-") as name, docker_engine.private_engine() as host:
        folder = Path(name)
        tar = make_base(folder)
        environ = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        changes = [f"--change=ENV {item}=/etc/ssl/certs/ca-certificates.crt" for item in environ]
        call("/usr/bin/docker", "import", *changes, str(tar), TAG, DOCKER_HOST=host)
        source = make_model(folder)
        envbuilder_side(folder, source, "oci", str(tar), host, results)
        envbuilder_side(folder, source, "docker", TAG, host, results)
        mlflow_side(folder, source, host, results)
    width = max(len(label) for label in results)
    for label, value in results.items():
        print(f"{label:<{width}}  {value:8.2f}")


if __name__ == "__main__":
    main()
