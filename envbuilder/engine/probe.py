"""The question every base image is asked once: which Python does it provide, on which system and C library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest, disk
from envbuilder.base_image import Interpreter
from envbuilder.base_system import BaseSystem
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.machine import Machine

SCRIPT: Final = """
import json, os, platform, sys
def text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(65536)
    except OSError:
        return ""
def names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
folders = [line.strip() for file in names("/etc/ld.so.conf.d") if file.endswith(".conf")
           for line in text("/etc/ld.so.conf.d/" + file).splitlines() if line.startswith("/")]
folders += os.environ.get("LD_LIBRARY_PATH", "").split(":")
for top in ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"):
    folders += [top, *(top + "/" + name for name in names(top) if "-linux-gnu" in name)]
libraries = {name for folder in folders if folder for name in names(folder) if ".so" in name}
print(json.dumps({"version": platform.python_version(), "executable": os.path.realpath(sys.executable),
                  "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
                  "os_release": text("/etc/os-release") or text("/usr/lib/os-release"),
                  "has_apt": os.access("/usr/bin/apt-get", os.X_OK), "libraries": sorted(libraries)[:100000]}))
"""

ARGUMENTS: Final = ("-I", "-S", "-c", SCRIPT)
"""What to start the base's `python3` with; the answer is on its standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a base provides."""

    interpreter: Interpreter
    system: BaseSystem


def find(
    reference: str,
    *,
    diff_ids: Iterable[str],
    environ: Iterable[tuple[str, str]],
    ask: Callable[[], bytes],
    machine: Machine,
) -> Found:
    """Return what the base with these layers provides; `ask` runs its Python, only where nobody knows yet.

    Raises BaseImageError for a base whose C library has few wheels.
    """
    key = digest.of_json([SCRIPT, list(diff_ids), [list(item) for item in environ]])
    record = machine.probes / f"{digest.hex_of(key)}.json"
    if record.exists():
        return _read(json.loads(record.read_bytes()))
    value = json.loads(ask())
    if not value["glibc"]:
        raise BaseImageError(
            f"`{reference}` has another C library than glibc, for which few wheels are made",
            where=Source(file=reference),
            fix="choose a base of the Debian family, e.g. a `-slim` image instead of an `-alpine` one",
        )
    disk.write_file(record, json.dumps(value).encode())
    return _read(value)


def _read(value: dict[str, Any]) -> Found:
    interpreter = Interpreter(version=value["version"], executable=value["executable"], glibc=value["glibc"])
    return Found(interpreter=interpreter, system=BaseSystem.parse(value))


def no_python(reference: str) -> BaseImageError:
    """Return the error for a base without `python3`."""
    return BaseImageError(
        f"there is no `python3` in `{reference}`",
        where=Source(file=reference),
        fix="choose a base image that provides Python, e.g. `python:3.11-slim` or `debian:bookworm`",
    )


def does_not_run(reference: str, tail: Iterable[str]) -> BaseImageError:
    """Return the error for a base whose Python ends in an error."""
    return BaseImageError(
        f"the Python of `{reference}` does not run here\n" + "\n".join(tail),
        where=Source(file=reference),
        fix="choose a base image for this machine's platform",
    )
