"""Builds with BuildKit, through a `docker` program that can."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import disk, process
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import index as docker_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import DockerClient

    from envbuilder.build_context import BuildContext
    from envbuilder.engine.docker.log import BuildLog
    from envbuilder.machine import Machine

_USUAL_FOLDERS: Final = ("/usr/local/bin", "/usr/bin", "/bin")
_BUILTIN_BEFORE: Final = 23
"""The major version from which on the program has no BuildKit client of its own and needs the buildx plugin."""

_QUESTION_SECONDS: Final = 20
_STEP: Final = re.compile(r"#(\d+) (\[.*|(?:exporting|importing|naming|writing|sending|load|transferring) .*)")
_OUTPUT: Final = re.compile(r"#(\d+) (?:\d+\.\d+ )?(.*)")
_COMMAND: Final = re.compile(r"executor failed running \[.*\]: |process \".*\" did not complete successfully: ")
"""The step's command, which is shown as the step already."""

_VERSION: Final = re.compile(rb"version (\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A `docker` program that builds with BuildKit."""

    command: tuple[str, ...]
    """What a build begins with."""

    environ: tuple[tuple[str, str], ...]


def find(client: DockerClient, machine: Machine) -> Program | None:
    """Return the first program that can, or None; an engine that is not Docker's has no BuildKit."""
    about: dict[str, Any] = client.version()
    if any("podman" in str(item.get("Name", "")).lower() for item in about.get("Components") or ()):
        return None
    environ = _environ(machine)
    for path in _programs(environ.get("PATH", "")):
        for arguments in _ways(path, environ):
            return Program(command=(path, *arguments), environ=tuple(environ.items()))
    return None


def build(
    program: Program,
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
    settings = machine.settings
    environ = {**dict(program.environ), **docker_index.proxies(settings)}
    with (
        disk.temporary_directory(settings.cache_dir / "contexts") as work,
        tempfile.TemporaryDirectory(prefix="envbuilder-") as private,
    ):
        context.write(work / "context", link=True)
        command = [*program.command, "--progress=plain", f"--iidfile={work / 'id'}"]
        for identity, content in docker_index.secrets(settings, apt=apt).items():
            place = Path(private) / identity
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123
                stream.write(content)
            command += ["--secret", f"id={identity},src={place}"]
        # The program takes the value from its own environment: a command line is for everybody to see.
        for name in docker_index.proxies(settings):
            command += ["--build-arg", name]
        command += [f"--file={work / 'context' / dockerfile}", str(work / "context")]
        finished = process.run(tuple(command), environ=environ, on_line=lambda line: _take(line, log))
        if not finished.ok:
            # An engine that went away in the middle is told by the connection, better than by the program.
            client.ping()
            raise log.error(_reason(finished.tail))
        return (work / "id").read_text(encoding="utf-8").strip()


def _programs(path: str) -> Iterator[str]:
    seen = set()
    for folder in (*path.split(":"), *_USUAL_FOLDERS):
        program = Path(folder or ".") / "docker"
        if folder.startswith("/") and os.access(program, os.X_OK) and program.resolve() not in seen:
            seen.add(program.resolve())
            yield str(program)


def _ways(path: str, environ: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    try:
        if process.run((path, "buildx", "version"), environ=environ, timeout=_QUESTION_SECONDS).ok:
            # The builder of the engine itself: another one would keep the image to itself.
            yield ("buildx", "build", "--builder", "default", "--load")
        told = process.run((path, "--version"), environ=environ, timeout=_QUESTION_SECONDS)
        found = _VERSION.search(told.stdout)
        if found is not None and int(found[1]) < _BUILTIN_BEFORE:
            yield ("build",)
    except (OSError, TimeoutError):
        return


def _environ(machine: Machine) -> dict[str, str]:
    environ = dict(machine.settings.environ)
    # The same engine that the SDK talks to.
    environ.pop("DOCKER_CONTEXT", None)
    environ.update(DOCKER_HOST=docker_client.host(machine), DOCKER_BUILDKIT="1", BUILDX_NO_DEFAULT_ATTESTATIONS="1")
    return environ


def _take(line: str, log: BuildLog) -> None:
    """Take a line of plain progress: `#7 [build 3/8] RUN …`, `#7 1.234 text`, `#7 ERROR: …`."""
    output = _OUTPUT.match(line)
    if output is None:
        log.add(line)
        return
    number, text = output.groups()
    step = _STEP.match(line)
    if step is not None:
        log.steps.setdefault(number, step[2])
    if text.startswith("ERROR"):
        log.failed = number
    log.add(text, step=number)


def _reason(tail: tuple[str, ...]) -> str:
    lines = [line for line in tail if line.strip() and not line.startswith("---")]
    return _COMMAND.sub("", lines[-1]) if lines else "no reason given"


__all__ = ["Program", "build", "find"]
