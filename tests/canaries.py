"""Secrets that are made up for one run, in every spelling in which they could leak, and where to look for them."""

from __future__ import annotations

import base64
import gzip
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator


RUN = secrets.token_hex(6)
"""What all passwords of a run have in common: gigabytes are looked through for it first."""


def _cores(text: bytes) -> set[bytes]:
    """Return what base64 makes of the text wherever it begins: without the letters that its neighbours decide on."""
    found = set()
    for before in range(3):
        drop, end = (before * 8 + 5) // 6, (before + len(text)) * 8 // 6
        for coded in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(coded(bytes(before) + text)[drop:end])
    return found


_TRACES = (RUN.encode(), *sorted(_cores(RUN.encode())))


@dataclass(frozen=True, slots=True)
class Canary:
    """A user with a password that must be percent-encoded in a URL."""

    user: str
    password: str = field(default_factory=lambda: f"c@nary/{RUN}{secrets.token_hex(6)}")

    @property
    def login(self) -> tuple[str, str]:
        return self.user, self.password

    @property
    def quoted(self) -> str:
        """User and password as a URL has them."""
        return f"{self.user}:{quote(self.password, safe='')}"

    @property
    def forms(self) -> set[bytes]:
        """The password as it is written, percent-encoded by different rules, and in base64 alone and as a login."""
        raw = self.password.encode()
        texts = {self.password, quote(self.password), quote(self.password, safe=""), quote(self.password, safe="/@")}
        found = {text.encode() for text in texts} | {quote(self.password, safe="").lower().encode()}
        for coded in (base64.b64encode, base64.urlsafe_b64encode):
            found |= {coded(data).rstrip(b"=") for data in (raw, f"{self.user}:{self.password}".encode())}
        return found | {self.password.rpartition("/")[2].encode()}


@dataclass(slots=True)
class Watch:
    """Looks for canaries, and remembers where one was."""

    canaries: tuple[Canary, ...]
    found: list[str] = field(default_factory=list)
    looked_at: int = 0

    def look(self, where: str, data: bytes | str) -> None:
        """Look at some bytes."""
        self.looked_at += 1
        raw = data.encode() if isinstance(data, str) else data
        if not any(trace in raw for trace in _TRACES):
            return
        for canary in self.canaries:
            if any(form in raw for form in canary.forms):
                self.found.append(f"{canary.user} in {where}")

    def look_below(self, folder: Path, *, known: frozenset[Path] = frozenset()) -> None:
        """Look at the names of all files and the content of those that were not `known`; gzip is unpacked."""
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            self.look(f"the name {relative}", str(relative))
            if path.is_symlink() or not path.is_file() or relative in known:
                continue
            data = path.read_bytes()
            self.look(str(path), data)
            if data.startswith(b"\x1f\x8b"):
                self.look(f"{path}, unpacked", gzip.decompress(data))

    @contextmanager
    def on_processes(self, must_see: bytes) -> Iterator[None]:
        """Look at the command lines of all processes while the block lasts; one of them must have `must_see` in it."""
        seen: set[bytes] = set()
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        seen.add(path.read_bytes())
                    except OSError:
                        continue
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        assert any(must_see in line for line in seen), f"no process with {must_see!r} was seen"
        for line in seen:
            self.look(f"the command line {line.split(bytes(1))[:3]!r}", line)
