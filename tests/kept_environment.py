"""Python environments that tests need, made by uv once and kept in pytest's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from uv import find_uv_bin

from tests.alone import alone

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def kept_python(
    request: pytest.FixtureRequest, name: str, requirements: tuple[str, ...], *, interpreter: Path | None = None
) -> Path:
    """Return the interpreter of an environment with the requirements; `name` is what its folder is called."""
    base = str(interpreter) if interpreter is not None else sys.executable
    key = hashlib.sha256("\n".join((base, sys.version, *requirements)).encode()).hexdigest()[:12]
    folder: Path = request.config.cache.mkdir(name) / key
    python = folder / "bin" / "python"
    with alone(request.config, key):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv, environment = find_uv_bin(), {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
            subprocess.run((uv, "venv", "-q", "--python", base, folder), check=True, env=environment)
            install = (uv, "pip", "install", "-q", "--python", str(python), *requirements)
            subprocess.run(install, check=True, env=environment)
            (folder / "complete").touch()
    return python
