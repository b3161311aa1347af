"""The connection to a Docker engine, and what its failures mean."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import docker
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from envbuilder.errors import BuildFailedError, DiskFullError, EngineMissingError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from envbuilder.errors import EnvBuilderError
    from envbuilder.machine import Machine

_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_TIMEOUT: Final = 120
_KNOCK_SECONDS: Final = 5
_NO_SPACE: Final = "no space left on device"
_ENGINE_VARIABLES: Final = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")

BROKEN: Final = (RequestException, HTTPError, ConnectionError, TimeoutError)
"""What the SDK raises when the engine does not answer, or no longer."""


def host(machine: Machine) -> str:
    """Return the address of the engine."""
    return dict(machine.settings.environ).get("DOCKER_HOST") or _DEFAULT_HOST


@contextmanager
def opened(machine: Machine, *, timeout: float | None = _TIMEOUT) -> Iterator[DockerClient]:
    """Give a client while the block lasts; `timeout` seconds without a byte are no answer.

    What goes wrong between client and engine becomes EngineMissingError, DiskFullError or BuildFailedError.
    """
    place = host(machine)
    known = dict(machine.settings.environ)
    environ = {name: known[name] for name in _ENGINE_VARIABLES if known.get(name)}
    try:
        _knock(place)
        # The SDK's own default looks at the process's environment.
        client = docker.from_env(environment={"DOCKER_HOST": _DEFAULT_HOST, **environ}, timeout=timeout)  # type: ignore[arg-type]  # None is no limit
    except (DockerException, *BROKEN, OSError, ValueError) as cause:
        raise _missing(place, cause) from cause
    try:
        yield client
    except BROKEN as cause:
        raise EngineMissingError(
            f"the Docker engine stopped answering ({type(cause).__name__})",
            where=Source(file=place),
            fix="look whether the engine still runs, then do it again: nothing was tagged",
        ) from cause
    except APIError as cause:
        raise failure(str(cause.explanation or cause), place) from cause
    except DockerException as cause:
        raise failure(str(cause), place) from cause
    finally:
        client.close()


def _knock(place: str) -> None:
    """Connect to a socket file and go away; the SDK would leave a socket open where nobody listens."""
    if place.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(_KNOCK_SECONDS)
            visitor.connect(place.removeprefix("unix://"))


def failure(text: str, place: str, *, fix: str | None = None) -> EnvBuilderError:
    """Return the error for what the engine said."""
    if _NO_SPACE in text.lower():
        return DiskFullError(
            f"the engine's disk is full: {text}",
            where=Source(file=place),
            fix="free space there, e.g. with `docker system prune`",
        )
    return BuildFailedError(f"the Docker engine refused: {text}", where=Source(file=place), fix=fix)


def _missing(place: str, cause: BaseException) -> EngineMissingError:
    text = str(cause)
    if isinstance(cause, PermissionError) or "PermissionError" in text:
        return EngineMissingError(
            "this user may not talk to the Docker engine",
            where=Source(file=place),
            fix="add the user to the group `docker` (`sudo usermod -aG docker USER`) and log in again",
        )
    reason = "there is no such socket" if isinstance(cause, FileNotFoundError) else _last_words(text)
    return EngineMissingError(
        f"no Docker engine answers ({reason})",
        where=Source(file=place),
        fix="start it, or set DOCKER_HOST to where it is; `--engine oci` needs none",
    )


def _last_words(text: str) -> str:
    for known in ("Connection refused", "timed out", "Name or service not known", "certificate verify failed"):
        if known.lower() in text.lower():
            return known.lower()
    return text.splitlines()[0] if text else "no reason given"
