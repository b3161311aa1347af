"""The program that fetches conda packages with rattler's client, which knows where credentials are kept.

One job of JSON comes on standard input, one answer leaves on standard output and decides; lines of standard error are
numbers of bytes. A file has its final name only with the digest that was locked.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from envbuilder import conda_client
from envbuilder.conda_client import Access
from envbuilder.installer import conda_link

if TYPE_CHECKING:
    from rattler.networking import Client

_AT_ONCE: Final = 8
_ATTEMPTS: Final = 2
"""What a proxy cut or spoilt may be whole the next time."""

FACTS: Final = "facts.json"
"""What is known of a package, in a file beside it."""

_ACTIVATION: Final = ("etc/conda/activate.d/", "etc/conda/env_vars.d/")
_SCRIPTS: Final = ("-pre-link.sh", "-post-link.sh", "-pre-unlink.sh")


async def fetch_all(job: dict[str, Any]) -> list[dict[str, str]]:
    """Fetch the job's packages; return a failure for each that cannot be had."""
    client = conda_client.client(Access(**job["access"]))
    room = asyncio.Semaphore(_AT_ONCE)

    async def fetch(package: dict[str, Any]) -> dict[str, str] | None:
        async with room:
            return await _fetch(client, package)

    found = await asyncio.gather(*(fetch(package) for package in job["packages"]))
    return [failure for failure in found if failure is not None]


async def _fetch(client: Client, package: dict[str, Any]) -> dict[str, str] | None:
    target = Path(package["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    failure: dict[str, str] | None = None
    try:
        for _ in range(_ATTEMPTS):
            failure = await _attempt(client, package, part)
            if failure is None:
                part.chmod(0o644)
                known = await facts(part)
                target.with_name(FACTS).write_text(json.dumps(known))
                part.replace(target)
                _tell(target)
                break
    except conda_link.PackageError as cause:
        return {"url": package["url"], "kind": cause.kind, "text": str(cause)}
    except OSError as cause:
        return {"url": package["url"], "kind": "disk", "text": str(cause), "errno": str(cause.errno or 0)}
    finally:
        part.unlink(missing_ok=True)
    return failure


def _tell(target: Path) -> None:
    sys.stderr.write(f"{target.stat().st_size}\n")
    sys.stderr.flush()


async def _attempt(client: Client, package: dict[str, Any], part: Path) -> dict[str, str] | None:
    from rattler.package_streaming import download_to_path  # noqa: PLC0415

    url = package["url"]
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            shutil.copyfile(unquote(parts.path), part)
        else:
            await download_to_path(client, url, part)
    except FileNotFoundError:
        return {"url": url, "kind": "unreachable", "text": "there is no such file"}
    except Exception as cause:
        # A full disk is not the channel's fault.
        if isinstance(cause, OSError) and cause.errno:
            raise
        return {"url": url, "kind": "unreachable", "text": str(cause)}
    found = conda_link.sha256_of(str(part))
    if found != package["sha256"]:
        return {"url": url, "kind": "digest", "text": f"sha256:{found}", "expected": f"sha256:{package['sha256']}"}
    return None


async def facts(archive: Path) -> dict[str, bool | list[str]]:
    """Return what is known of a package without linking it: link scripts, activation, libraries."""
    from rattler.package_streaming import PackageArchive  # noqa: PLC0415

    try:
        opened = await PackageArchive.from_path(archive)
        about = await opened.read_files(["info/paths.json", "info/files"])
        listed = about["info/paths.json"]
        if listed is not None:
            paths = [str(one["_path"]) for one in json.loads(listed)["paths"]]
        else:
            paths = (about["info/files"] or b"").decode().splitlines()
    except Exception as cause:  # rattler raises many kinds for a broken archive
        raise conda_link.PackageError("content", f"it cannot be read: {cause}") from cause
    return {
        "scripts": any(path.startswith("bin/.") and path.endswith(_SCRIPTS) for path in paths),
        "activates": any(path.startswith(_ACTIVATION) for path in paths),
        "libraries": sorted(path[4:] for path in paths if path.startswith("lib/lib") and ".so" in path[4:]),
    }


def main() -> None:
    """Fetch the job on standard input, print the failures, and end without waiting for rattler's threads."""
    answer = asyncio.run(fetch_all(json.loads(sys.stdin.read())))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
