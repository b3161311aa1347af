"""A lock in the words of other tools: an explicit list of conda, a requirements file, a pylock.toml. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from envbuilder import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.lockfile import Lock

_NOTE: Final = "# Exported by envbuilder from a lock; change that instead."


def to_explicit(lock: Lock) -> str:
    """Return what `conda create --file` takes; wheels, which conda cannot install, are comments for pip."""
    lines = [_NOTE, f"# platform: {lock.subdir}", "@EXPLICIT"]
    lines += [f"{one.url}#{one.md5}" for one in lock.conda_packages]
    lines += [f"# pip {one.name} @ {one.url} --hash={one.sha256}" for one in lock.packages]
    return "\n".join(lines) + "\n"


def to_requirements(lock: Lock) -> str:
    """Return what `pip install --require-hashes -r` takes; conda packages, which pip cannot install, are comments."""
    lines = [_NOTE, f"# platform: {lock.subdir}, Python {lock.python_version}"]
    lines += [f"# conda {one.name}={one.version}={one.build}" for one in lock.conda_packages]
    lines += [f"{one.name}=={one.version} --hash={one.sha256}" for one in lock.packages]
    return "\n".join(lines) + "\n"


def to_pylock(lock: Lock) -> str:
    """Return the wheels as pylock.toml (PEP 751), for this Python and platform alone."""
    minor = ".".join(lock.python_version.split(".")[:2])
    lines = [
        _NOTE,
        'lock-version = "1.0"',
        'created-by = "envbuilder"',
        f'requires-python = "=={minor}.*"',
    ]
    for one in lock.packages:
        # What a URL or a version can hold is written in JSON as in TOML.
        url, sha256 = json.dumps(one.url), json.dumps(digest.hex_of(one.sha256))
        lines += [
            "",
            "[[packages]]",
            f"name = {json.dumps(one.name)}",
            f"version = {json.dumps(one.version)}",
            f"wheels = [{{ name = {json.dumps(one.filename)}, url = {url}, hashes = {{ sha256 = {sha256} }} }}]",
        ]
    return "\n".join(lines) + "\n"


FORMATS: Final[dict[str, Callable[[Lock], str]]] = {
    "explicit": to_explicit,
    "requirements": to_requirements,
    "pylock": to_pylock,
}
"""By the name that the command line gives them."""
