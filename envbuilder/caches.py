"""The caches on disk: what is in them, making them smaller, and checking what is named by its content.

Last use is the later of a file's times of reading and writing; where the disk keeps no times of reading, it is when it
was written. Locks stay: without them the next build could choose other packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from envbuilder import cache_lock, digest
from envbuilder.cache_entry import CacheEntry, chosen, size_of
from envbuilder.oci_image import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.machine import Machine

_BLOCK: Final = 512
_LEFTOVER: Final = (".tmp-", ".incoming-")
_KEPT: Final = ("locks",)
_SERVED: Final = ("images", "trees", "snapshots", "environments", "servers")
"""What images and environments that are being served consist of."""

_WHOLE: Final = ("uv",)
"""Folders that a program keeps by rules of its own."""

_OURS: Final = ("in-use", "index.json", "oci-layout", ".lock")
_NESTED: Final = re.compile(
    r"conda/\w+|debian/\w+|models/content|sources/git|registry/blobs|images/(bases|blobs|blobs/sha256)"
)
"""Folders in folders of the caches that only sort what is in them."""

_BLOB: Final = re.compile(r"images/blobs/sha256/([0-9a-f]{64})")
_BY_CONTENT: Final = re.compile(
    r"images/blobs/sha256/([0-9a-f]{64})|(?:wheels|conda/packages)/([0-9a-f]{64})/[^/]+\.(?:whl|conda|tar\.bz2)|"
    r"sources/([0-9a-f]{64})|debian/packages/([0-9a-f]{64})\.deb"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What pruning came to."""

    removed: tuple[CacheEntry, ...]
    freed: int
    left: int
    is_served_from: bool
    """True where images stayed, as some are being served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What checking came to."""

    files: int
    bytes: int
    damaged: tuple[str, ...]
    """Paths below the caches of what was not what its name says, and is gone."""

    names: tuple[str, ...]
    """Of images that are not whole, and are gone too."""


def read(machine: Machine) -> tuple[CacheEntry, ...]:
    """Return what is in the caches."""
    top = machine.settings.cache_dir
    images = tuple(_images(machine.store))
    named = {part for image in images for part in image.parts}
    rest = []
    for path in _below(top, ""):
        inside = path.relative_to(top).as_posix()
        entry = _entry(path, inside)
        # A blob belongs to the images that consist of it.
        if not (_BLOB.fullmatch(inside) and named.issuperset(entry.parts)):
            rest.append(entry)
    return (*images, *rest)


def prune(
    machine: Machine, *, used_before: float | None, most_bytes: int | None, on_wait: Callable[[], None]
) -> Pruned:
    """Remove what was not used since `used_before`, then the oldest until `most_bytes` are left.

    Waits for runs to end; `on_wait` is called before.
    """
    with cache_lock.exclusive(machine.settings.cache_dir, on_wait=on_wait) as is_served_from:
        entries = read(machine)
        if is_served_from:
            entries = tuple(replace(one, is_kept=one.is_kept or one.kind in _SERVED) for one in entries)
        removed = chosen(entries, used_before=used_before, most_bytes=most_bytes)
        before = size_of(entries)
        # Names go first: what is half removed must not be found by one.
        _untag(machine.store, [one for one in removed if one.names])
        for one in removed:
            if not one.names:
                _remove(machine.settings.cache_dir / one.name)
        left = size_of(read(machine))
    return Pruned(removed=removed, freed=before - left, left=left, is_served_from=is_served_from)


def verify(machine: Machine, *, on_bytes: Callable[[int], None]) -> Verified:
    """Hash what is named by its content, remove what is something else, and the names of images that are not whole.

    Nobody has to wait for that: what has its name is complete, and what is damaged is of no use to anybody.
    """
    top, files, total = machine.settings.cache_dir, 0, 0
    damaged = []
    for path in sorted(_files(top)):
        inside = path.relative_to(top).as_posix()
        match = _BY_CONTENT.fullmatch(inside)
        if match is None:
            continue
        try:
            size = path.stat().st_size
            is_whole = digest.hex_of(_digest_of(path)) in match.groups()
        except FileNotFoundError:
            continue
        files, total = files + 1, total + size
        on_bytes(total)
        if not is_whole:
            path.unlink(missing_ok=True)
            damaged.append(inside)
    store = machine.store
    names = [name for name, descriptor in store.references().items() if not _is_whole(store, descriptor.digest)]
    if names:
        store.untag(*names)
    return Verified(files=files, bytes=total, damaged=tuple(damaged), names=tuple(sorted(names)))


