"""What a run may use to reach conda channels: the alias of their names, mirrors, credentials, certificates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from envbuilder import condarc
from envbuilder.channel import Address
from envbuilder.condarc import Condarc
from envbuilder.errors import InvalidFileError, Source
from envbuilder.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envbuilder.settings import Settings

Mirrors: TypeAlias = "tuple[tuple[Address, tuple[Address, ...]], ...]"
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

    named: tuple[tuple[str, tuple[Address, ...]], ...] = ()
    """Channels whose names lead elsewhere, and groups of them, as conda's own configuration has them."""

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
        own `CONDA_CHANNEL_ALIAS` counts where ours is not set, and its .condarc files where neither is. Raises
        InvalidFileError.
        """
        name = "ENVBUILDER_CHANNEL_ALIAS" if environ.get("ENVBUILDER_CHANNEL_ALIAS") else "CONDA_CHANNEL_ALIAS"
        files = _condarc_files(environ, settings)
        alias = next((one.channel_alias for one in files if one.channel_alias is not None), None)
        if environ.get(name) or alias is None:
            alias = Address.parse(environ.get(name) or CHANNEL_ALIAS, where=Source(file=name))
        return cls(
            settings=_reaching(settings, files),
            channel_alias=alias,
            named=tuple(condarc.channels(files, alias=alias).items()),
            mirrors=_all_mirrors(_mirrors(environ.get("ENVBUILDER_CHANNEL_MIRRORS", "")), files, alias),
            environ=tuple((name, environ[name]) for name in _PASSED_ON if environ.get(name)),
        )

    @property
    def places(self) -> list[object]:
        """Where channels are, without credentials: what an answer that is kept depends on."""
        named = [[name, [one.url for one in addresses]] for name, addresses in self.named]
        mirrors = [[of.url, [one.url for one in by]] for of, by in self.mirrors]
        return [self.channel_alias.url, named, mirrors]

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


def _condarc_files(environ: Mapping[str, str], settings: Settings) -> tuple[Condarc, ...]:
    """Read conda's own files, the nearest first."""
    home = dict(settings.environ).get("HOME")
    places = [Path(environ["CONDARC"])] if environ.get("CONDARC") else []
    places += [Path(home) / ".condarc", Path(home) / ".conda" / ".condarc"] if home else []
    found = []
    for path in (*places, Path("/etc/conda/.condarc")):
        try:
            with path.open("rb") as stream:
                text = stream.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as cause:
            raise InvalidFileError(
                f"conda's configuration cannot be read ({cause.strerror})",
                where=Source(file=str(path)),
                fix="make it readable, or remove it",
            ) from cause
        found.append(Condarc.parse(text, file=str(path), environ=environ))
    return tuple(found)


def _reaching(settings: Settings, files: Iterable[Condarc]) -> Settings:
    """Return the settings with conda's CA and proxies where the machine names none."""
    authorities = (Path(one.ca_file).expanduser() for one in files if one.ca_file is not None)
    ca_file = settings.ca_file or next((path for path in authorities if path.is_file()), None)
    environ = dict(settings.environ)
    proxies = {scheme: url for one in reversed(tuple(files)) for scheme, url in one.proxies}
    for scheme, url in proxies.items():
        if not any(
            environ.get(name) for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
        ):
            environ |= {f"{scheme}_proxy": url, f"{scheme}_proxy".upper(): url}
    return replace(settings, ca_file=ca_file, environ=tuple(environ.items()))


def _all_mirrors(ours: Mirrors, files: Iterable[Condarc], alias: Address) -> Mirrors:
    known = {address.url for address, _ in ours}
    named = {name: mirrors for one in reversed(tuple(files)) for name, mirrors in one.mirrored}
    condas = tuple((alias.child(name), mirrors) for name, mirrors in named.items())
    return (*ours, *(pair for pair in condas if pair[0].url not in known))


def _mirrors(text: str) -> Mirrors:
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
