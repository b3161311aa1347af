"""The Pythons of this machine: found where they usually are, and asked what they are."""

from __future__ import annotations

import glob
import json
import os
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder import process, python_places
from envbuilder.errors import EngineMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from envbuilder.python_places import PythonPlace

_QUESTION: Final = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(),
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "implementation": sys.implementation.name,
    "platform": sysconfig.get_platform(),
    "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""
_SECONDS: Final = 20
_SUBDIRS: Final = {
    "linux-x86_64": "linux-64",
    "linux-aarch64": "linux-aarch64",
    "win-amd64": "win-64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPython:
    """A Python of this machine."""

    version: str
    """In full, e.g. `3.11.2`."""

    executable: str
    """Absolute path, links resolved; never that of a virtual environment."""

    subdir: str
    """What it is built for, in conda's words."""

    glibc: str
    """Version of the C library it runs on; empty where that is another one."""

    owner: str
    """Who put it there, e.g. `pyenv`."""

    @property
    def minor(self) -> str:
        """The version's first two parts."""
        return ".".join(self.version.split(".")[:2])


def this_system() -> str:
    """Return `linux`, `osx` or `win`."""
    return {"darwin": "osx", "win32": "win"}.get(sys.platform, "linux")


def this_subdir() -> str:
    """Return conda's word for this machine."""
    machines = {"linux": {"x86_64": "64"}, "osx": {"x86_64": "64"}, "win": {"AMD64": "64"}}
    system, machine = this_system(), platform.machine()
    return f"{system}-{machines[system].get(machine, machine)}"


def find(version: str, *, subdir: str, environ: Mapping[str, str]) -> LocalPython:
    """Return a Python of the minor version of `version`: that version itself where it is here, else the newest.

    Raises EngineMissingError where there is none; another minor is never taken.
    """
    minor = ".".join(version.split(".")[:2])
    found: list[LocalPython] = []
    for one in _pythons(python_places.of_minor(minor, this_system(), environ), environ):
        if one.minor != minor or one.subdir != subdir:
            continue
        if one.version == version:
            return one
        found.append(one)
    if found:
        return max(found, key=lambda one: _numbers(one.version))
    exact = version if version.count(".") > 1 else minor
    raise EngineMissingError(
        f"there is no Python {minor} for {subdir} on this machine, and another minor version is not the environment",
        fix=f"`uv python install {exact}`, `pyenv install {exact}`, or your system's packages",
    )


def ask(executable: str, *, environ: Mapping[str, str], owner: str) -> LocalPython | None:
    """Return what the program says it is; None where it is no CPython that wheels are made for."""
    try:
        finished = process.run(
            (executable, "-I", "-S", "-c", _QUESTION),
            environ={name: environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in environ},
            timeout=_SECONDS,
        )
        value = json.loads(finished.stdout) if finished.ok else {}
    except (OSError, ValueError, TimeoutError):
        return None
    if value.get("implementation") != "cpython" or value.get("free_threaded"):
        return None
    subdir = _subdir(str(value["platform"]))
    if subdir.startswith("linux") and not value["glibc"]:
        return None
    return LocalPython(
        version=value["version"],
        executable=value["executable"],
        subdir=subdir,
        glibc=value["glibc"],
        owner=owner,
    )


def _pythons(places: tuple[PythonPlace, ...], environ: Mapping[str, str]) -> Iterator[LocalPython]:
    """Give each Python once, as few as are looked at are started."""
    asked: set[str] = set()
    known: set[str] = set()
    for place in places:
        # The newest first: `3.11.10` after `3.11.9`.
        for path in sorted(glob.glob(place.pattern), key=_numbers, reverse=True):  # noqa: PTH207 - patterns of any root
            real = os.path.realpath(path)
            if real in asked or not os.access(path, os.X_OK):
                continue
            asked.add(real)
            found = ask(path, environ=environ, owner=place.owner)
            if found is not None and found.executable not in known:
                known.add(found.executable)
                yield found


def _subdir(name: str) -> str:
    if name.startswith("macosx-"):
        return "osx-arm64" if name.endswith("arm64") else "osx-64"
    return _SUBDIRS.get(name, name)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers in a version or a path, to sort by."""
    return tuple(int(part) for part in "".join(one if one.isdigit() else " " for one in version).split())
