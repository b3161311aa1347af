"""What a base of another platform provides: read from its files, as its Python does not run on this machine."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Final

from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_LARGEST: Final = 1 << 24
_PACKAGES: Final = ("var/lib/dpkg/status", "var/lib/dpkg/status.d")
_UPSTREAM: Final = re.compile(r"(?:\d+:)?([0-9]+(?:\.[0-9]+)+)")
"""The upstream part of a Debian version."""

_FOLDERS: Final = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")


def read(root: Path, python: str, *, environ: Mapping[str, str], reference: str) -> bytes:
    """Return what the probe would answer, were it run in `root` by the Python at the path `python`.

    Raises BaseImageError where the files do not tell the versions of Python and of the C library.
    """
    executable = _inside(root, python)
    packages = dict(_packages(root))
    name = executable.rpartition("/")[2]
    # The official images have it in a variable, those of a distribution in its list of packages.
    version = environ.get("PYTHON_VERSION") if executable.startswith("/usr/local/") else packages.get(f"{name}-minimal")
    if version is None or "libc6" not in packages or not version.startswith(name.removeprefix("python")):
        raise BaseImageError(
            f"the files of `{reference}` do not tell which Python it has, and it is for another platform than this "
            "machine's: it cannot be asked",
            where=Source(file=reference),
            fix="choose `debian:SUITE` or an official `python:` image, or build on a machine of that platform",
        )
    glibc = ".".join(packages["libc6"].split(".")[:2])
    value = {
        "version": version,
        "executable": executable,
        "glibc": glibc,
        "os_release": _text(root, "etc/os-release") or _text(root, "usr/lib/os-release"),
        "has_apt": os.path.lexists(root / "usr/bin/apt-get"),
        "libraries": sorted(set(_libraries(root))),
    }
    return json.dumps(value).encode()


def _inside(root: Path, path: str) -> str:
    """Return the path in the image with its links followed, none of which leads out of it."""
    parts = [part for part in path.split("/") if part]
    done: list[str] = []
    for _ in range(255):
        if not parts:
            break
        part = parts.pop(0)
        if part == "..":
            done = done[:-1]
        elif part != ".":
            here = root.joinpath(*done, part)
            if here.is_symlink():
                target = str(here.readlink())
                done = [] if target.startswith("/") else done
                parts = [one for one in target.split("/") if one] + parts
            else:
                done.append(part)
    return f"/{'/'.join(done)}"


def _text(root: Path, path: str) -> str:
    file = root / _inside(root, path).lstrip("/")
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST).decode(errors="replace")
    except OSError:
        return ""


def _names(root: Path, path: str) -> Iterable[str]:
    try:
        return sorted(found.name for found in (root / _inside(root, path).lstrip("/")).iterdir())
    except OSError:
        return ()


def _packages(root: Path) -> Iterator[tuple[str, str]]:
    """Give the names and upstream versions of the installed Debian packages."""
    status, folder = _PACKAGES
    texts = [_text(root, status), *(_text(root, f"{folder}/{name}") for name in _names(root, folder))]
    for stanza in "\n\n".join(texts).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        version = _UPSTREAM.match(fields.get("Version", ""))
        if version is not None:
            yield fields.get("Package", ""), version[1]


def _libraries(root: Path) -> Iterator[str]:
    for top in _FOLDERS:
        names = tuple(_names(root, top))
        inner = (f"{top}/{name}" for name in names if "-linux-gnu" in name)
        for found in (names, *(_names(root, folder) for folder in inner)):
            yield from (name for name in found if ".so" in name)
