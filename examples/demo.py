"""`make demo`: builds an image from examples/iris, serves it, posts the input example, and shows what it took."""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

import envbuilder
from envbuilder.cli.console import ConsoleReporter, print_build
from envbuilder.errors import EnvBuilderError

HERE = Path(__file__).resolve().parent
MODEL = HERE / "iris"
EXPECTED = HERE / "expected" / "iris.json"


def base() -> tuple[str, str | None]:
    """Return a base that this machine's package mirrors can give, and the Python to use where it has another one."""
    system = platform.freedesktop_os_release()
    if system["ID"] == "ubuntu":
        return f"ubuntu:{system['VERSION_CODENAME']}", ".".join(platform.python_version_tuple()[:2])
    return "debian:bookworm", None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, body: object, patience: float = 120) -> object:
    """POST as JSON, waiting while the server is still starting."""
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main() -> int:
    console = Console(stderr=True, highlight=False)
    reporter = ConsoleReporter(quiet=False, verbose=False)
    machine = envbuilder.this_machine(reporter)
    reference, python = base()
    console.print(f"building {MODEL.name} on {reference}, with no engine and no root needed", markup=False)
    choices = envbuilder.Choices(engine="oci", base=reference, python=python, tag="iris:demo", rebuild=True)
    report = envbuilder.build(MODEL, choices, machine=machine)

    (first, *_) = json.loads(EXPECTED.read_text())
    began = time.monotonic()
    with envbuilder.run("iris:demo", port=free_port(), engine="oci", machine=machine) as running:
        answer = post(running.url, first["request"])
        started = time.monotonic() - began
        console.print(f"POST {running.url}/invocations", markup=False)
    print(json.dumps(answer))
    if answer != first["body"]:
        console.print(f"error: expected {json.dumps(first['body'])}", markup=False)
        return 1

    print_build(console, report)
    times = Table(box=None, pad_edge=False)
    times.add_column("stage")
    times.add_column("s", justify="right")
    for stage, seconds in (*report.seconds, ("run until the first answer", started)):
        times.add_row(stage, f"{seconds:.2f}")
    console.print()
    console.print(times)
    made = sum(not layer.reused for layer in report.image.layers)
    if made:
        console.print("\nrun `make demo` again to see what the cache saves", markup=False)
    else:
        console.print("\nevery layer came from the cache", markup=False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EnvBuilderError as error:
        sys.exit(f"error: {error}")
