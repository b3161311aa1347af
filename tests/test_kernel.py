"""A registered kernel is started by Jupyter itself and answers; where kernels are on each system."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import kernel, reproduction
from envbuilder.choices import Choices
from envbuilder.errors import InvalidFileError
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.reproduction import Wish
from tests.small_environment import MINOR, write_model

if TYPE_CHECKING:
    from envbuilder.machine import Machine

ASK = """
import sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="churn")
try:
    found = []
    client.execute_interactive(
        "import sys, shutil; print(sys.prefix, shutil.which('jupyter'))",
        timeout=60,
        output_hook=lambda message: found.append(message["content"].get("text", "")),
    )
    print("".join(found).strip())
finally:
    manager.shutdown_kernel(now=True)
"""


@pytest.mark.network
@pytest.mark.process
def test_jupyter_starts_a_registered_kernel(machine: Machine, tmp_path: Path) -> None:
    places = (*machine.settings.place_environ, ("JUPYTER_DATA_DIR", str(tmp_path / "jupyter")))
    machine = replace(machine, settings=replace(machine.settings, place_environ=places))
    model = write_model(tmp_path / "model", "ipykernel==6.29.5")
    prefix = tmp_path / "env"
    made = reproduction.reproduce(model, Wish(prefix=prefix, kernel="churn"), Choices(), machine=machine)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    asked = subprocess.run(
        (made.python, "-c", ASK),
        env={**environ, "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert asked.stdout.strip() == f"{prefix} {prefix}/bin/jupyter", asked.stderr


@pytest.mark.parametrize(
    ("system", "environ", "expected"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.local/share/jupyter/kernels/x/kernel.json"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/jupyter/kernels/x/kernel.json"),
        ("osx", {"HOME": "/Users/me"}, "/Users/me/Library/Jupyter/kernels/x/kernel.json"),
        ("win", {"APPDATA": "/appdata"}, "/appdata/jupyter/kernels/x/kernel.json"),
        ("win", {"APPDATA": "/a", "JUPYTER_DATA_DIR": "/own"}, "/own/kernels/x/kernel.json"),
    ],
)
def test_each_system_keeps_kernels_in_its_own_place(system: str, environ: dict[str, str], expected: str) -> None:
    assert kernel.place("x", system, environ) == Path(expected)


def test_a_user_without_a_home_is_told() -> None:
    with pytest.raises(InvalidFileError, match="nothing says where this user's Jupyter keeps its kernels"):
        kernel.place("x", "linux", {})


def test_the_kernel_of_a_conda_environment_on_windows_names_its_folders() -> None:
    layout = PrefixLayout(prefix="C:\\env", minor=MINOR, system="win", has_conda=True)
    assert kernel.spec(layout, "x")["env"] == {"CONDA_PREFIX": "C:\\env", "PATH": "C:\\env;${PATH}"}
    layout = replace(layout, has_conda=False)
    assert kernel.spec(layout, "x")["env"] == {"VIRTUAL_ENV": "C:\\env", "PATH": "C:\\env\\Scripts;${PATH}"}
