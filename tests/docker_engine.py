"""A real Docker engine for the tests: the one that answers, or a private one started for the session.

Where none answers, Debian's `docker.io` is installed if this machine lets us (Debian, root), and a `dockerd` with its
own socket and data folder is started; it is stopped, unmounted and removed at the end of the session.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import docker
import pytest
from docker.errors import DockerException

from tests.alone import alone

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_START_SECONDS: Final = 40
_STOP_SECONDS: Final = 30
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


@pytest.fixture(scope="session")
def docker_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the DOCKER_HOST of an engine that answers."""
    host = os.environ.get("DOCKER_HOST", _DEFAULT_HOST)
    if answers(host):
        yield host
        return
    with alone(request.config, "apt"):
        if shutil.which("dockerd", path=_path()) is None:
            install("dockerd", "docker.io")
    with private_engine() as started:
        yield started


def answers(host: str) -> bool:
    """Tell whether an engine answers there."""
    try:
        if host.startswith("unix://"):
            # The SDK leaves a socket open where nobody listens, and warnings are errors here.
            with socket.socket(socket.AF_UNIX) as visitor:
                visitor.connect(host.removeprefix("unix://"))
        client = docker.DockerClient(base_url=host, timeout=5)
    except (DockerException, OSError, ValueError):
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def bridge(host: str) -> str:
    """Return the address of this machine that containers reach."""
    client = docker.DockerClient(base_url=host)
    try:
        attributes: dict[str, Any] = client.networks.get("bridge").attrs
        return str(attributes["IPAM"]["Config"][0]["Gateway"])
    finally:
        client.close()


@contextmanager
def private_engine() -> Iterator[str]:
    """Start a `dockerd` of our own and give its address while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="ebd-"))
    try:
        yield from _first_that_starts(folder)
    finally:
        end_leftovers(folder)
        unmount(folder)
        # Gigabytes of small files: Python takes minutes.
        subprocess.run((shutil.which("rm") or "rm", "-rf", folder), check=False)


def _first_that_starts(folder: Path) -> Iterator[str]:
    reason: list[str] = []
    # Without overlays (a data folder that is an overlay itself) every layer is a full copy: slow, but it works.
    for driver in ("overlay2", "vfs"):
        place = folder / driver
        place.mkdir()
        host = f"unix://{place}/docker.sock"
        with (place / "log").open("wb") as log:
            daemon = start(place, driver, log.fileno())
            try:
                if is_ready(daemon, host):
                    yield host
                    return
            finally:
                stop(daemon)
        reason = (place / "log").read_text(errors="replace").strip().splitlines()[-3:]
    without_engine("the private dockerd does not start: " + " | ".join(reason))


def start(place: Path, driver: str, log: int) -> subprocess.Popen[bytes]:
    """Start a `dockerd` whose files are all in `place`, and whose socket is `place/docker.sock`."""
    dockerd = shutil.which("dockerd", path=_path())
    if dockerd is None:
        without_engine("there is no dockerd")
    command = [
        dockerd,
        f"--host=unix://{place}/docker.sock",
        f"--data-root={place}/data",
        f"--exec-root={place}/exec",
        f"--pidfile={place}/pid",
        f"--storage-driver={driver}",
        "--log-level=warn",
    ]
    setpriv = shutil.which("setpriv", path=_path())
    if setpriv is not None:
        # A killed test session takes the daemon with it.
        command = [setpriv, "--pdeathsig", "TERM", *command]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": _path()}, start_new_session=True
    )


def is_ready(daemon: subprocess.Popen[bytes], host: str) -> bool:
    """Wait until it answers; False where it does not."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        if answers(host):
            return True
        time.sleep(0.2)
    return False


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """End it, and wait until it has ended."""
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def end_leftovers(folder: Path) -> None:
    """End the processes whose command line names our folder, which no other process has a reason to."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if f"{folder}/".encode() in words and words.startswith((b"containerd", b"/usr/bin/containerd")):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def unmount(folder: Path) -> None:
    """Take away every mount below the folder."""
    umount = shutil.which("umount", path=_path()) or "umount"
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run([umount, "--lazy", mount], check=False, capture_output=True)


def install(program: str, *packages: str) -> None:
    """Install Debian's packages that bring an engine's program, and start nothing."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        without_engine(f"there is no `{program}`, and only root on Debian can install it here")
    # Installing must not start a daemon that nobody stops.
    forbids = not _POLICY.exists()
    if forbids:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        # Whoever else installs something now is waited for.
        options = ("-o", "DPkg::Lock::Timeout=300", "-y", "-q", "--no-install-recommends")
        command = [apt, "install", *options, *packages]
        done = subprocess.run(command, check=False, capture_output=True, env=environ)
        if done.returncode != 0:
            subprocess.run([apt, "update", "-q"], check=False, capture_output=True, env=environ)
            done = subprocess.run(command, check=False, capture_output=True, env=environ)
    finally:
        if forbids:
            _POLICY.unlink(missing_ok=True)
    if done.returncode != 0 or shutil.which(program, path=_path()) is None:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        without_engine(f"`{program}` cannot be installed: " + " ".join(last))


def _path() -> str:
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"


def without_engine(reason: str) -> NoReturn:
    """End the test: a machine may lack an engine, CI may not."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
