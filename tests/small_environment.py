"""A model with small wheels of a loopback index, for tests that make its environment."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import reproduction
from envbuilder.choices import Choices
from envbuilder.machine import Machine
from envbuilder.reproduction import Reproduction, Wish
from envbuilder.settings import Settings
from tests.conftest import EXAMPLES, RecordingReporter
from tests.package_index import PackageIndex, running_index, wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Reproduce = Callable[..., Reproduction]

MINOR = ".".join(platform.python_version_tuple()[:2])
SITE = f"lib/python{MINOR}/site-packages"

TOP = wheel(
    "top",
    requires=("part",),
    files={
        "top/__init__.py": b"import part\n\n\ndef main():\n    print(part.version)\n",
        "top/lazy.py": b"x = 1\n",
        "top/native.so": b"\x7fELF" + bytes(2000),
        "top-1.0.data/scripts/tool": b"#!python\nprint('tool')\n",
        "top-1.0.data/data/share/top/data.txt": b"data\n",
    },
    entry_points="[console_scripts]\ntop = top:main\n",
)
WHEELS = (TOP, wheel("part"), wheel("part", "2.0"), wheel("ipykernel"), wheel("more"))


@pytest.fixture
def small_index() -> Iterator[PackageIndex]:
    with running_index() as index:
        index.add(*WHEELS)
        yield index


@pytest.fixture
def small_machine(tmp_path: Path, small_index: PackageIndex) -> Machine:
    """This machine with a cache of its own, the index, and a home that holds no Python."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PYENV_ROOT": _pyenv()}
    settings = replace(
        Settings.from_environ({**environ, "ENVBUILDER_CACHE_DIR": str(tmp_path / "cache")}), index_url=small_index.url
    )
    return Machine(settings=settings, reporter=RecordingReporter())


def _pyenv() -> str:
    return os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")  # noqa: PTH111 - a text is wanted


def write_model(folder: Path, *requirements: str, python: str = MINOR) -> Path:
    """Write a model that asks for these packages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_bytes((EXAMPLES / "scale" / "MLmodel").read_bytes())
    listed = ", ".join(requirements)
    (folder / "conda.yaml").write_text(f"dependencies: [python={python}, {{pip: [{listed}]}}]\n")
    return folder


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", "top", "part==1.0")


@pytest.fixture
def reproduce(small_model: Path, small_machine: Machine, tmp_path: Path) -> Reproduce:
    def made(
        name: str = "env", *, model: Path = small_model, machine: Machine = small_machine, **options: object
    ) -> Reproduction:
        lock = options.pop("lock", None)
        wish = Wish(prefix=tmp_path / name, **options)  # type: ignore[arg-type]
        return reproduction.reproduce(model, wish, Choices(lock=lock), machine=machine)  # type: ignore[arg-type]

    return made