def _images(store: ImageStore) -> Iterator[CacheEntry]:
    names: dict[Digest, list[str]] = {}
    for name, descriptor in store.references().items():
        names.setdefault(descriptor.digest, []).append(name)
    for manifest, known in names.items():
        parts: dict[int, int] = {}
        for blob in _blobs(store, manifest):
            try:
                found = store.blob_path(blob).stat()
            except FileNotFoundError:
                continue
            parts[found.st_ino] = found.st_blocks * _BLOCK
        yield CacheEntry(
            kind="images",
            name=manifest,
            last_used=_last_used(store.blob_path(manifest)),
            parts=parts,
            names=tuple(sorted(known)),
        )


def _blobs(store: ImageStore, manifest: Digest) -> tuple[Digest, ...]:
    return manifest, *(blob.digest for blob in _described(store, manifest) or ())


def _described(store: ImageStore, manifest: Digest) -> tuple[Descriptor, ...] | None:
    """Return config and layers of an image, without that counting as a use of it; None where it cannot be read."""
    try:
        with _quietly(store.blob_path(manifest)) as stream:
            value = json.loads(stream.read())
        return tuple(Descriptor.parse(item) for item in (value["config"], *value["layers"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(store: ImageStore, manifest: Digest) -> bool:
    described = _described(store, manifest)
    return described is not None and all(store.holds(blob) for blob in described)


def _untag(store: ImageStore, images: list[CacheEntry]) -> None:
    if not images:
        return
    going = {blob for image in images for blob in _blobs(store, digest.parse(image.name))}
    store.untag(*(name for image in images for name in image.names))
    staying = {blob for one in store.references().values() for blob in _blobs(store, one.digest)}
    for blob in going - staying:
        store.blob_path(blob).unlink(missing_ok=True)


def _below(folder: Path, inside: str) -> Iterator[Path]:
    """Give what is removed as one: the children of the folders, and of those inside that only sort them."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        name = f"{inside}/{path.name}" if inside else path.name
        is_sorting = (not inside and name not in _WHOLE) or _NESTED.fullmatch(name)
        if path.name in _OURS:
            continue
        if is_sorting and path.is_dir() and not path.is_symlink():
            yield from _below(path, name)
        else:
            yield path


def _entry(path: Path, inside: str) -> CacheEntry:
    parts: dict[int, int] = {}
    last = 0.0
    for file in (path, *(_files(path) if path.is_dir() and not path.is_symlink() else ())):
        try:
            found = file.lstat()
        except FileNotFoundError:
            continue
        parts[found.st_ino] = found.st_blocks * _BLOCK
        # Looking into a directory counts as reading it, and we just did.
        last = max(last, found.st_mtime, 0.0 if stat.S_ISDIR(found.st_mode) else found.st_atime)
    kind = inside.partition("/")[0]
    is_dangling = path.is_symlink() and not path.exists()
    return CacheEntry(
        kind=kind,
        name=inside,
        last_used=last,
        parts=parts,
        is_leftover=path.name.startswith(_LEFTOVER) or is_dangling,
        is_kept=kind in _KEPT,
    )


def _files(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder):
        for name in names:
            yield type(folder)(directory, name)


def _last_used(path: Path) -> float:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0.0
    return max(found.st_atime, found.st_mtime)


def _remove(path: Path) -> None:
    """Remove a file or a directory, which is nowhere half removed under its name."""
    if path.is_dir() and not path.is_symlink():
        going = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        path.rename(going)
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)


def _digest_of(path: Path) -> Digest:
    with _quietly(path) as stream:
        return digest.of_stream(stream)


def _quietly(path: Path) -> BinaryIO:
    """Open a file without that counting as a use of it, where this is allowed."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb")
    except PermissionError:
        return path.open("rb")
