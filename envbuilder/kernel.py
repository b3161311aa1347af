"""Jupyter kernels: a small file in the user's data folder that says how an environment's Python is started."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import disk
from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.locked import Lock
    from envbuilder.prefix_layout import PrefixLayout

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_PROGRAM: Final = "ipykernel"


def place(name: str, system: str, environ: Mapping[str, str]) -> Path:
    """Return the file of the kernel `name`, where Jupyter looks for those of this user.

    Raises InvalidFileError for what is no name, and where nothing says who the user is.
    """
    if not _NAME.match(name):
        raise InvalidFileError(
            f"{name!r} is not a name of a kernel",
            where=Source(file="--kernel"),
            fix="use letters, digits, `.`, `-` and `_`",
        )
    choices = {
        "linux": (("XDG_DATA_HOME", "jupyter"), ("HOME", ".local/share/jupyter")),
        "osx": (("HOME", "Library/Jupyter"),),
        "win": (("APPDATA", "jupyter"),),
    }[system]
    for variable, below in (("JUPYTER_DATA_DIR", ""), *choices):
        if environ.get(variable):
            return Path(environ[variable], below, "kernels", name, "kernel.json")
    raise InvalidFileError(
        "nothing says where this user's Jupyter keeps its kernels",
        where=Source(file="--kernel"),
        fix="set JUPYTER_DATA_DIR",
    )


def check(file: Path, lock: Lock, layout: PrefixLayout) -> None:
    """Raise InvalidFileError where the environment can be no kernel, or another one has that name."""
    names = {one.name for one in lock.packages} | {one.name for one in lock.conda_packages}
    if _PROGRAM not in names:
        raise InvalidFileError(
            f"the environment holds no {_PROGRAM}, which a kernel is, and nothing is added to what is locked",
            where=Source(file="--kernel"),
            fix=f"ask for it: `--environment '{{amend: {{pip: {{add: [{_PROGRAM}]}}}}}}'`, or leave `--kernel` out",
        )
    if file.exists() and _prefix_of(file) != layout.prefix:
        raise InvalidFileError(
            "there is another kernel of that name",
            where=Source(file=str(file)),
            fix="choose another name, or remove that kernel with `jupyter kernelspec remove`",
        )


def write(file: Path, layout: PrefixLayout) -> None:
    """Register the environment's Python."""
    disk.write_file(file, (json.dumps(spec(layout, file.parent.name), indent=1) + "\n").encode())


def spec(layout: PrefixLayout, name: str) -> dict[str, Any]:
    """Return what Jupyter reads."""
    variable, between = (
        ("CONDA_PREFIX" if layout.has_conda else "VIRTUAL_ENV"),
        (";" if layout.system == "win" else ":"),
    )
    return {
        "argv": [layout.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        # Jupyter puts its own variables in.
        "env": {variable: layout.prefix, "PATH": f"{layout.executable.rpartition('python')[0][:-1]}{between}${{PATH}}"},
        "metadata": {"debugger": True, "envbuilder": {"prefix": layout.prefix}},
    }


def _prefix_of(file: Path) -> str | None:
    """Return the environment that a kernel of ours is of."""
    try:
        value = json.loads(file.read_bytes())
        return str(value["metadata"]["envbuilder"]["prefix"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
