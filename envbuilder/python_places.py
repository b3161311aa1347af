"""Where Pythons of one minor version are usually found on a machine, as patterns of paths. Pure; looks at nothing."""

from __future__ import annotations

import glob
import ntpath
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

VARIABLES: Final = (
    "PATH",
    "HOME",
    "PYENV_ROOT",
    "UV_PYTHON_INSTALL_DIR",
    "XDG_DATA_HOME",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramFiles",
    "USERPROFILE",
)
"""The variables that say where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonPlace:
    """A place where a Python may be."""

    pattern: str
    """Absolute; as `glob` reads it."""

    owner: str
    """Who put it there, as people know them: `PATH`, `pyenv`, `uv`, …"""


def of_minor(minor: str, system: str, environ: Mapping[str, str]) -> tuple[PythonPlace, ...]:
    """Return the places on a `linux`, `osx` or `win` machine, the likeliest first.

    pyenv's shims are left out: they are scripts that fail for every version that is not switched on.
    """
    path = ntpath if system == "win" else posixpath
    found = [
        PythonPlace(pattern=path.join(glob.escape(folder), name), owner="PATH")
        for folder in environ.get("PATH", "").split(path.pathsep)
        if path.isabs(folder) and path.basename(folder.rstrip("/\\")) != "shims"
        for name in _names(minor, system)
    ]
    found += _windows(minor, environ) if system == "win" else _posix(minor, system, environ)
    return tuple(dict.fromkeys(found))


def _names(minor: str, system: str) -> tuple[str, ...]:
    return ("python.exe",) if system == "win" else (f"python{minor}", "python3", "python")


def _posix(minor: str, system: str, environ: Mapping[str, str]) -> Iterator[PythonPlace]:
    name = f"bin/python{minor}"
    pyenv = _folder(posixpath, environ, ("PYENV_ROOT", ""), ("HOME", ".pyenv"))
    if pyenv:
        yield PythonPlace(pattern=f"{pyenv}/versions/{minor}.*/{name}", owner="pyenv")
    uv = _folder(
        posixpath,
        environ,
        ("UV_PYTHON_INSTALL_DIR", ""),
        ("XDG_DATA_HOME", "uv/python"),
        ("HOME", ".local/share/uv/python"),
    )
    if uv:
        yield PythonPlace(pattern=f"{uv}/cpython-{minor}.*/{name}", owner="uv")
    if system == "osx":
        yield PythonPlace(
            pattern=f"/Library/Frameworks/Python.framework/Versions/{minor}/{name}", owner="python.org's installer"
        )
        for brew in ("/opt/homebrew", "/usr/local"):
            yield PythonPlace(pattern=f"{brew}/opt/python@{minor}/{name}", owner="Homebrew")
    for folder in ("/usr/local", "/usr"):
        yield PythonPlace(pattern=f"{folder}/{name}", owner="the system")


def _windows(minor: str, environ: Mapping[str, str]) -> Iterator[PythonPlace]:
    short = f"Python{minor.replace('.', '')}"
    places = (
        # Where python.org's installer puts what the `py` launcher finds: for one user, and for all.
        ("the py launcher", _folder(ntpath, environ, ("LOCALAPPDATA", "Programs\\Python")), f"{short}\\python.exe"),
        ("the py launcher", _folder(ntpath, environ, ("ProgramFiles", "")), f"{short}\\python.exe"),
        (
            "pyenv",
            _folder(ntpath, environ, ("PYENV_ROOT", ""), ("USERPROFILE", ".pyenv\\pyenv-win")),
            f"versions\\{minor}.*\\python.exe",
        ),
        (
            "uv",
            _folder(ntpath, environ, ("UV_PYTHON_INSTALL_DIR", ""), ("APPDATA", "uv\\python")),
            f"cpython-{minor}.*\\python.exe",
        ),
    )
    for owner, folder, pattern in places:
        if folder:
            yield PythonPlace(pattern=ntpath.join(folder, pattern), owner=owner)


def _folder(path: ModuleType, environ: Mapping[str, str], *choices: tuple[str, str]) -> str | None:
    """Return the first folder whose variable is set, as it stands in a pattern."""
    for name, below in choices:
        if environ.get(name):
            joined: str = path.join(environ[name], below) if below else environ[name]
            return glob.escape(joined)
    return None
