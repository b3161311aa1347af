"""rattler as a child process: from match specs to exact conda packages, for another machine than this one."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import conda_client, conda_failure, conda_solve, disk, process
from envbuilder.channel import Address, Channel, split_subdir
from envbuilder.conda_client import Access
from envbuilder.conda_failure import Asked, Wish
from envbuilder.conda_package import CondaPackage
from envbuilder.errors import InvalidFileError, LockImpossibleError, Source, UnreachableError
from envbuilder.secret import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from envbuilder.conda_settings import CondaSettings
    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.pip_line import Line
    from envbuilder.reporter import Reporter
    from envbuilder.target import Target

_START: Final = "import json, sys; sys.path += json.loads(sys.argv[1]); from envbuilder.conda_solve import main; main()"
"""Run isolated, so that nothing is imported from the current directory, but with the packages that are found here."""

_SUBDIR: Final = re.compile(r"\[.*\bsubdir\s*=\s*[\"']?([A-Za-z0-9-]+)")


def solve(
    match_specs: Collection[MatchSpec],
    *,
    channels: Iterable[Line],
    target: Target,
    settings: CondaSettings,
    reporter: Reporter,
    preferred: Iterable[CondaPackage] = (),
    update: Collection[str] = (),
    exclude_newer: dt.datetime | None = None,
) -> tuple[CondaPackage, ...]:
    """Return the conda packages that satisfy the match specs on the target, sorted by name; no match spec, no package.

    The order of channels is a strict priority; channels that only a match spec names come last. `preferred` packages
    stay where they can, except those named in `update`. Raises LockImpossibleError with rattler's explanation,
    UnreachableError when a channel cannot be read, InvalidFileError for what is no channel or no match spec.
    """
    if not match_specs:
        return ()
    asked = _asked(match_specs, channels, settings)
    moving = {name.lower() for name in update}
    job = conda_solve.Job(
        sources=tuple(conda_solve.ChannelGroup(name=one.key, urls=one.urls) for one in asked.channels),
        match_specs=tuple(one.text for one in asked.wishes),
        subdir=target.subdir,
        virtual_packages=target.virtual_packages(),
        preferred=tuple(
            conda_solve.Preferred(name=one.name, version=one.version, build=one.build, url=one.url)
            for one in preferred
            if one.name not in moving
        ),
        exclude_newer=exclude_newer.astimezone(dt.timezone.utc).isoformat() if exclude_newer is not None else None,
        cache_dir=str(settings.settings.cache_dir / "conda" / "repodata"),
        offline=settings.settings.offline,
        access=_access(asked.channels, settings),
        solve_seconds=settings.solve_seconds,
    )
    answer = _answer(job, settings, reporter)
    if "packages" not in answer:
        raise conda_failure.error(answer, asked, target, settings)
    packages = tuple(_package(record) for record in answer["packages"])
    _check_subdirs(asked, packages)
    return packages


def access(match_specs: Iterable[MatchSpec], channels: Iterable[Line], settings: CondaSettings) -> Access:
    """Return what lets one into the channels that are named, for fetching what was locked there."""
    return _access(_asked(tuple(match_specs), channels, settings).channels, settings)


def _access(channels: Collection[Channel], settings: CondaSettings) -> Access:
    return Access(
        mirrors=tuple(_mirrors(channels, settings)),
        logins=tuple(_logins(channels, settings)),
        retries=settings.retries,
        answer_seconds=settings.answer_seconds,
    )


def _asked(match_specs: Iterable[MatchSpec], channels: Iterable[Line], settings: CondaSettings) -> Asked:
    alias, named = settings.channel_alias, dict(settings.named)
    found: dict[str, Channel] = {}
    for line in channels:
        channel = Channel.find(line.raw, alias=alias, source=line.source, named=named)
        if channel is not None:
            found.setdefault(channel.key, channel)
    wishes = []
    # In one order, whatever the order of the lines: the same wishes get the same answer.
    for spec in sorted(match_specs, key=lambda one: (one.meaning, str(one.source))):
        place, subdir = split_subdir(_channel_of(spec))
        channel = Channel.find(place, alias=alias, source=spec.source, named=named) if place else None
        if channel is not None:
            found.setdefault(channel.key, channel)
        if (bracket := _SUBDIR.search(spec.text)) is not None:
            subdir = bracket[1]
        wishes.append(Wish(match_spec=spec, text=_text(spec, channel), subdir=subdir))
    if not found:
        # As conda itself does where nobody names a channel.
        default = Channel.find("defaults", alias=alias, source=wishes[0].match_spec.source, named=named)
        found = {default.key: default} if default is not None else {}
    return Asked(channels=tuple(found.values()), wishes=tuple(wishes))


def _channel_of(spec: MatchSpec) -> str:
    """Return the channel of a match spec as written, with credentials; empty when it names none."""
    if spec.channel is None or spec.secret is None:
        return spec.channel or ""
    written = spec.secret.value.strip()
    if "::" in written:
        return written.partition("::")[0].strip()
    bracket = re.search(r"\bchannel\s*=\s*[\"']?([^\"',\]\s]+)", written)
    return bracket[1] if bracket is not None else spec.channel


def _text(spec: MatchSpec, channel: Channel | None) -> str:
    parts = {"version": spec.version, "build": spec.build, "channel": channel.key if channel is not None else None}
    inside = ",".join(f'{key}="{value}"' for key, value in parts.items() if value is not None)
    return f"{spec.name}[{inside}]" if inside else spec.name


def _check_subdirs(asked: Asked, packages: Iterable[CondaPackage]) -> None:
    """Raise LockImpossibleError where a line asks for a subdir and got another: rattler does not look at it."""
    found = {package.name: package for package in packages}
    for wish in asked.wishes:
        package = found.get(wish.match_spec.name.lower())
        if wish.subdir is not None and package is not None and package.subdir != wish.subdir:
            raise LockImpossibleError(
                f"`{wish.match_spec.text}` asks for the subdir `{wish.subdir}`, the best is in `{package.subdir}`",
                where=wish.match_spec.source,
                fix="name the build instead: `name=version=build`",
            )


def _mirrors(channels: Iterable[Channel], settings: CondaSettings) -> Iterator[tuple[str, tuple[str, ...]]]:
    for address, mirrors in settings.mirrors:
        yield f"{address.url}/", tuple(f"{mirror.request_url}/" for mirror in mirrors)
    mirrored = [f"{address.url}/" for address, _ in settings.mirrors]
    for channel in channels:
        for address in channel.addresses:
            # A token is part of the path: kept out of what rattler takes for the channel's address.
            if address.request_url != address.url and not f"{address.url}/".startswith(tuple(mirrored)):
                yield f"{address.url}/", (f"{address.request_url}/",)


def _logins(channels: Iterable[Channel], settings: CondaSettings) -> list[tuple[str, str, str]]:
    addresses = [address for channel in channels for address in channel.addresses]
    addresses += [mirror for _, mirrors in settings.mirrors for mirror in mirrors]
    found = [
        (*conda_client.host_and_path(address.request_url), address.authorization)
        for address in addresses
        if address.authorization is not None
    ]
    return sorted(found, key=lambda login: -len(login[1]))


def _answer(job: conda_solve.Job, settings: CondaSettings, reporter: Reporter) -> Mapping[str, Any]:
    folder = settings.settings.cache_dir / "conda"
    with disk.full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        finished = process.run(
            (sys.executable, "-I", "-c", _START, json.dumps([path for path in sys.path if Path(path).is_absolute()])),
            environ=settings.program_environ(),
            stdin=job.to_json(),
            cwd=folder,
            timeout=settings.solve_seconds,
            on_line=lambda line: reporter.line("lock", visible(line)),
        )
    except TimeoutError as cause:
        raise UnreachableError(
            f"no answer of the channels, or no solution, within {settings.solve_seconds} s",
            fix="try again; ask for fewer packages, or pin more of them",
        ) from cause
    try:
        answer: dict[str, Any] = json.loads(finished.stdout)
    except ValueError as cause:
        if finished.code < 0:
            raise LockImpossibleError(
                f"the conda solver was ended by signal {-finished.code}",
                fix="it may have been out of memory: free some, and try again",
            ) from cause
        tail = "\n".join(visible(line) for line in finished.tail)
        message = f"the conda solver gave no answer (exit code {finished.code})\n{tail}"
        raise RuntimeError(message) from cause
    return answer


def _package(record: Mapping[str, Any]) -> CondaPackage:
    try:
        # A channel may keep its files elsewhere, at an address of its own words.
        address = Address.parse(str(record.get("url")), where=Source(file="repodata.json"))
        return CondaPackage.from_record({**record, "url": address.url})
    except (ValueError, InvalidFileError) as cause:
        raise LockImpossibleError(
            f"the channel's record of `{visible(str(record.get('name')))}` cannot be used: {visible(str(cause))}",
            where=Source(file=visible(str(record.get("url")))),
            fix="take the package from another channel, or tell who runs this one",
        ) from cause
