"""A small root file system for sandboxes: the Python that runs the tests, at `/usr/bin`, and what it links to.

Copied from this machine, so that no mirror is needed; readable for every user, so that any of them can enter it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder.base_image import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

_SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ensurepip", "config-*", "tkinter")


def own_interpreter() -> Interpreter:
    """Return the interpreter as the root file system has it."""
    return Interpreter(
        version=platform.python_version(),
        executable=f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}",
        glibc=platform.libc_ver()[1] or "2.17",
    )


def make_root(root: Path) -> None:
    """Write the root file system into the empty directory `root`."""
    interpreter = own_interpreter()
    library = root / "usr/lib" / f"python{interpreter.minor}"
    for name in ("usr/bin", "usr/lib", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "lib64").symlink_to("usr/lib")
    executable = root / interpreter.executable.lstrip("/")
    shutil.copyfile(Path(sys.executable).resolve(), executable)
    executable.chmod(0o755)
    ignored = shutil.ignore_patterns(*_SKIPPED, "__pycache__")
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=ignored)
    extensions = sorted((library / "lib-dynload").glob("*.so"))
    for linked in _linked((executable, *extensions)):
        shutil.copyfile(linked.resolve(), root / "usr/lib" / linked.name)
        (root / "usr/lib" / linked.name).chmod(0o755)


def _linked(programs: tuple[Path, ...]) -> set[Path]:
    output = subprocess.run(
        (shutil.which("ldd") or "ldd", *programs), capture_output=True, text=True, check=False
    ).stdout
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", output)}


@pytest.fixture(scope="session")
def root_file_system() -> Iterator[Path]:
    """A root file system with Python; tests must not write to it."""
    # Not pytest's folder: only its owner may enter that.
    work = Path(tempfile.mkdtemp(prefix="root-file-system-"))
    try:
        work.chmod(0o755)
        root = work / "root"
        make_root(root)
        for folder, _, _ in os.walk(root):
            Path(folder).chmod(0o755)
        yield root
    finally:
        shutil.rmtree(work, ignore_errors=True)
