"""Running a program inside an image's file system with Linux namespaces: no engine, no daemon, no root needed.

The file system is read-only, `/tmp` and `/dev/shm` are fresh, all capabilities are gone, and the network is either
absent or the host's.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from envbuilder import process, sandbox_init
from envbuilder.errors import BuildFailedError, EngineMissingError
from envbuilder.oci_image import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_FAILED = 125
_NOT_STARTED = 127
_PREFIX = "sandbox: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory or file of this machine that is seen inside the sandbox."""

    source: Path
    target: str
    """Absolute path in the sandbox."""

    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a program sees: directories laid over each other, and what it starts with."""

    lower: tuple[Path, ...]
    """From the base up, as the layers of an image."""

    command: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()
    binds: tuple[Bind, ...] = ()
    network: Literal["none", "host"] = "none"
    root: bool = False
    cwd: str = "/"


@contextmanager
def command_of(sandbox: Sandbox) -> Iterator[tuple[str, ...]]:
    """Give the command that runs the sandbox; its mount points live as long as the block."""
    work = Path(tempfile.mkdtemp(prefix="envbuilder-sandbox-"))
    try:
        work.chmod(0o755)
        mount, points = work / "root", work / "points"
        for directory in (mount, points / "proc", points / "dev", points / "tmp"):
            directory.mkdir(parents=True)
        for bind in sandbox.binds:
            point = points / bind.target.lstrip("/")
            point.parent.mkdir(parents=True, exist_ok=True)
            if bind.source.is_dir():
                point.mkdir(exist_ok=True)
            else:
                point.touch()
        # Whatever the umask: these are the root and the parents of the mounts, which another user enters.
        for directory in (points, *points.rglob("*")):
            directory.chmod(0o755)
        # Names of a letter or two: the kernel takes one page of them, and an image may have a hundred layers.
        names = work / "lower"
        names.mkdir()
        for number, path in enumerate((points, *reversed(sandbox.lower))):
            (names / str(number)).symlink_to(path.absolute())
        spec = {
            "names": str(names),
            "lower": [str(number) for number in range(len(sandbox.lower) + 1)],
            "mount": str(mount),
            "binds": [[str(bind.source), bind.target.lstrip("/"), bind.writable] for bind in sandbox.binds],
            "command": list(sandbox.command),
            "environ": dict(sandbox.environ),
            "network": sandbox.network,
            "root": sandbox.root,
            "cwd": sandbox.cwd,
        }
        yield (sys.executable, "-I", "-S", sandbox_init.__file__, json.dumps(spec))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(
    sandbox: Sandbox,
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    on_output: Callable[[str], None] | None = None,
) -> process.Finished:
    """Run the sandbox to its end.

    Raises EngineMissingError when this machine does not let us make one, BuildFailedError when the command is not
    there, TimeoutError when it takes too long.
    """
    with command_of(sandbox) as command:
        finished = process.run(command, environ={}, stdin=stdin, timeout=timeout, on_line=on_line, on_output=on_output)
    last = finished.tail[-1] if finished.tail else ""
    if finished.code == _FAILED and last.startswith(_PREFIX):
        raise not_allowed(last.removeprefix(_PREFIX))
    if finished.code == _NOT_STARTED and last.startswith(_PREFIX):
        raise BuildFailedError(
            f"`{sandbox.command[0]}` cannot be started in the image ({last.removeprefix(_PREFIX)})",
            fix="choose another base image: this one misses what its Python needs",
        )
    return finished


def not_allowed(reason: str) -> EngineMissingError:
    """Return the error for a machine that does not let us make a sandbox, with the kernel's reason."""
    return EngineMissingError(
        f"this machine does not allow the namespace sandbox ({reason})",
        fix="run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu also "
        "kernel.apparmor_restrict_unprivileged_userns=0), or start Docker and use `--engine docker`",
    )


def runs(wanted: Platform) -> bool:
    """Tell whether programs of the platform run on this machine, emulation aside."""
    return own_platform().architecture == wanted.architecture


def own_platform() -> Platform:
    """Return the platform of this machine."""
    return Platform(os="linux", architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()))


def is_allowed() -> str | None:
    """Return None when this machine lets us make a sandbox, else the reason why not."""
    with tempfile.TemporaryDirectory(prefix="envbuilder-probe-") as empty:
        probe = Sandbox(lower=(Path(empty),), command=("/nothing",))
        with command_of(probe) as command:
            finished = process.run(command, environ={}, timeout=10)
    last = finished.tail[-1] if finished.tail else ""
    # Everything was set up when only the command itself is missing.
    return None if "No such file or directory: '/nothing'" in last else last.removeprefix(_PREFIX) or "no reason given"
