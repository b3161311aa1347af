"""Containers of a Docker engine that are cut off as far as possible, and always removed."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from docker.errors import APIError, DockerException
from docker.types import Mount as Bind
from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import Timeout

from envbuilder.engine.docker.client import BROKEN
from envbuilder.process import TAIL_LINES, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient
    from docker.models.containers import Container

    from envbuilder.engine import Mount

_OWNER: Final = "io.envbuilder.process"
"""The label of a container with who removes it: `HOST:PID`."""

_CONFINED: Final[dict[str, Any]] = {
    "read_only": True,
    "tmpfs": {"/tmp": "rw,mode=1777"},  # noqa: S108 - the container's own
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended."""

    code: int
    stdout: bytes
    log: tuple[str, ...]
    """The lines of its standard error."""


def run(
    client: DockerClient,
    image: str,
    *,
    command: tuple[str, ...],
    entrypoint: tuple[str, ...] | None = None,
    timeout: float,
) -> Ended | None:
    """Run a container with no network to its end; None when it did not end within `timeout` seconds."""
    options: dict[str, Any] = {"network_mode": "none", "command": list(command)}
    if entrypoint is not None:
        options["entrypoint"] = list(entrypoint)
    with created(client, image, options) as container:
        container.start()
        code = wait(client, container, timeout)
        if code is None:
            return None
        stdout = bytes(container.logs(stdout=True, stderr=False))
        log = bytes(container.logs(stdout=False, stderr=True)).decode(errors="replace")
        return Ended(code=code, stdout=stdout, log=tuple(log.splitlines()))


def wait(client: DockerClient, container: Container, timeout: float) -> int | None:
    """Return the exit code of a started container, None when it did not end within `timeout` seconds."""
    try:
        return int(container.wait(timeout=timeout)["StatusCode"])
    except (Timeout, NoConnectionError):
        # The SDK cannot tell an engine that is gone from one that keeps silent.
        client.ping()
        return None


@contextmanager
def serving(
    client: DockerClient, image: str, *, inside: int, port: int, on_line: Callable[[str], None]
) -> Iterator[Callable[[], int]]:
    """Serve on 127.0.0.1:`port` from a container while the block lasts; gives what waits for its end."""
    with created(client, image, {"ports": {f"{inside}/tcp": ("127.0.0.1", port)}}) as container:
        container.start()
        reader = threading.Thread(target=_pass_on, args=(container, on_line), daemon=True)
        reader.start()
        try:
            yield lambda: int(container.wait(timeout=None)["StatusCode"])
        finally:
            _stop(container)
            reader.join(timeout=5)


def predicting(
    client: DockerClient,
    image: str,
    *,
    command: tuple[str, ...],
    mounts: tuple[Mount, ...],
    on_output: Callable[[str], None],
    on_line: Callable[[str], None],
) -> Finished:
    """Run a container with no network over mounted files to its end, as the user of this process."""
    options: dict[str, Any] = {
        "network_mode": "none",
        "command": list(command),
        "user": f"{os.getuid()}:{os.getgid()}",
        "mounts": [Bind(one.target, str(one.source), type="bind", read_only=not one.writable) for one in mounts],
    }
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def hear(line: str) -> None:
        tail.append(line)
        on_line(line)

    with created(client, image, options) as container:
        container.start()
        reader = threading.Thread(target=_pass_on, args=(container, hear), kwargs={"stdout": False}, daemon=True)
        reader.start()
        _pass_on(container, on_output, stderr=False)
        code = int(container.wait(timeout=None)["StatusCode"])
        reader.join(timeout=5)
    return Finished(command=command, code=code, stdout=b"", tail=tuple(tail))


@contextmanager
def created(client: DockerClient, image: str, options: dict[str, Any]) -> Iterator[Container]:
    """Give a container with a read-only root and no rights, not started yet; it is removed with the block."""
    _remove_left(client)
    owner = {_OWNER: f"{socket.gethostname()}:{os.getpid()}"}
    container = client.containers.create(image, labels=owner, **_CONFINED, **options)
    try:
        yield container
    finally:
        _remove(container)


def _remove_left(client: DockerClient) -> None:
    """Remove containers that have ended and whose process on this machine was killed before it could remove them."""
    ended: dict[str, Any] = {"label": _OWNER, "status": ["created", "exited", "dead"]}
    try:
        for container in client.containers.list(all=True, filters=ended, ignore_removed=True):
            host, _, process = container.labels.get(_OWNER, "").rpartition(":")
            if host == socket.gethostname() and process.isdecimal() and not _is_running(int(process)):
                _remove(container)
    except (DockerException, *BROKEN):
        # What is left takes room and nothing else; what the engine suffers from is told by what follows.
        return


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _stop(container: Container) -> None:
    try:
        container.stop(timeout=10)
    except (DockerException, *BROKEN):
        return


def _remove(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except (DockerException, *BROKEN):
        # Gone with its engine, or removed by somebody else; what made the block end is what matters.
        return


def _pass_on(container: Container, on_line: Callable[[str], None], *, stdout: bool = True, stderr: bool = True) -> None:
    rest = b""
    try:
        for chunk in container.logs(stdout=stdout, stderr=stderr, stream=True, follow=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip())
    except (APIError, *BROKEN):
        return
    finally:
        if rest:
            on_line(rest.decode(errors="replace").rstrip())
