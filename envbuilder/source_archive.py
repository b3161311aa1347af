"""Source archives (sdists, or any archive that a requirement names): fetched into a cache by content, and opened."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import requests

from envbuilder import digest, disk, network, source_unpack
from envbuilder.errors import InvalidFileError, Source, UnreachableError
from envbuilder.secret import printable, redact
from envbuilder.source_tree import SourceTree
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.machine import Machine
    from envbuilder.secret import Secret

MAX_BYTES: Final = 1 << 30
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceArchive:
    """An archive in the cache."""

    path: Path
    digest: Digest
    url: str
    """Where it came from, without credentials."""


def fetch(url: str, *, expected: Digest | None, machine: Machine, secret: Secret | None = None) -> SourceArchive:
    """Have the archive in the cache; `secret` is the same URL with credentials.

    Without `expected` it is downloaded each time, and its digest is what came. Raises UnreachableError when it cannot
    be had, LockMismatchError when it is another one, InvalidFileError when it is larger than any source.
    """
    try:
        shown = without_credentials(url)
    except ValueError as cause:
        raise InvalidFileError(
            f"`{printable(redact(url))}` is not a URL ({cause})",
            where=Source(file=printable(redact(url))),
            fix="write `https://HOST/NAME-VERSION.tar.gz`",
        ) from cause
    address = url if secret is None else secret.value
    machine.sources.mkdir(parents=True, exist_ok=True)
    with network.session(machine.settings) as opened:
        if expected is None:
            found = _downloaded(opened, address, shown, machine)
        else:
            found = expected
            if not _place(found, machine).exists():
                target = _place(found, machine)
                network.download(opened, address, target, expected=expected, settings=machine.settings)
    return SourceArchive(path=_place(found, machine), digest=found, url=shown)


def _place(found: Digest, machine: Machine) -> Path:
    return machine.sources / digest.hex_of(found)


def _downloaded(opened: requests.Session, address: str, shown: str, machine: Machine) -> Digest:
    with disk.temporary_directory(machine.sources) as work:
        state, size = hashlib.sha256(), 0
        new = work / "archive"
        with network.get(opened, address, settings=machine.settings) as response, disk.replaced_file(new) as stream:
            try:
                for chunk in response.iter_content(_CHUNK):
                    size += len(chunk)
                    if size > MAX_BYTES:
                        raise InvalidFileError(
                            f"the source archive has more than {MAX_BYTES} bytes",
                            where=Source(file=shown),
                            fix="offer a wheel of it in an index",
                        )
                    state.update(chunk)
                    stream.write(chunk)
            except requests.exceptions.RequestException as cause:
                raise UnreachableError(
                    f"the download broke off ({type(cause).__name__})", where=Source(file=shown), fix="try again"
                ) from cause
        found = digest.of_hex(state.hexdigest())
        new.replace(_place(found, machine))
    return found


@contextmanager
def open_tree(archive: SourceArchive, *, subdirectory: str = "", machine: Machine) -> Iterator[SourceTree]:
    """Unpack the archive, which must hold one folder, and give that folder as long as the block lasts."""
    where = Source(file=archive.url)
    with disk.temporary_directory(machine.sources) as work:
        source_unpack.unpack(archive.path, work, where=where)
        tops = sorted(work.iterdir())
        if len(tops) != 1 or tops[0].is_symlink() or not tops[0].is_dir():
            names = ", ".join(f"`{path.name}`" for path in tops[:3]) or "nothing"
            raise InvalidFileError(
                f"the source archive holds {names} at its top, expected one folder",
                where=where,
                fix="make it as `python -m build --sdist` does",
            )
        tree = SourceTree(directory=tops[0], digest=archive.digest, subdirectory=subdirectory, where=where)
        yield tree.checked()
