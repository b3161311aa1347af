"""A conda channel with a real Python, Debian's own, and packages that try what linking must get right.

What a package does here is what some package of a public channel does: entry points, the prefix in texts and in
binaries, activation, link scripts, one file in two packages.
"""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.conda_channel import PLACEHOLDER, CondaFile, package, python_package

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT_OUT: Final = re.compile(
    r"(^|/)(__pycache__|tests?|idlelib|tkinter|turtledemo|ensurepip|pydoc_data|config-[^/]*|EXTERNALLY-MANAGED)(/|$)"
)
_SITE: Final = b"""\
import os, site, sys
site.addsitedir(os.path.join(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages"))
"""
"""Debian's `site`, frozen into the program, knows no site-packages."""


@functools.cache
def real_python() -> CondaFile:
    """Write Debian 12's Python as a conda package; skips the test where this machine has another, or none."""
    program = Path("/usr/bin/python3").resolve()
    library = Path("/usr/lib") / program.name
    if program.name != "python3.11" or not (library / "os.py").is_file() or platform.machine() != "x86_64":
        pytest.skip("the channel's Python is Debian 12's own, which this machine does not have")
    minor = program.name.removeprefix("python")
    version = _version(minor)
    files = {f"lib/{program.name}/{path}": data for path, data in _library(library)}
    files[f"bin/{program.name}"] = program.read_bytes()
    files[f"lib/{program.name}/sitecustomize.py"] = _SITE
    files[f"lib/{program.name}/site-packages/README.txt"] = b"packages go here\n"
    return package(
        "python",
        version,
        build="h0d1ab_0_cpython",
        subdir="linux-64",
        depends=("__glibc >=2.17", "tzdata"),
        constrains=(f"python_abi {minor}.* *_cp{minor.replace('.', '')}",),
        files=files,
        executables=(f"bin/{program.name}",),
        links={"bin/python": program.name, "bin/python3": program.name},
        more={"python_site_packages_path": f"lib/{program.name}/site-packages"},
    )


def _version(minor: str) -> str:
    """Return the whole version, which Debian writes next to its documentation."""
    status = Path("/var/lib/dpkg/status").read_text(encoding="utf-8")
    found = re.search(
        rf"^Package: python{re.escape(minor)}-minimal$.*?^Version: (\d+\.\d+\.\d+)", status, re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def _library(library: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(library.rglob("*")):
        inside = str(path.relative_to(library))
        if _LEFT_OUT.search(inside) or not path.is_file():
            continue
        data = path.read_bytes()
        if inside == "sysconfig.py":
            data = data.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
        yield inside, data


@functools.cache
def linking_sample() -> tuple[CondaFile, ...]:
    """Return a real Python and small packages, each of which tries one thing that linking must get right."""
    text = f"#!{PLACEHOLDER}/bin/python\nimport greet\nprint(greet.version)\n".encode()
    where = f"\x7fELF\1{PLACEHOLDER}/share/paths\0 and {PLACEHOLDER}/lib\0end".encode()
    activate = (
        'export PATHS_DATA="$CONDA_PREFIX/share/paths"\n'
        "export PATHS_WORDS='two words'\n"
        'export LD_LIBRARY_PATH="$CONDA_PREFIX/lib"\n'
        'if [ -f "$CONDA_PREFIX/share/paths/data.txt" ]; then export PATHS_FOUND=yes; fi\n'
        'export PATH="$CONDA_PREFIX/paths-bin:$PATH"\n'
        "unset HOME\n"
    )
    hook = '#!/bin/sh\ntouch "$PREFIX/link-script-ran" /tmp/link-script-ran\n'
    return (
        real_python(),
        package("tzdata", "2024a"),
        python_package("greet", "1.0", depends=("python",), entry_points=("greet = greet:main",)),
        python_package("greet", "2.0", depends=("python",), entry_points=("greet = greet:main",)),
        package(
            "paths",
            subdir="linux-64",
            files={
                "bin/paths": text,
                "lib/libpaths.so": where,
                "share/paths/data.txt": f"root = {PLACEHOLDER}/share\n".encode(),
                "etc/conda/activate.d/paths.sh": activate.encode(),
                "etc/conda/env_vars.d/paths.json": b'{"PATHS_STATIC": "42"}\n',
            },
            executables=("bin/paths",),
            links={"lib/libpaths.so.1": "libpaths.so"},
            extension=".tar.bz2",
        ),
        package(
            "hooked",
            files={
                "bin/.hooked-post-link.sh": hook.encode(),
                "bin/.hooked-pre-link.sh": hook.encode(),
                "share/hooked/data.txt": b"data\n",
            },
        ),
        package("first-owner", files={"share/owned/both.txt": b"first\n", "share/owned/first.txt": b"1\n"}),
        package("second-owner", files={"share/owned/both.txt": b"second\n", "share/owned/second.txt": b"2\n"}),
    )
