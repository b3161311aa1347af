"""Source archives of released packages, by way of the machine's package index."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import digest, source_archive, uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from envbuilder.machine import Machine
    from envbuilder.source_archive import SourceArchive


def sdist(requirement: str, machine: Machine) -> SourceArchive:
    """Return the source archive of `name==version`, fetched and checked against the index's digest."""
    name = requirement.partition("==")[0]
    environ = {**machine.settings.program_environ(), "UV_PYTHON_DOWNLOADS": "never"}
    if machine.settings.index_url is not None:
        environ["UV_DEFAULT_INDEX"] = machine.settings.index_url
    with tempfile.TemporaryDirectory() as folder:
        pylock = Path(folder) / "pylock.toml"
        (Path(folder) / "asked.in").write_text(requirement + "\n")
        asked = (uv.find(), "pip", "compile", "asked.in", "-q", "--no-config", "--no-deps", "--no-binary", name)
        command = (*asked, "--format", "pylock.toml", "-o", str(pylock), "--python", sys.executable)
        subprocess.run(command, check=True, cwd=folder, env={**os.environ, **environ}, capture_output=True)
        (package,) = tomllib.loads(pylock.read_text())["packages"]
    found = package["sdist"]
    return source_archive.fetch(found["url"], expected=digest.of_hex(found["hashes"]["sha256"]), machine=machine)
