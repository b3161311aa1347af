"""Which service is talked to: Docker's own, or Podman's, which answers to the same API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.settings import Settings

_DOCKER: Final = "unix:///var/run/docker.sock"
_PODMAN: Final = "unix:///run/podman/podman.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where it listens, and how it is spoken of."""

    name: str
    host: str
    """As in DOCKER_HOST: `unix://…`, `tcp://…`, `ssh://…`."""

    @property
    def program(self) -> str:
        """The program that people use it with."""
        return self.name.lower()

    @property
    def how_to_reach(self) -> str:
        """What to do where it does not answer."""
        if self.name == "Podman":
            return "start it (`systemctl start podman.socket`, with `--user` for your own), or set CONTAINER_HOST"
        return "start it, or set DOCKER_HOST to where it is; `--engine oci` needs none"

    @property
    def how_to_be_let_in(self) -> str:
        """What to do where this user may not talk to it."""
        if self.name == "Podman":
            return "use a service of your own: `systemctl --user start podman.socket`"
        return "add the user to the group `docker` (`sudo usermod -aG docker USER`) and log in again"


def of(settings: Settings) -> Service:
    """Return the service that DOCKER_HOST names: Podman's where it is a place of Podman's."""
    environ = dict(settings.environ)
    host = environ.get("DOCKER_HOST") or _DOCKER
    return Service(name="Podman" if host in podman_hosts(environ) else "Docker", host=host)


def podman_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return where Podman's service may listen: at CONTAINER_HOST, else at the user's own socket or the system's."""
    stated, runtime = environ.get("CONTAINER_HOST"), environ.get("XDG_RUNTIME_DIR")
    if stated:
        return (stated,)
    return (*((f"unix://{runtime}/podman/podman.sock",) if runtime else ()), _PODMAN)
