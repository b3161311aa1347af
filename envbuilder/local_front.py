"""The server's programs on this machine: their own environment, made once, and what they start with for a model."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder import cache_lock, digest, disk, local_python, reproduction, server_kit
from envbuilder.base_image import Interpreter
from envbuilder.errors import EngineMissingError
from envbuilder.installer import prefix as installer
from envbuilder.installer import wheels
from envbuilder.oci_image import Platform
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.reproduction import Wish
from envbuilder.target import IMAGE_SUBDIRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from envbuilder.choices import Choices
    from envbuilder.machine import Machine
    from envbuilder.reporter import Timings
    from envbuilder.reproduction import Locked, Reproduction

_RECIPE: Final = 1
"""Changed when the same packages are to be put together in another way."""

_PLATFORMS: Final = {subdir: name for name, subdir in IMAGE_SUBDIRS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFront:
    """What starts the server's programs for one model."""

    command: tuple[str, ...]
    """Comes before `serve` or `predict`."""

    environ: Mapping[str, str]


@contextmanager
def ready(model: str | Path, choices: Choices, *, machine: Machine, timings: Timings) -> Iterator[LocalFront]:
    """Make the model's environment and the front's; what they need stays in the caches while the block lasts.

    Raises what `reproduce` raises, and EngineMissingError where this is no Linux.
    """
    with cache_lock.serving(machine.settings.cache_dir), disk.readable_by_all():
        found = reproduction.locked(model, choices, machine=machine, timings=timings)
        place = machine.environments / digest.hex_of(found.lock.digest)[:32]
        made = reproduction.make(found, Wish(prefix=place, is_trusted=True), timings=timings)
        with timings.stage("server") as note:
            front = _front(machine)
            note.text = str(front)
        with disk.temporary_directory(machine.servers / "runs") as work:
            yield LocalFront(
                command=(str(front / "bin/python"), "-I", "-B", "-m", "envbuilder.server"),
                environ=_environ(found, made, work),
            )


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


__all__ = ["LocalFront", "ready"]
