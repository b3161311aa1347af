"""Measures a conda solve on a synthetic channel: 60,000 records, an answer of 400 packages.

    python bench/conda.py

The channel is generated into a temporary folder and served from it, and by a server on loopback. Every figure is
wall-clock seconds of `envbuilder.conda.solve`, the child process included; the memory is the child's peak.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from envbuilder import conda  # noqa: E402 - the repository is not a package
from envbuilder.conda_settings import CondaSettings  # noqa: E402
from envbuilder.conda_yaml import MatchSpec  # noqa: E402
from envbuilder.errors import Source  # noqa: E402
from envbuilder.pip_line import Line  # noqa: E402
from envbuilder.reporter import Reporter  # noqa: E402
from envbuilder.settings import Settings  # noqa: E402
from envbuilder.target import Target  # noqa: E402
from tests.conda_channel import running_channel  # noqa: E402

if TYPE_CHECKING:
    from envbuilder.conda_package import CondaPackage

NAMES: Final = 4000
VERSIONS: Final = 15
ANSWER: Final = 400
REPEATS: Final = 7
GOAL_SECONDS: Final = 2.0
GOAL_MIB: Final = 1024
WHERE: Final = Source(file="bench")


def record(number: int, version: int, randomness: random.Random) -> dict[str, Any]:
    """Return a record that needs two packages further down a tree of `ANSWER` names, and some it shares with others."""
    tree = number < ANSWER
    below = [2 * number + 1, 2 * number + 2, number + 17] if tree else randomness.sample(range(NAMES), 4)
    limit = ANSWER if tree else NAMES
    low = max(0, version - 4)
    depends = [f"package-{one} >={low}.0,<{version + 3}.0a0" for one in below if one < limit]
    text = f"{number}-{version}"
    return {
        "build": "0",
        "build_number": 0,
        "depends": ["__glibc >=2.17", *depends],
        "license": "MIT",
        "md5": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "name": f"package-{number}",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "size": randomness.randrange(10_000, 50_000_000),
        "subdir": "linux-64" if number % 2 else "noarch",
        "timestamp": 1_600_000_000_000 + version * 10_000_000_000,
        "version": f"{version}.{randomness.randrange(10)}",
    }


def channel() -> dict[str, bytes]:
    """Return the files of the channel; the same every time."""
    randomness = random.Random(20260101)
    packages: dict[str, dict[str, Any]] = {"linux-64": {}, "noarch": {}}
    for number in range(NAMES):
        for version in range(VERSIONS):
            one = record(number, version, randomness)
            packages[one["subdir"]][f"{one['name']}-{one['version']}-0.conda"] = one
    return {
        f"{subdir}/repodata.json": json.dumps(
            {"info": {"subdir": subdir}, "packages": {}, "packages.conda": found, "repodata_version": 1}
        ).encode()
        for subdir, found in packages.items()
    }


def solve(url: str, settings: CondaSettings, preferred: tuple[CondaPackage, ...] = ()) -> tuple[CondaPackage, ...]:
    return conda.solve(
        [MatchSpec.parse("package-0", source=WHERE)],
        channels=[Line.of(url, source=WHERE)],
        target=Target(subdir="linux-64"),
        settings=settings,
        reporter=Reporter(),
        preferred=preferred,
    )


def measure(name: str, url: str, settings: CondaSettings, preferred: tuple[CondaPackage, ...] = ()) -> bool:
    """Print the median of some solves; True when it is within the goal."""
    taken = []
    found: tuple[CondaPackage, ...] = ()
    for _ in range(REPEATS):
        began = time.monotonic()
        found = solve(url, settings, preferred)
        taken.append(time.monotonic() - began)
    median = statistics.median(taken)
    print(f"{name:34} {median:5.2f} s  ({min(taken):.2f} to {max(taken):.2f}), {len(found)} packages")
    return median <= GOAL_SECONDS and len(found) == ANSWER


def main() -> None:
    files = channel()
    good = True
    with tempfile.TemporaryDirectory() as name, running_channel() as server:
        folder = Path(name)
        for path, data in files.items():
            (folder / "channel" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "channel" / path).write_bytes(data)
        server.channels["channel"] = files
        machine = Settings(cache_dir=folder / "cache", environ=(("HOME", name),))
        settings = CondaSettings.from_environ({}, settings=machine)
        cold = replace(settings, settings=replace(machine, cache_dir=folder / "cold"))
        size = sum(len(data) for data in files.values()) / 1e6
        print(f"{NAMES * VERSIONS} records, {size:.0f} MB of repodata.json, {os.cpu_count()} cores")
        began = time.monotonic()
        locked = solve(f"{server.url}/channel", cold)
        print(f"{'over http, nothing cached':34} {time.monotonic() - began:5.2f} s")
        url = f"{server.url}/channel"
        good &= measure("from a folder", (folder / "channel").as_uri(), settings)
        good &= measure("over http, cached", url, cold)
        good &= measure("over http, cached, locked before", url, cold, locked)
        good &= measure("offline", url, replace(cold, settings=replace(cold.settings, offline=True)))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{'memory of the child':34} {peak:5.0f} MiB")
    if not good or peak > GOAL_MIB:
        sys.exit(f"the goal is {GOAL_SECONDS:g} s and {GOAL_MIB} MiB for {ANSWER} packages")


if __name__ == "__main__":
    main()
