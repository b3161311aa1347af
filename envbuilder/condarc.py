"""conda's own configuration, as far as it says where a named channel is and how it is reached. Pure.

Its lists of channels are left out: what a model's lock asks for is said by the model and the workspace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from envbuilder.channel import DEFAULTS, Address, Channel, is_name
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, get_document, get_mapping, get_text, get_texts
from envbuilder.problems import Problems, shown
from envbuilder.yaml_text import EMPTY, Node, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SCHEMES: Final = ("http", "https", "all")
_REACHED: Final = ("http://", "https://", "file://")
"""What is asked; mamba also knows mirrors in container registries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condarc:
    """What one .condarc says."""

    channel_alias: Address | None = None
    named: tuple[tuple[str, tuple[Stated[str], ...]], ...] = field(default=(), repr=False)
    """Where the channels of `custom_channels` are, and what the groups are made of, `defaults` among them."""

    mirrored: tuple[tuple[str, tuple[Address, ...]], ...] = ()
    """Who is asked instead of a channel."""

    ca_file: str | None = field(default=None, repr=False)
    """The path in `ssl_verify`."""

    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The scheme, and the proxy for it."""

    @classmethod
    def parse(cls, text: str | bytes, *, file: str, environ: Mapping[str, str]) -> Condarc:
        """Read the text of a .condarc, filling in variables as conda does; raise InvalidFileError with all problems."""
        source, problems = Source(file=file), Problems()
        node = load(text, source_file=file)
        document = EMPTY if node is None else get_document(_filled(node, environ), source, "a .condarc")
        verify = document.get("ssl_verify")
        found = cls(
            channel_alias=_address(get_text(document, "channel_alias", source, problems), problems),
            named=tuple(_named(document, source, problems)),
            mirrored=tuple(_mirrored(document, source, problems)),
            ca_file=verify if isinstance(verify, str) and verify != "truststore" else None,
            proxies=tuple(_proxies(document, source, problems)),
        )
        problems.finish()
        return found


def channels(files: Iterable[Condarc], *, alias: Address) -> dict[str, tuple[Address, ...]]:
    """Return the addresses of the named channels; the nearest file that names one counts.

    Raises InvalidFileError for what is no channel.
    """
    stated = {name: members for one in reversed(tuple(files)) for name, members in one.named}
    problems = Problems()
    found: dict[str, tuple[Address, ...]] = {}
    # Groups may name channels that stand alone, so those come first.
    for name, members in sorted(stated.items(), key=lambda item: any("://" not in one.value for one in item[1])):
        addresses: list[Address] = []
        for member in members:
            try:
                channel = Channel.find(member.value, alias=alias, source=member.source, named=found)
            except InvalidFileError as error:
                problems.extend(error.problems)
            else:
                addresses += channel.addresses if channel is not None else ()
        if addresses:
            found[name] = tuple(addresses)
    problems.finish()
    return found


def _by_name(document: Mapping[str, Node], key: str, source: Source, problems: Problems) -> Mapping[str, Node]:
    """Return the members of `key` whose names are those of channels."""
    members = get_mapping(document, key, source, problems) or EMPTY
    for name in members:
        if not is_name(name):
            problems.add(
                f"`{shown(name)}` is not the name of a channel",
                where=source.child(key),
                fix="write a name, such as `team` or `team/label/dev`, and its address",
            )
    return {name: value for name, value in members.items() if is_name(name)}


def _named(
    document: Mapping[str, Node], source: Source, problems: Problems
) -> Iterator[tuple[str, tuple[Stated[str], ...]]]:
    custom = _by_name(document, "custom_channels", source, problems)
    for name in custom:
        base = get_text(custom, name, source.child("custom_channels"), problems)
        if base is not None and _address(base, problems) is not None:
            yield name, (Stated(value=f"{base.value.rstrip('/')}/{name}", source=base.source),)
    groups = _by_name(document, "custom_multichannels", source, problems)
    for name in groups:
        members = get_texts(groups, name, source.child("custom_multichannels"), problems)
        if members:
            yield name, members
    if members := get_texts(document, "default_channels", source, problems):
        yield DEFAULTS, members


def _mirrored(
    document: Mapping[str, Node], source: Source, problems: Problems
) -> Iterator[tuple[str, tuple[Address, ...]]]:
    mirrored = _by_name(document, "mirrored_channels", source, problems)
    for name in mirrored:
        stated = get_texts(mirrored, name, source.child("mirrored_channels"), problems)
        read = [_address(one, problems) for one in stated if one.value.startswith(_REACHED)]
        if addresses := tuple(one for one in read if one is not None):
            yield name, addresses


def _proxies(document: Mapping[str, Node], source: Source, problems: Problems) -> Iterator[tuple[str, str]]:
    servers = get_mapping(document, "proxy_servers", source, problems) or EMPTY
    for scheme in _SCHEMES:
        stated = get_text(servers, scheme, source.child("proxy_servers"), problems)
        if stated is not None:
            yield scheme, stated.value if "://" in stated.value else f"http://{stated.value}"


def _address(stated: Stated[str] | None, problems: Problems) -> Address | None:
    if stated is None:
        return None
    try:
        return Address.parse(stated.value, where=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None


def _filled(node: Node, environ: Mapping[str, str]) -> Node:
    """Return `node` with the variables in its texts filled in; one that is not set stays as it is written."""
    if isinstance(node, Mapping):
        return {key: _filled(value, environ) for key, value in node.items()}
    if isinstance(node, tuple):
        return tuple(_filled(one, environ) for one in node)
    if isinstance(node, str):
        return _VARIABLE.sub(lambda found: environ.get(found[1] or found[2], found[0]), node)
    return node
