"""Builds with the engine's classic builder, for where no `docker` program with BuildKit is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envbuilder.engine.docker import index as docker_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker import DockerClient

    from envbuilder.build_context import BuildContext
    from envbuilder.engine.docker.log import BuildLog
    from envbuilder.machine import Machine


def build(
    client: DockerClient,
    context: BuildContext,
    *,
    apt: str = "",
    dockerfile: str = "Dockerfile",
    log: BuildLog,
    machine: Machine,
) -> str:
    """Build the context and return the image's id; raises BuildFailedError and its relatives.

    `apt` is a list of apt's sources, empty for the base's own; `dockerfile` is relative to the context.
    """
    arguments = docker_index.arguments(machine.settings, apt=apt)
    events = client.api.build(
        fileobj=context.tar_stream(),  # type: ignore[arg-type]  # sent as it comes, never held whole
        custom_context=True,
        dockerfile=dockerfile,
        decode=True,
        rm=True,
        forcerm=True,
        buildargs=arguments,
        network_mode="none" if machine.settings.offline else None,
    )
    identities: list[str] = []
    number = ""
    for line in _lines(events, identities, log):
        if line.startswith("Step "):
            number, _, doing = line.partition(" : ")
            log.steps[number] = doing
        log.add(line, step=number)
    if not identities:
        raise log.error("the engine named no image")
    return identities[-1]


def _lines(events: Iterable[dict[str, Any]], identities: list[str], log: BuildLog) -> Iterator[str]:
    """Give the lines that the events hold in pieces, and keep the ids they name."""
    rest = error = ""
    # Read to the end after an error too: a stream that is left keeps its connection.
    for event in events:
        error = error or str(event.get("error", ""))
        if "ID" in (event.get("aux") or {}):
            identities.append(str(event["aux"]["ID"]))
        *lines, rest = (rest + str(event.get("stream", ""))).split("\n")
        yield from (line.rstrip() for line in lines if line.strip())
    if rest:
        yield rest
    if error:
        raise log.error(error)
