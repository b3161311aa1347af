"""The program that solves for conda packages with rattler; `conda` starts it.

rattler stays out of envbuilder's own process: its threads can abort an interpreter that ends. One `Job` comes on
standard input, one answer leaves on standard output, and that answer decides, not how the program ends.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import conda_client
from envbuilder.conda_client import Access

if TYPE_CHECKING:
    from rattler import Channel, Gateway, MatchSpec, MultiSource, RepoDataRecord
    from rattler.networking.fetch_repo_data import CacheAction

_BROKEN: Final = "failed to parse"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """A channel, or a group of them on one step of the priority."""

    name: str
    urls: tuple[str, ...]
    """Without credentials: rattler writes them into its caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred:
    """A package that stays as it is where it can."""

    name: str
    version: str
    build: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that decides what is found, and how channels are reached."""

    sources: tuple[ChannelGroup, ...]
    """The first has the highest priority."""

    match_specs: tuple[str, ...]
    subdir: str
    virtual_packages: tuple[tuple[str, str, str], ...]
    """Name, version and build."""

    preferred: tuple[Preferred, ...] = ()
    exclude_newer: str | None = None
    """An ISO date and time of UTC."""

    cache_dir: str
    offline: bool = False
    access: Access = field(default_factory=Access)
    solve_seconds: int = 900

    def to_json(self) -> bytes:
        """Return the job as the program reads it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        value: dict[str, Any] = json.loads(text)
        value["sources"] = [ChannelGroup(**one) for one in value["sources"]]
        value["access"] = Access(**value["access"])
        value["preferred"] = [Preferred(**one) for one in value["preferred"]]
        return cls(**value)


def main() -> None:
    """Solve the job on standard input, print the answer, and end without waiting for rattler's threads."""
    answer = solve(Job.from_json(sys.stdin.read()))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def solve(job: Job) -> dict[str, Any]:
    """Return `packages`, a list of records, or `failure`, the kind of it, with `text`."""
    try:
        import rattler  # noqa: PLC0415 - the parent imports this module for `Job`
        from rattler import exceptions  # noqa: PLC0415
    except ImportError as cause:
        return {"failure": "missing", "text": str(cause)}
    match_specs: list[MatchSpec] = []
    for number, text in enumerate(job.match_specs):
        try:
            match_specs.append(rattler.MatchSpec(text))
        except exceptions.InvalidMatchSpecError as cause:
            return {"failure": "match-spec", "text": str(cause), "number": number}
    try:
        return {"packages": _solve_twice(job, match_specs)}
    except exceptions.SolverError as cause:
        return {"failure": "unsatisfiable", "text": str(cause)}
    except exceptions.AuthenticationStorageError as cause:
        return {"failure": "credentials", "text": str(cause)}
    except exceptions.GatewayError as cause:
        text = str(cause)
        # What is wrong with the list of packages is told without the name of its channel.
        return {"failure": "channel", "text": text, "url": _broken_channel(job) if _BROKEN in text else None}


def _solve_twice(job: Job, match_specs: list[MatchSpec]) -> list[dict[str, Any]]:
    """Solve; where a list of packages cannot be read, once more with new ones.

    A list that a proxy cut is in rattler's cache by then, and stays there as long as the server says it is unchanged.
    """
    import asyncio  # noqa: PLC0415

    from rattler import exceptions  # noqa: PLC0415

    try:
        return asyncio.run(_solve(job, match_specs, _gateway(job)))
    except exceptions.GatewayError as cause:
        if job.offline or _BROKEN not in str(cause):
            raise
        return asyncio.run(_solve(job, match_specs, _gateway(job, anew=True)))


async def _solve(job: Job, match_specs: list[MatchSpec], gateway: Gateway) -> list[dict[str, Any]]:
    import rattler  # noqa: PLC0415

    sources = _sources(job)
    virtual_packages = [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build))
        for name, version, build in job.virtual_packages
    ]
    records = await rattler.solve(
        sources,
        match_specs,
        gateway=gateway,
        platforms=[rattler.Subdir(job.subdir), rattler.Subdir("noarch")],
        locked_packages=await _preferred(job, gateway, sources),
        virtual_packages=virtual_packages,
        timeout=dt.timedelta(seconds=job.solve_seconds),
        exclude_newer=dt.datetime.fromisoformat(job.exclude_newer) if job.exclude_newer is not None else None,
        # A channel that says which others to ask besides is not what was asked for.
        channel_relations="disabled",
    )
    found = [json.loads(record.to_json()) for record in records]
    return sorted(found, key=lambda record: str(record["name"]))


async def _preferred(job: Job, gateway: Gateway, sources: list[Channel | MultiSource]) -> list[RepoDataRecord]:
    """Return the channels' own records of the preferred packages; what a channel took back is preferred no more."""
    import rattler  # noqa: PLC0415

    if not job.preferred:
        return []
    wanted = {one.url for one in job.preferred}
    results = await gateway.query(
        sources,
        [rattler.Subdir(job.subdir), rattler.Subdir("noarch")],
        [rattler.MatchSpec(f'{one.name}[version="=={one.version}",build="{one.build}"]') for one in job.preferred],
        recursive=False,
        channel_relations="disabled",
    )
    return [record for records in results for record in records if record.url in wanted]


def _sources(job: Job) -> list[Channel | MultiSource]:
    import rattler  # noqa: PLC0415

    found: list[Channel | MultiSource] = []
    for source in job.sources:
        channels = [rattler.Channel(url) for url in source.urls]
        found.append(channels[0] if len(channels) == 1 else rattler.MultiSource(source.name, channels))
    return found


def _gateway(job: Job, *, anew: bool = False) -> Gateway:
    import rattler  # noqa: PLC0415

    online: CacheAction = "no-cache" if anew else "cache-or-fetch"
    config = rattler.SourceConfig(cache_action="force-cache-only" if job.offline else online)
    return rattler.Gateway(cache_dir=Path(job.cache_dir), default_config=config, client=conda_client.client(job.access))


def _broken_channel(job: Job) -> str | None:
    """Return the first channel whose list of packages cannot be read, asked again one by one."""
    import asyncio  # noqa: PLC0415

    import rattler  # noqa: PLC0415

    async def query(url: str) -> None:
        platforms = [rattler.Subdir(job.subdir), rattler.Subdir("noarch")]
        await _gateway(job).query([rattler.Channel(url)], platforms, ["python"], recursive=False)

    for url in (url for source in job.sources for url in source.urls):
        try:
            asyncio.run(query(url))
        except rattler.exceptions.GatewayError as cause:
            if _BROKEN in str(cause):
                return url
    return None


if __name__ == "__main__":
    main()
