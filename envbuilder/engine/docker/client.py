"""The connection to a Docker engine, and what its failures mean."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import docker
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from envbuilder.engine.docker import service as docker_service
from envbuilder.errors import BuildFailedError, DiskFullError, EngineMissingError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from envbuilder.engine.docker.service import Service
    from envbuilder.errors import EnvBuilderError
    from envbuilder.machine import Machine

_TIMEOUT: Final = 120
_KNOCK_SECONDS: Final = 5
_NO_SPACE: Final = "no space left on device"
_ENGINE_VARIABLES: Final = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")

BROKEN: Final = (RequestException, HTTPError, ConnectionError, TimeoutError)
"""What the SDK raises when the engine does not answer, or no longer."""


def host(machine: Machine) -> str:
    """Return the address of the engine."""
    return docker_service.of(machine.settings).host


@contextmanager
def opened(machine: Machine, *, timeout: float | None = _TIMEOUT) -> Iterator[DockerClient]:
    """Give a client while the block lasts; `timeout` seconds without a byte are no answer.

    What goes wrong between client and engine becomes EngineMissingError, DiskFullError or BuildFailedError.
    """
    service = docker_service.of(machine.settings)
    known = dict(machine.settings.environ)
    environ = {name: known[name] for name in _ENGINE_VARIABLES if known.get(name)}
    try:
        _knock(service.host)
        # The SDK's own default looks at the process's environment.
        client = docker.from_env(environment={**environ, "DOCKER_HOST": service.host}, timeout=timeout)  # type: ignore[arg-type]  # None is no limit
    except (DockerException, *BROKEN, OSError, ValueError) as cause:
        raise _missing(service, cause) from cause
    try:
        yield client
    except BROKEN as cause:
        raise EngineMissingError(
            f"the {service.name} engine stopped answering ({type(cause).__name__})",
            where=Source(file=service.host),
            fix="look whether the engine still runs, then do it again: nothing was tagged",
        ) from cause
    except APIError as cause:
        raise failure(str(cause.explanation or cause), service) from cause
    except DockerException as cause:
        raise failure(str(cause), service) from cause
    finally:
        client.close()


def _knock(place: str) -> None:
    """Connect to a socket file and go away; the SDK would leave a socket open where nobody listens."""
    if place.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(_KNOCK_SECONDS)
            visitor.connect(place.removeprefix("unix://"))


def failure(text: str, service: Service, *, fix: str | None = None) -> EnvBuilderError:
    """Return the error for what the engine said."""
    if _NO_SPACE in text.lower():
        return DiskFullError(
            f"the engine's disk is full: {text}",
            where=Source(file=service.host),
            fix=f"free space there, e.g. with `{service.program} system prune`",
        )
    return BuildFailedError(f"the {service.name} engine refused: {text}", where=Source(file=service.host), fix=fix)


def _missing(service: Service, cause: BaseException) -> EngineMissingError:
    text = str(cause)
    if isinstance(cause, PermissionError) or "PermissionError" in text:
        return EngineMissingError(
            f"this user may not talk to the {service.name} engine",
            where=Source(file=service.host),
            fix=service.how_to_be_let_in,
        )
    reason = "there is no such socket" if isinstance(cause, FileNotFoundError) else _last_words(text)
    return EngineMissingError(
        f"no {service.name} engine answers ({reason})",
        where=Source(file=service.host),
        fix=service.how_to_reach,
    )


def _last_words(text: str) -> str:
    for known in ("Connection refused", "timed out", "Name or service not known", "certificate verify failed"):
        if known.lower() in text.lower():
            return known.lower()
    return text.splitlines()[0] if text else "no reason given"
