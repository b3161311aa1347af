"""The package as it is installed: templates and server are in the wheel, and an editable install finds them too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


def test_the_wheel_holds_templates_and_server(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    templates = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "templates").rglob("*.j2")}
    assert templates
    assert {f"envbuilder/{name}" for name in templates} <= names
    assert "envbuilder/server/requirements/py3.11.txt" in names
    assert "envbuilder/py.typed" in names
    root = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(root)
    script = "from envbuilder import template_files as files; print(files.__file__); print(*files.names(), sep='\\n')"
    finished = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {script}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    module, *found = finished.stdout.split()
    assert module.startswith(str(root))
    assert {f"templates/dockerfile/{name}" for name in found} == templates
