"""What an envbuilder.yaml says of what was not chosen: base, engine, indexes, channels, proxy, certificates. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder import package_index
from envbuilder.amendment import check_keys
from envbuilder.base_request import BaseRequest, read_image
from envbuilder.channel import Address
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, get_mapping, get_text, get_texts
from envbuilder.pip_line import Line
from envbuilder.problems import Problems, shown
from envbuilder.yaml_text import EMPTY, Node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.package_index import IndexKind, PackageIndex
    from envbuilder.python_request import PythonRequest

_DEFAULTS: Final = (
    "base_image",
    "engine",
    "platform",
    "index_url",
    "extra_index_urls",
    "find_links",
    "keyring",
    "channel_alias",
    "channel_mirrors",
    "proxy",
    "no_proxy",
    "ca_file",
)
_ENGINES: Final = ("auto", "docker", "podman", "oci")
_PLATFORMS: Final = ("linux/amd64", "linux/arm64")
_KEYRING: Final = ("disabled", "subprocess")
_PROXY: Final = re.compile(r"(https?|socks5h?)://([^\s/@]+@)?[^\s/@:]+(:\d{1,5})?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where neither the command line nor an environment says something else."""

    base: BaseRequest | None = None
    bases: tuple[tuple[str, BaseRequest], ...] = ()
    """A base for each minor version of Python."""
    engine: Stated[str] | None = None
    platform: Stated[str] | None = None
    index_url: PackageIndex | None = None
    extra_index_urls: tuple[PackageIndex, ...] = ()
    find_links: tuple[PackageIndex, ...] = ()
    """Pages with links to wheels."""
    keyring: Stated[str] | None = None
    """How passwords of indexes are looked up in a keyring, in pip's and uv's words."""
    channel_alias: Line | None = None
    """What the names of conda channels are below."""
    channel_mirrors: tuple[tuple[Line, Line], ...] = ()
    """Who is asked instead of an address; the lock keeps the address."""
    proxy: Line | None = None
    """What everything over http(s) goes through."""
    no_proxy: tuple[str, ...] = ()
    """Hosts, domains and networks that are reached without it."""
    ca_file: Stated[str] | None = None
    """The path of a PEM file, relative to the workspace."""

    def base_for(self, python: PythonRequest) -> BaseRequest | None:
        """Return the base for the Python that is asked for, None where none is stated."""
        fitting = (base for minor, base in self.bases if python.allows_minor(minor))
        return next(fitting, self.base)


def read(members: Mapping[str, Node], source: Source, problems: Problems) -> Defaults:
    """Read the members of `defaults`; what is wrong with them is added to `problems`."""
    check_keys(members, _DEFAULTS, source, problems)
    bases = members.get("base_image")
    by_python: list[tuple[str, BaseRequest]] = []
    if isinstance(bases, Mapping):
        where = source.child("base_image")
        for minor in bases:
            base = read_image(bases, minor, where, problems)
            if not re.fullmatch(r"3\.\d{1,2}", minor):
                problems.add(
                    f"`{shown(minor)}` is not a minor version of Python", where=where, fix="write e.g. `3.11: NAME`"
                )
            elif base is not None:
                by_python.append((minor, base))
    index = get_text(members, "index_url", source, problems)
    return Defaults(
        base=read_image(members, "base_image", source, problems) if not isinstance(bases, Mapping) else None,
        bases=tuple(by_python),
        engine=_one_of(members, "engine", _ENGINES, source, problems),
        platform=_one_of(members, "platform", _PLATFORMS, source, problems),
        index_url=package_index.read("index_url", index, problems) if index is not None else None,
        extra_index_urls=_indexes("extra_index_url", members, "extra_index_urls", source, problems),
        find_links=_indexes("find_links", members, "find_links", source, problems),
        keyring=_one_of(members, "keyring", _KEYRING, source, problems),
        channel_alias=_address(get_text(members, "channel_alias", source, problems), problems),
        channel_mirrors=tuple(_mirrors(members, source, problems)),
        proxy=_proxy(get_text(members, "proxy", source, problems), problems),
        no_proxy=tuple(_directs(get_texts(members, "no_proxy", source, problems), problems)),
        ca_file=get_text(members, "ca_file", source, problems),
    )


def _indexes(
    kind: IndexKind, members: Mapping[str, Node], key: str, source: Source, problems: Problems
) -> tuple[PackageIndex, ...]:
    read = [package_index.read(kind, one, problems) for one in get_texts(members, key, source, problems)]
    return tuple(one for one in read if one is not None)


def _proxy(stated: Stated[str] | None, problems: Problems) -> Line | None:
    if stated is None or _PROXY.fullmatch(stated.value):
        return Line.of(stated.value, source=stated.source) if stated is not None else None
    problems.add(
        f"`{shown(stated.value)}` is not the URL of a proxy", where=stated.source, fix="write `http://HOST:PORT`"
    )
    return None


def _directs(stated: Iterable[Stated[str]], problems: Problems) -> Iterable[str]:
    for one in stated:
        if re.fullmatch(r"[A-Za-z0-9._:*/\[\]-]+", one.value):
            yield one.value
        else:
            problems.add(
                f"`{shown(one.value)}` is not a host",
                where=one.source,
                fix="write a host, a domain such as `.example`, or a network such as `10.0.0.0/8`",
            )


def _mirrors(members: Mapping[str, Node], source: Source, problems: Problems) -> Iterable[tuple[Line, Line]]:
    where = source.child("channel_mirrors")
    pairs = get_mapping(members, "channel_mirrors", source, problems) or EMPTY
    for address in pairs:
        of = _address(Stated(value=address, source=where.child(address)), problems)
        by = _address(get_text(pairs, address, where, problems), problems)
        if of is not None and by is not None:
            yield of, by


def _address(stated: Stated[str] | None, problems: Problems) -> Line | None:
    """Read the URL of a conda channel, or of what channels are below."""
    if stated is None:
        return None
    try:
        Address.parse(stated.value, where=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None
    return Line.of(stated.value, source=stated.source)


def _one_of(
    members: Mapping[str, Node], key: str, known: tuple[str, ...], source: Source, problems: Problems
) -> Stated[str] | None:
    stated = get_text(members, key, source, problems)
    if stated is None or stated.value in known:
        return stated
    listed = " or ".join(f"`{one}`" for one in known)
    problems.add(f"`{shown(stated.value)}` is not known here", where=stated.source, fix=f"write {listed}")
    return None
