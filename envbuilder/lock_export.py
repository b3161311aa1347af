"""A lock in the words of other tools: an explicit list of conda, a requirements file, a pylock.toml. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from envbuilder import digest
from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.digest import Digest
    from envbuilder.locked import Lock, LockedPackage
    from envbuilder.lockfile import Lockfile

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
    lines += [_line(one) for one in lock.packages]
    return "\n".join(lines) + "\n"


def _line(package: LockedPackage) -> str:
    if package.is_of_model:
        return f"{package.url} --hash={package.sha256}"
    if package.source is None:
        return f"{package.name}=={package.version} --hash={package.sha256}"
    # pip builds it once more: a commit is its own hash, an archive has one.
    inside = f"#subdirectory={package.source.subdirectory}" if package.source.subdirectory is not None else ""
    digest = "" if package.source.url.startswith("git+") else f" --hash={package.source.digest}"
    return f"{package.name} @ {package.source.url}{inside}{digest}"


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
        lines += [
            "",
            "[[packages]]",
            f"name = {json.dumps(one.name)}",
            f"version = {json.dumps(one.version)}",
            _artifact(one),
        ]
    return "\n".join(lines) + "\n"


def _artifact(package: LockedPackage) -> str:
    """Return the key of a package in pylock.toml that says where it is: a wheel, a file, an archive, or a commit."""
    source = package.source
    if source is None:
        place = "path" if package.is_of_model else "url"
        wheel = f"name = {json.dumps(package.filename)}, {place} = {json.dumps(package.url)}"
        return f"wheels = [{{ {wheel}, {_hashes(package.sha256)} }}]"
    inside = f", subdirectory = {json.dumps(source.subdirectory)}" if source.subdirectory is not None else ""
    if source.url.startswith("git+"):
        url, _, commit = source.url.removeprefix("git+").rpartition("@")
        return f'vcs = {{ type = "git", url = {json.dumps(url)}, commit-id = {json.dumps(commit)}{inside} }}'
    return f"archive = {{ url = {json.dumps(source.url)}, {_hashes(source.digest)}{inside} }}"


def _hashes(sha256: Digest) -> str:
    return f"hashes = {{ sha256 = {json.dumps(digest.hex_of(sha256))} }}"


def export(lockfile: Lockfile, chosen: str) -> str:
    """Return the one lock of the file in another format; raises InvalidFileError where it holds several."""
    if len(lockfile.locks) > 1:
        subdirs = " or ".join(f"`{lock.subdir}`" for lock in lockfile.locks)
        raise InvalidFileError(
            f"the format `{chosen}` is for one platform",
            where=Source(file="--format"),
            fix=f"choose one: `--platform` {subdirs}",
        )
    return FORMATS[chosen](lockfile.locks[0])


FORMATS: Final[dict[str, Callable[[Lock], str]]] = {
    "explicit": to_explicit,
    "requirements": to_requirements,
    "pylock": to_pylock,
}
"""By the name that the command line gives them."""
