"""The log of an engine's build: kept whole in a file without credentials, with each step's last lines for the error."""

from __future__ import annotations

import re
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envbuilder import disk, package_index
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import service as docker_service
from envbuilder.errors import BuildFailedError, DiskFullError, Source, UnreachableError
from envbuilder.index_logins import IndexLogins
from envbuilder.process import TAIL_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.errors import EnvBuilderError
    from envbuilder.machine import Machine

_STEP_LETTERS: Final = 300
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")
_CERTIFICATE: Final = re.compile(r"invalid peer certificate|UnknownIssuer|certificate verify failed", re.IGNORECASE)
_OFFLINE: Final = re.compile(
    r"network (?:was|connectivity is) disabled|\(from versions: none\)|no-index|not found in the cache", re.IGNORECASE
)
_DENIED: Final = re.compile(
    r"lack of valid authentication credentials|returned a 40[13]|40[13] (?:Client Error|Unauthorized|Forbidden)"
)
_NO_DEBIAN_PACKAGE: Final = re.compile(r"Unable to locate package|has no installation candidate")
_NETWORK: Final = re.compile(
    r"error sending request|failed to fetch|dns error|Network is unreachable|Temporary failure in name resolution|"
    r"Connection refused",
    re.IGNORECASE,
)


@dataclass(slots=True)
class BuildLog:
    """Takes a build's lines; knows which step printed what."""

    path: Path
    machine: Machine
    stream: IO[bytes]
    hidden: tuple[str, ...]
    steps: dict[str, str] = field(default_factory=dict)
    """What each step does, by its number."""

    tails: dict[str, deque[str]] = field(default_factory=dict)
    failed: str | None = None
    """The number of the step that failed."""

    def add(self, text: str, *, step: str = "") -> None:
        """Keep a line of a step and pass it on."""
        text = self.clean(text)
        self.stream.write(text.encode(errors="replace") + b"\n")
        self.tails.setdefault(step, deque(maxlen=TAIL_LINES)).append(text)
        self.machine.reporter.line("build", text)

    def clean(self, text: str) -> str:
        """Return `text` without passwords."""
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return _CREDENTIALS.sub("***@", text)

    def error(self, reason: str) -> EnvBuilderError:
        """Return the error for a build that ended with `reason`, with the last lines of the step that failed."""
        reason = self.clean(reason)
        step = self.failed if self.failed is not None else next(reversed(self.tails), "")
        lines = list(self.tails.get(step, ()))
        text = "\n".join([*lines, reason])
        shown = "\n".join(f"    {line}" for line in lines)
        where = Source(file=str(self.path))
        doing = f"step `{_shortened(self.steps[step])}` failed: " if step in self.steps else ""
        known = docker_client.failure(text, docker_service.of(self.machine.settings))
        if isinstance(known, DiskFullError):
            return DiskFullError(f"the engine's disk is full: {doing}{reason}", where=where, fix=known.problems[0].fix)
        what = f"the engine could not build the image: {doing}{reason}\n{shown}"
        if self.machine.settings.offline and (_OFFLINE.search(text) or _NETWORK.search(text)):
            return UnreachableError(
                f"the engine kept not all that the build needs, and `--offline` forbids to download it\n{what}",
                where=where,
                fix="build once without `--offline`, or use `--engine oci`, which builds from envbuilder's own caches",
            )
        if _CERTIFICATE.search(text):
            return UnreachableError(
                what, where=where, fix="name the CA that signed the index: set ENVBUILDER_CA_FILE to its PEM file"
            )
        if _DENIED.search(text):
            return UnreachableError(
                what,
                where=where,
                fix="check the login of the package index; Docker's classic builder and Podman's get none: use Docker "
                "with buildx, or `--engine oci`",
            )
        if _NETWORK.search(text):
            return UnreachableError(
                what,
                where=where,
                fix="containers must reach the package index: check DNS, proxy and firewall of the engine",
            )
        fix = "the whole log is in that file"
        if _NO_DEBIAN_PACKAGE.search(text):
            fix = (
                "check the name of the system package and the base's apt sources; ENVBUILDER_DEBIAN_MIRRORS names "
                "archives in their place"
            )
        return BuildFailedError(what, where=where, fix=fix)


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _STEP_LETTERS else f"{words[:_STEP_LETTERS]}…"


@contextmanager
def kept(machine: Machine, name: str) -> Iterator[BuildLog]:
    """Give a log that is in `machine.logs` under `name`, complete or not, when the block ends."""
    path = machine.logs / f"{name}.log"
    with disk.full_disk_named(machine.logs):
        machine.logs.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as stream:
            yield BuildLog(path=path, machine=machine, stream=stream, hidden=_secrets(machine))


def _secrets(machine: Machine) -> tuple[str, ...]:
    """Return the passwords of the settings' URLs, as they are written and as they are meant."""
    settings = machine.settings
    logins = IndexLogins(settings)
    urls = [logins.complete(url) for url in settings.index_addresses]
    urls += settings.debian_mirrors
    urls += [value for name, value in settings.environ if name.lower().endswith("_proxy") and "@" in value]
    found = {token.removeprefix("/t/") for _, token in package_index.tokens(urls)}
    for url in urls:
        password = urlsplit(url).password
        if password:
            found |= {password, unquote(password)}
    return tuple(sorted(found, key=len, reverse=True))
