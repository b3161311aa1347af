"""A model served on this machine without an image: the same front and workers, in the environment that is locked."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from envbuilder import cache_lock, digest, disk, local_python, process, reproduction, server_kit, stages
from envbuilder.base_image import Interpreter
from envbuilder.engine import Running
from envbuilder.errors import EngineMissingError, ServingFailedError, Source
from envbuilder.installer import prefix as installer
from envbuilder.installer import wheels
from envbuilder.oci_image import Platform
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.reporter import Timings
from envbuilder.reproduction import Wish
from envbuilder.target import IMAGE_SUBDIRS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from envbuilder.choices import Choices
    from envbuilder.machine import Machine
    from envbuilder.reproduction import Locked, Reproduction

_POLL: Final = 0.1
_RECIPE: Final = 1
"""Changed when the same packages are to be put together in another way."""

_PLATFORMS: Final = {subdir: name for name, subdir in IMAGE_SUBDIRS.items()}


@contextmanager
def serve(
    model: str | Path,
    choices: Choices,
    *,
    port: int = 8080,
    workers: int = 1,
    variables: Mapping[str, str] = MappingProxyType({}),
    machine: Machine,
) -> Iterator[Running]:
    """Serve a model on 127.0.0.1:`port` while the block lasts; `variables` are the settings of the server.

    Raises what `reproduce` raises, and ServingFailedError where the server ends before it answers.
    """
    stages.check_free(port)
    timings = Timings(machine.reporter)
    with cache_lock.serving(machine.settings.cache_dir), disk.readable_by_all():
        found = reproduction.locked(model, choices, machine=machine, timings=timings)
        place = machine.environments / digest.hex_of(found.lock.digest)[:32]
        made = reproduction.make(found, Wish(prefix=place, is_trusted=True), timings=timings)
        with timings.stage("server") as note:
            front = _front(machine)
            note.text = str(front)
        with disk.temporary_directory(machine.servers / "runs") as work:
            own = {"ENVBUILDER_PORT": str(port), "MLFLOW_MODELS_WORKERS": str(workers)}
            environ = {**_environ(found, made, work), **variables, **own}
            command = (str(front / "bin/python"), "-I", "-B", "-m", "envbuilder.server", "serve")
            told = machine.reporter
            with process.started(command, environ=environ, on_line=lambda line: told.line("run", line)) as child:
                with timings.stage("start"):
                    _wait(child.poll, port)
                yield Running(url=f"http://127.0.0.1:{port}", wait=child.wait)


def _environ(found: Locked, made: Reproduction, work: Path) -> dict[str, str]:
    """Return the variables of the server: the image's, for the directories here."""
    (work / "contract.json").write_bytes(found.model.contract)
    example = found.model.example_request
    if example is not None:
        (work / "example.json").write_bytes(example)
    kept = {name: value for name, value in found.machine.settings.environ if not name.startswith("ENVBUILDER_")}
    return {
        **kept,
        **{one.name: one.value for one in found.spec.variables},
        **({"CONDA_PREFIX": str(made.prefix)} if found.lock.conda_packages else {}),
        "ENVBUILDER_HOST": "127.0.0.1",
        "ENVBUILDER_MODEL_DIR": str(found.model.directory),
        "ENVBUILDER_MODEL_PYTHON": made.python,
        "ENVBUILDER_CONTRACT": str(work / "contract.json"),
        "ENVBUILDER_EXAMPLE": str(work / "example.json"),
        "ENVBUILDER_LOAD_ATTEMPTS": "1",
    }


def _front(machine: Machine) -> Path:
    """Return the environment of the front, for the Python that runs this; it is made once."""
    python = local_python.ask(sys.executable, environ=dict(machine.settings.place_environ), owner="envbuilder")
    if python is None or python.subdir not in _PLATFORMS:
        raise EngineMissingError(
            "models are served without an image on Linux only",
            fix="build an image with `envbuilder build`, and serve it with `envbuilder run`",
        )
    interpreter = Interpreter(version=python.version, executable=python.executable, glibc=python.glibc)
    kit = server_kit.load(python.minor, base_reference=sys.executable)
    key = digest.hex_of(digest.of_json([_RECIPE, kit.digest, python.version, python.executable, python.glibc]))[:32]
    place = machine.servers / key
    if place.is_dir():
        return place
    platform = Platform.parse(_PLATFORMS[python.subdir])
    packages = server_kit.packages(kit, interpreter=interpreter, platform=platform, machine=machine)
    wheels.fetch(packages, machine)
    layout = PrefixLayout(prefix=str(place), minor=python.minor)
    files = {f"{layout.site_packages}/{path}": content for path, content in kit.files}
    with disk.temporary_directory(machine.servers) as work:
        new = work / "new"
        installer.fill_wheels(packages, layout, new, python=interpreter, more=files, machine=machine)
        try:
            new.rename(place)
        except OSError:
            if not place.is_dir():  # somebody else was first
                raise
            shutil.rmtree(new, ignore_errors=True)
    return place


def _wait(poll: Callable[[], int | None], port: int) -> None:
    """Wait until the model is loaded; raises ServingFailedError where the server ends before."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        code = poll()
        if code is not None:
            raise ServingFailedError(
                f"the server ended with exit code {code} before it answered",
                where=Source(file="serve"),
                fix="read its log above: the model does not load in its own environment",
            )
        try:
            with opener.open(f"http://127.0.0.1:{port}/ping", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL)


__all__ = ["serve"]
