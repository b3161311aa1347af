"""What the package index says today of the locked wheels: whether they were taken back, and how old they are.

Reads the simple API in JSON (PEP 691, 700), or the HTML of indexes that have no other.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envbuilder import network
from envbuilder.audit_finding import Finding
from envbuilder.errors import InvalidFileError, Source, UnreachableError
from envbuilder.index_logins import IndexLogins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from envbuilder.locked import Lock
    from envbuilder.machine import Machine
    from envbuilder.policy import Policy

_JSON: Final = "application/vnd.pypi.simple.v1+json"
_ACCEPT: Final = {"Accept": f"{_JSON}, text/html;q=0.1"}
_AT_ONCE: Final = 8
_LONGEST: Final = 64 << 20
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """What an index says of one file."""

    yanked: str | None = None
    """Why it was taken back, which may be empty; None where it was not."""

    uploaded: date | None = None
    """None where the index does not say."""


def read(lock: Lock, machine: Machine) -> dict[str, IndexFile]:
    """Return what the machine's index says of each locked wheel, by file name; raises UnreachableError."""
    index = machine.settings.index_url
    if index is None:
        raise InvalidFileError(
            "no index is named that could be asked",
            where=Source(file="--ask-index"),
            fix="set ENVBUILDER_INDEX_URL, or `index_url` in envbuilder.yaml",
        )
    names = sorted({one.name for one in lock.packages if one.is_of_index})
    wanted = {one.filename for one in lock.packages}
    found: dict[str, IndexFile] = {}
    logins = IndexLogins(machine.settings)
    with network.session(machine.settings, auth=logins) as opened, ThreadPoolExecutor(_AT_ONCE) as pool:
        pages = pool.map(lambda name: _page(opened, f"{index.rstrip('/')}/{name}/", machine), names)
        for page in pages:
            found.update({name: file for name, file in page.items() if name in wanted})
    return found


def _page(opened: requests.Session, url: str, machine: Machine) -> dict[str, IndexFile]:
    opened.headers.update(_ACCEPT)
    with network.get(opened, url, settings=machine.settings) as response:
        data = b""
        for chunk in response.iter_content(1 << 18):
            data += chunk
            if len(data) > _LONGEST:
                break
        kind = response.headers.get("Content-Type", "")
    try:
        return _of_json(data) if kind.startswith(_JSON) else _of_html(data)
    except _MALFORMED as cause:
        raise UnreachableError(
            "the index answered something that is no list of files",
            where=Source(file=urlsplit(url).netloc.rpartition("@")[2]),
            fix="check the URL of the index",
        ) from cause


def _of_json(data: bytes) -> dict[str, IndexFile]:
    found = {}
    for one in json.loads(data)["files"]:
        stated = one.get("yanked", False)
        yanked = stated if isinstance(stated, str) else "" if stated else None
        time = one.get("upload-time")
        uploaded = datetime.fromisoformat(time.replace("Z", "+00:00")).date() if time else None
        found[str(one["filename"])] = IndexFile(yanked=yanked, uploaded=uploaded)
    return found


def _of_html(data: bytes) -> dict[str, IndexFile]:
    parser = _Links()
    parser.feed(data.decode("utf-8", "replace"))
    return parser.found


class _Links(HTMLParser):
    """The files that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, IndexFile] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a file."""
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            name = unquote(PurePosixPath(urlsplit(given["href"] or "").path).name)
            yanked = (given["data-yanked"] or "") if "data-yanked" in given else None
            self.found[name] = IndexFile(yanked=yanked)


def check(
    lock: Lock, files: Mapping[str, IndexFile], policy: Policy, *, today: date, lock_file: str
) -> Iterator[Finding]:
    """Give the wheels that were taken back, are gone, or are younger than the policy wants them."""
    where = Source(file=lock_file, key="package")
    for one in lock.packages:
        if not one.is_of_index:
            continue
        known = files.get(one.filename)
        if known is None or known.yanked is not None:
            reason = f": {known.yanked}" if known is not None and known.yanked else ""
            yield Finding(
                rule="yanked" if known is not None else "gone",
                kind="reproducibility",
                severity="warning",
                what=f"`{one.name}` {one.version} "
                + (f"was taken back by its authors{reason}" if known is not None else "is not on the index any more"),
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                fix=f"`envbuilder lock MODEL -o FILE --update {one.name}`",
            )
        youngest = today - timedelta(days=policy.minimum_age)
        if policy.minimum_age and known is not None and known.uploaded is not None and known.uploaded > youngest:
            yield Finding(
                rule="too-new",
                kind="policy",
                severity="error",
                what=f"`{one.name}` {one.version} was uploaded on {known.uploaded}",
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                why=f"the workspace wants releases to be {policy.minimum_age} days old: bad ones are found by then",
                fix=f"`envbuilder lock MODEL -o FILE --exclude-newer {youngest} --update {one.name}`",
            )
