"""What a run may use to reach conda channels: the alias of their names, mirrors, credentials, certificates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder.channel import Address
from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.settings import Settings

CHANNEL_ALIAS: Final = "https://conda.anaconda.org"
_PASSED_ON: Final = ("RATTLER_AUTH_FILE", "NETRC", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS")
"""Where rattler looks for credentials; the proxies and HOME are among the settings' own variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaSettings:
    """The machine's side of a conda solve."""

    settings: Settings
    """Cache folder, certificates, proxies, offline or not: the same for conda and pip."""

    channel_alias: Address
    """Channels that have a name only are below it."""

    mirrors: tuple[tuple[Address, tuple[Address, ...]], ...] = ()
    """Who is asked instead of an address and everything below it; the lock keeps the address itself."""

    environ: tuple[tuple[str, str], ...] = ()
    """Variables that say where rattler finds credentials."""

    retries: int = 3
    """How often is asked again after an answer that can be another one next time (5xx, 429, a broken connection)."""

    answer_seconds: int = 300
    """How long one answer may take, to its last byte."""

    solve_seconds: int = 900
    """How long everything may take."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, settings: Settings) -> CondaSettings:
        """Read `ENVBUILDER_CHANNEL_ALIAS`, `ENVBUILDER_CHANNEL_MIRRORS` and where rattler keeps credentials.

        The mirrors are `ADDRESS=MIRROR`, separated by spaces; several of one address are tried in their order. conda's
        own `CONDA_CHANNEL_ALIAS` counts where ours is not set. Raises InvalidFileError.
        """
        name = "ENVBUILDER_CHANNEL_ALIAS" if environ.get("ENVBUILDER_CHANNEL_ALIAS") else "CONDA_CHANNEL_ALIAS"
        return cls(
            settings=settings,
            channel_alias=Address.parse(environ.get(name) or CHANNEL_ALIAS, where=Source(file=name)),
            mirrors=_mirrors(environ.get("ENVBUILDER_CHANNEL_MIRRORS", "")),
            environ=tuple((name, environ[name]) for name in _PASSED_ON if environ.get(name)),
        )

    def program_environ(self) -> dict[str, str]:
        """Return the environment of the program that solves; raises InvalidFileError when credentials are missing."""
        environ = {**self.settings.program_environ(), **dict(self.environ)}
        # rattler goes on without a file that is not there, and the channel then only says 401.
        if (file := environ.get("RATTLER_AUTH_FILE")) is not None and not Path(file).is_file():
            raise InvalidFileError(
                "there is no such file of credentials",
                where=Source(file=f"RATTLER_AUTH_FILE={file}"),
                fix="correct the path, or unset RATTLER_AUTH_FILE",
            )
        return environ


def _mirrors(text: str) -> tuple[tuple[Address, tuple[Address, ...]], ...]:
    found: dict[str, tuple[Address, tuple[Address, ...]]] = {}
    for index, pair in enumerate(text.split()):
        where = Source(file="ENVBUILDER_CHANNEL_MIRRORS").child(index)
        of, equals, by = pair.partition("=")
        if not equals:
            raise InvalidFileError("not an address and its mirror", where=where, fix="write `ADDRESS=MIRROR`")
        address, mirror = Address.parse(of, where=where), Address.parse(by, where=where)
        _, others = found.get(address.url, (address, ()))
        found[address.url] = (address, (*others, mirror))
    return tuple(found.values())
