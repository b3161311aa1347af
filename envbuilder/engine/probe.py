"""The question every base image is asked once: which Python does it provide, and on which C library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk
from envbuilder.base_image import Interpreter
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.machine import Machine

SCRIPT: Final = """
import json, os, platform, sys
print(json.dumps({"version": platform.python_version(), "executable": os.path.realpath(sys.executable),
                  "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else ""}))
"""

ARGUMENTS: Final = ("-I", "-S", "-c", SCRIPT)
"""What to start the base's `python3` with; the answer is on its standard output."""


def interpreter(
    reference: str,
    *,
    diff_ids: Iterable[str],
    environ: Iterable[tuple[str, str]],
    ask: Callable[[], bytes],
    machine: Machine,
) -> Interpreter:
    """Return the Python of the base with these layers; `ask` runs it with ARGUMENTS, only where nobody knows yet.

    Raises BaseImageError for a base whose C library has few wheels.
    """
    key = digest.of_json([list(diff_ids), [list(item) for item in environ]])
    record = machine.probes / f"{digest.hex_of(key)}.json"
    if record.exists():
        return Interpreter(**json.loads(record.read_bytes()))
    value = json.loads(ask())
    if not value["glibc"]:
        raise BaseImageError(
            f"`{reference}` has another C library than glibc, for which few wheels are made",
            where=Source(file=reference),
            fix="choose a base of the Debian family, e.g. a `-slim` image instead of an `-alpine` one",
        )
    disk.write_file(record, json.dumps(value).encode())
    return Interpreter(**value)


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
