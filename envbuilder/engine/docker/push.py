"""Pushing by the engine, which has the layers: with the logins that pulling uses, and its errors turned into ours."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from docker.errors import APIError

from envbuilder import digest
from envbuilder.errors import RegistryRefusedError, Source, UnreachableError
from envbuilder.registry import credentials
from envbuilder.registry.patience import patiently
from envbuilder.registry.push import Pushed

if TYPE_CHECKING:
    from docker import DockerClient

    from envbuilder.errors import EnvBuilderError
    from envbuilder.image_reference import ImageReference
    from envbuilder.machine import Machine

_MEGABYTE: Final = 1_000_000
_SOON: Final = 0.5
_DIGEST: Final = re.compile(r": digest: (sha256:[0-9a-f]{64}) ")
_REFUSED: Final = re.compile(
    r"denied|unauthorized|forbidden|authentication required|no basic auth|insufficient_scope|unknown: repository|"
    r"name unknown|manifest invalid|tag .*immutable|http: server gave HTTP response to HTTPS client",
    re.IGNORECASE,
)


def push(reference: ImageReference, *, client: DockerClient, machine: Machine) -> Pushed:
    """Push what the engine calls `reference`; the digest is the one that the registry has then.

    Raises RegistryRefusedError, and UnreachableError after some patience.
    """
    return patiently(lambda: _push(reference, client, machine), wait=_wait)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _push(reference: ImageReference, client: DockerClient, machine: Machine) -> Pushed:
    states: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    found = error = ""
    try:
        events = client.api.push(
            reference.name, tag=reference.tag, stream=True, decode=True, auth_config=_login(reference, machine)
        )
        # Read to the end after an error too: a stream that is left keeps its connection.
        for event in events:
            error = error or str(event.get("error", ""))
            # Podman names the digest for people only.
            told = _DIGEST.search(str(event.get("status", "")))
            found = str((event.get("aux") or {}).get("Digest", told[1] if told else found))
            _count(event, states, sizes, machine)
    except APIError as cause:
        raise _not_pushed(reference, str(cause.explanation or cause)) from cause
    if error or not found:
        raise _not_pushed(reference, error or "the engine named no digest")
    ended = list(states.values())
    sent = [one for one, state in states.items() if state == "Pushed"]
    return Pushed(
        references=(str(reference),),
        digest=digest.parse(found),
        uploaded=len(sent),
        mounted=sum(state.startswith("Mounted") for state in ended),
        present=ended.count("Layer already exists"),
        size=sum(sizes[one][1] for one in sent if one in sizes),
        is_counted=bool(states),
    )


def _login(reference: ImageReference, machine: Machine) -> dict[str, str]:
    """Return the login as the engine takes it; an empty one keeps the SDK from looking for one by itself."""
    user, password = credentials.find(reference.registry, machine.settings, machine.reporter)
    if user == credentials.TOKEN_USER:
        return {"identitytoken": password}
    return {"username": user, "password": password} if user else {}


def _count(event: dict[str, Any], states: dict[str, str], sizes: dict[str, tuple[int, int]], machine: Machine) -> None:
    identity, detail = event.get("id"), event.get("progressDetail") or {}
    if identity is None:
        return
    states[str(identity)] = str(event.get("status", ""))
    if "current" in detail:
        now = int(detail["current"])
        sizes[str(identity)] = (now, max(now, int(detail.get("total", 0))))
        done, total = (sum(numbers) // _MEGABYTE for numbers in zip(*sizes.values(), strict=True))
        machine.reporter.progress("push", done, total, "MB")


def _not_pushed(reference: ImageReference, text: str) -> EnvBuilderError:
    where = Source(file=str(reference))
    if _REFUSED.search(text):
        return RegistryRefusedError(
            f"the registry does not take the image: {text}",
            where=where,
            fix=f"check the name, and log in with `docker login {reference.registry}`",
        )
    error = UnreachableError(
        f"the image cannot be pushed: {text}",
        where=where,
        fix="do it again, nothing is sent twice; the engine must reach the registry: look at its proxy and DNS",
    )
    error.retry_after = _SOON
    return error
