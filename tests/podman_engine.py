"""A real Podman service for the tests: the one that answers at CONTAINER_HOST, or a private one started for a module.

Where there is no Podman, Debian's is installed if this machine lets us. The service has its own storage, and takes the
settings that a machine without systemd needs; it is stopped, unmounted and removed at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.alone import alone
from tests.docker_engine import answers, install, unmount, without_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS: Final = 30
_SETTINGS: Final = {
    "containers.conf": """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
""",
    "registries.conf": """\
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "127.0.0.1"
insecure = true
""",
    "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}\n',
}


@pytest.fixture(scope="module")
def podman_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of a Podman service that answers."""
    stated = os.environ.get("CONTAINER_HOST")
    if stated and answers(stated):
        yield stated
        return
    with alone(request.config, "apt"):
        if any(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None for name in ("podman", "runc")):
            install("podman", "podman", "runc")
    with private_service() as host:
        yield host


@contextmanager
def private_service() -> Iterator[str]:
    """Start a service of our own and give its address while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="ebp-"))
    host = f"unix://{folder}/podman.sock"
    for name, text in _SETTINGS.items():
        (folder / name).write_text(text)
    places = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--tmpdir", str(folder / "tmp"))
    environ = {
        "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin",
        "HOME": str(folder),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }
    (folder / ".config/containers").mkdir(parents=True)
    shutil.copy(folder / "policy.json", folder / ".config/containers/policy.json")
    command = ("podman", "--log-level=warn", *places, "system", "service", "--time=0", host)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ) as service,
    ):
        try:
            _wait(service, host, folder / "log")
            yield host
        finally:
            os.killpg(service.pid, signal.SIGTERM)
            try:
                service.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(service.pid, signal.SIGKILL)
    unmount(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _wait(service: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        if answers(host):
            return
        time.sleep(0.2)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    without_engine("the private Podman service does not start: " + " | ".join(last))
