"""Logins for container registries, as `docker login` left them: in its file, or with a credential helper."""

from __future__ import annotations

import base64
import binascii
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import process
from envbuilder.image_reference import DOCKER_HUB

if TYPE_CHECKING:
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

TOKEN_USER: Final = "<token>"  # noqa: S105 - a user name
"""The user name that marks the password as an identity token."""

_HUB_CREDENTIALS: Final = ("index.docker.io", DOCKER_HUB, "registry-1.docker.io")
_HUB_KEY: Final = "https://index.docker.io/v1/"
"""What `docker login` calls Docker Hub, in the file and towards credential helpers."""

_HELPER: Final = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS: Final = 30.0


def find(registry: str, settings: Settings, reporter: Reporter) -> tuple[str, str]:
    """Return user and password as `docker login` left them, or two empty strings."""
    environ = dict(settings.environ)
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME", "/")) / ".docker")
    try:
        config = json.loads((Path(folder) / "config.json").read_bytes())
        names = _HUB_CREDENTIALS if registry == DOCKER_HUB else (registry,)
        helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
        if helper:
            found = _from_helper(helper, _HUB_KEY if registry == DOCKER_HUB else registry, settings, reporter)
            if found is not None:
                return found
        for key, entry in (config.get("auths") or {}).items():
            if key.partition("://")[2].partition("/")[0] in names or key.partition("/")[0] in names:
                return _from_entry(entry)
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        # What is wrong is not shown: the text around it is a password.
        reporter.warning(f"the logins in {Path(folder) / 'config.json'} cannot be read; going on without")
    return "", ""


def _from_entry(entry: dict[str, Any]) -> tuple[str, str]:
    if entry.get("identitytoken"):
        return TOKEN_USER, str(entry["identitytoken"])
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return user, password.rstrip("\0")
    return str(entry.get("username") or ""), str(entry.get("password") or "")


def _from_helper(name: str, server: str, settings: Settings, reporter: Reporter) -> tuple[str, str] | None:
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        raise ValueError(program)
    try:
        finished = process.run(
            (program, "get"), environ=settings.program_environ(), stdin=server.encode(), timeout=_HELPER_SECONDS
        )
    except (FileNotFoundError, PermissionError, TimeoutError):
        reporter.warning(f"`{program}`, which docker's configuration names for logins, does not run; going on without")
        return None
    if not finished.ok:
        return None
    answer = json.loads(finished.stdout)
    return str(answer["Username"]), str(answer["Secret"])
