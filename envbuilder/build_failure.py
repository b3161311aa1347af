"""What the last lines of a failed build mean, and what to do about it. Pure."""

from __future__ import annotations

import re
from typing import Final

from envbuilder.errors import BuildFailedError, Source
from envbuilder.secret import visible

_WHEEL: Final = "or offer a wheel of it in an index"
_OLDER: Final = (
    "pass `--exclude-newer` with a date at which the package could be built: build tools are of that time then"
)

_MEANINGS: Final[tuple[tuple[re.Pattern[str], str, str], ...]] = (
    (
        re.compile(r"Python\.h: No such file"),
        "the base image has no headers of its Python",
        f"choose a base image that has them (`Python.h`) and a C compiler, {_WHEEL}",
    ),
    (
        re.compile(r"can't find Rust compiler|[Cc]argo, the Rust package manager, is not|\brustc\b.*not found"),
        "it needs a Rust compiler, which the base image does not have",
        f"choose a base image that has `cargo`, {_WHEEL}",
    ),
    (
        re.compile(
            r"(command|execute) '?\S*(gcc|g\+\+|cc|clang|c\+\+)'? failed: No such file|"
            r"unable to execute '\S*(gcc|g\+\+|cc|clang)'|"
            r"No such file or directory: '\S*(gcc|g\+\+|cc|clang)'|"
            r"error: command '\S*(gcc|g\+\+|cc|clang)' failed: (None|No such)|"
            r"Unknown compiler\(s\)|No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER not set"
        ),
        "it needs a C compiler, which the base image does not have",
        f"choose a base image that has one, with the headers of Python, {_WHEEL}",
    ),
    (
        re.compile(
            r"setuptools-scm was unable to detect version|Versioning for this project requires either an sdist|"
            r"Can't find a Git repository|fatal: not a git repository|No such file or directory: 'git'"
        ),
        "it takes its version from the Git repository, which a build does not see",
        "name a released version of the package, or offer a wheel of it in an index",
    ),
    (
        re.compile(
            r"No module named '(pkg_resources|distutils|imp|setuptools\.command\.\w+)'|use_2to3|"
            r"AttributeError: module 'configparser'|cython_sources|"
            r"AttributeError: module '(pkgutil|inspect|setuptools\.\S+|configparser)' has no attribute"
        ),
        "its build script does not work with today's build tools, or with this Python",
        _OLDER,
    ),
    (
        re.compile(r"No module named '\w"),
        "its build script imports what it does not ask for",
        f"use a version that lists it under `build-system.requires`, {_WHEEL}",
    ),
    (
        re.compile(r"Temporary failure in name resolution|Network is unreachable|Name or service not known"),
        "it wants to download something, and builds have no network",
        "offer a wheel of it in an index",
    ),
    (
        re.compile(r"No space left on device"),
        "there is no space left for it",
        "free space on the disk of the cache, or of the Docker engine",
    ),
)


def error(name: str, tail: tuple[str, ...], *, code: int, where: Source) -> BuildFailedError:
    """Return the error for a build that ended with `code` after these lines."""
    text = "\n".join(tail)
    what = "it was killed, probably for want of memory" if code == 137 else f"its build ended with code {code}"  # noqa: PLR2004 - 128 + SIGKILL
    fix = f"use another version of it, {_WHEEL}"
    for pattern, meaning, remedy in _MEANINGS:
        if pattern.search(text):
            what, fix = meaning, remedy
            break
    lines = "\n".join(visible(line) for line in tail)
    return BuildFailedError(f"`{name}` cannot be built from source: {what}\n{lines}".rstrip(), where=where, fix=fix)
