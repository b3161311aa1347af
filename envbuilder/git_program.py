"""The machine's `git`, started so that only our settings count: no hooks, no prompts, no configuration of the user."""

from __future__ import annotations

import netrc
import re
import shutil
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from envbuilder import process
from envbuilder.errors import DiskFullError, EngineMissingError, LockImpossibleError, Source, UnreachableError
from envbuilder.secret import visible

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.errors import EnvBuilderError
    from envbuilder.git_repository import GitRepository
    from envbuilder.machine import Machine

_SECONDS: Final = 900
_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$ENVBUILDER_GIT_USER" "$ENVBUILDER_GIT_PASSWORD"; }; f'
)
"""What git asks for a login; the words of it are in the environment, which other users cannot read."""

_OPTIONS: Final = (
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
)
_CERTIFICATE: Final = re.compile(r"SSL certificate problem|certificate verif|unable to get local issuer", re.IGNORECASE)
_REFUSED: Final = re.compile(
    r"Authentication failed|could not read (Username|Password)|error: 40[13]|Permission denied|Host key verification",
    re.IGNORECASE,
)
_NETWORK: Final = re.compile(
    r"Could not resolve host|Failed to connect|Connection (refused|reset|timed out)|timed out|early EOF|error: 5\d\d|"
    r"Could not connect|unexpected disconnect|Network is unreachable|transfer closed|Operation too slow",
    re.IGNORECASE,
)


def run(arguments: tuple[str, ...], *, folder: Path, repository: GitRepository, machine: Machine) -> process.Finished:
    """Run `git` in the bare repository `folder` to its end, whatever that is."""
    environ = _environ(machine)
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        raise EngineMissingError(
            "the program `git` is missing",
            where=Source(file=repository.shown),
            fix="install it (Debian, Ubuntu: `apt-get install git`), or name a released version of the package",
        )
    options = [word for option in _OPTIONS for word in ("-c", option)]
    login = _login(repository, environ)
    if login is not None:
        environ["ENVBUILDER_GIT_USER"], environ["ENVBUILDER_GIT_PASSWORD"] = login
        # For this host only: a redirect to another one does not get it.
        options += ["-c", f"credential.{repository.host}.helper={_HELPER}"]
    command = (program, *options, f"--git-dir={folder}", *arguments)
    try:
        return process.run(
            command, environ=environ, timeout=_SECONDS, on_line=lambda line: machine.reporter.line("fetch", line)
        )
    except TimeoutError as cause:
        raise UnreachableError(
            f"the repository took longer than {_SECONDS} s", where=Source(file=repository.shown), fix="try again"
        ) from cause


def _environ(machine: Machine) -> dict[str, str]:
    environ = machine.settings.program_environ()
    environ.update(
        LC_ALL="C",
        GIT_CONFIG_NOSYSTEM="1",
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_ATTR_NOSYSTEM="1",
        GIT_TERMINAL_PROMPT="0",
        GIT_ALLOW_PROTOCOL="http:https:ssh",
        GIT_SSH_COMMAND="ssh -o BatchMode=yes",
    )
    if machine.settings.ca_file is not None:
        environ["GIT_SSL_CAINFO"] = str(machine.settings.ca_file)
    return environ


def _login(repository: GitRepository, environ: dict[str, str]) -> tuple[str, str] | None:
    """Return the URL's login, else that of the file that NETRC names: git itself reads `~/.netrc` only."""
    file = environ.get("NETRC")
    if repository.login is not None or file is None or repository.host.startswith("ssh:"):
        return repository.login
    try:
        found = netrc.netrc(file).authenticators(urlsplit(repository.host).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2] or "") if found is not None else None


def failure(finished: process.Finished, repository: GitRepository) -> EnvBuilderError:
    """Return the error for what git said."""
    lines = [visible(line) for line in finished.tail if line.strip() and not line.startswith("hint:")]
    text, where = "\n".join(lines), Source(file=repository.shown)
    if "No space left on device" in text:
        return DiskFullError(
            "no space left on the disk", where=where, fix="free space where ENVBUILDER_CACHE_DIR is, or move that"
        )
    if _CERTIFICATE.search(text):
        return UnreachableError(
            f"the certificate of the repository's server is not trusted\n{text}",
            where=where,
            fix="name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
        )
    if _REFUSED.search(text):
        return UnreachableError(
            f"the repository's server refused\n{text}",
            where=where,
            fix="put user and token into `.netrc` (https), or a key that needs no passphrase into `~/.ssh` (ssh)",
        )
    if _NETWORK.search(text):
        return UnreachableError(
            f"the repository's server did not answer\n{text}",
            where=where,
            fix="check the network, the proxy settings and the URL, then try again",
        )
    return LockImpossibleError(
        f"the repository cannot be fetched\n{text}", where=where, fix="check its URL, and the branch, tag or commit"
    )
