"""Bases from a tar of a root file system: its members, normalised, become one deterministic layer."""

from __future__ import annotations

import bz2
import json
import logging
import lzma
import shutil
import tarfile
import tempfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from isal import igzip, isal_zlib

from envbuilder import digest, disk, layer
from envbuilder.errors import BaseImageError, BuildFailedError, Source
from envbuilder.oci_image import Image, RunConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Platform

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20
_DIRECTORY_MODE: Final = 0o1777
_FILE_MODE: Final = 0o777
"""Of a member's mode, what stays: the sticky bit of /tmp does, setuid and setgid do not."""

_ISAL_ERROR: Final[type[Exception]] = isal_zlib.IsalError  # type: ignore[assignment, unused-ignore]
_DAMAGE: Final = (tarfile.TarError, lzma.LZMAError, EOFError, zlib.error, _ISAL_ERROR, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Node:
    """What a path of the tar stands for; hard links share one."""

    mode: int
    content: Path | None = None
    link: str | None = None
    mtime: int = 0
    """Of a file: the bytecode that a base brings is mostly valid for the time of its source only."""

    @property
    def is_directory(self) -> bool:
        return self.content is None and self.link is None


def read(path: Path, *, platform: Platform, store: ImageStore) -> tuple[Digest, Image]:
    """Turn the tar (plain, gzip, xz, bzip2, zstd) into an image of one layer; its digest is the file's.

    Reading the same file again finds the image in the store. Owners, setuid bits and device nodes are dropped;
    paths that leave the root, and whiteouts, raise BaseImageError.
    """
    where = Source(file=str(path))
    try:
        file = digest.of_file(path)
    except OSError as cause:
        raise BaseImageError(
            f"the root file system cannot be read ({cause.strerror})",
            where=where,
            fix="give the path of a .tar, .tar.gz, .tar.xz, .tar.bz2 or .tar.zst file",
        ) from cause
    key = ("rootfs", file, str(platform), str(layer.LAYOUT_VERSION))
    known = recall(store, *key)
    if known is not None:
        return file, known
    image = _read(path, platform, store)
    remember(store, image, *key)
    return file, image


def remember(store: ImageStore, image: Image, *key: str) -> None:
    """Note in the store that what `key` says became this image."""
    manifest = store.add_image(image)
    disk.write_file(_note(store, key), json.dumps({"key": key, "manifest": manifest.digest}).encode())


def recall(store: ImageStore, *key: str) -> Image | None:
    """Return the image that was remembered under `key`, when the store still holds all of it."""
    try:
        image = store.image(digest.parse(json.loads(_note(store, key).read_bytes())["manifest"]))
    except (OSError, ValueError, KeyError, TypeError, BuildFailedError):
        return None
    return image if all(store.has(item.blob.digest) for item in image.layers) else None


def _note(store: ImageStore, key: tuple[str, ...]) -> Path:
    return store.root / "bases" / f"{digest.hex_of(digest.of_json(key))}.json"


def _read(path: Path, platform: Platform, store: ImageStore) -> Image:
    where = Source(file=str(path))
    store.root.mkdir(parents=True, exist_ok=True)
    with disk.full_disk_named(store.root), tempfile.TemporaryDirectory(dir=store.root, prefix=".tmp-") as spool:
        with open_compressed(path, where) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            nodes = _nodes(tar, Path(spool), where)
        _check(nodes, where)
        made = layer.write_layer(store, _entries(nodes), comment="")
    return Image(platform=platform, config=RunConfig(env=(("PATH", PATH),)), layers=(made,))


def _nodes(tar: tarfile.TarFile, spool: Path, where: Source) -> dict[str, _Node]:
    """Read the members, the last one of a path winning; file contents go to `spool`, so memory stays small."""
    nodes: dict[str, _Node] = {}
    for number, member in enumerate(tar):
        path = _clean(member.name, where)
        if not path:
            continue
        if member.isdir():
            nodes[path] = _Node(mode=member.mode & _DIRECTORY_MODE)
        elif member.issym():
            nodes[path] = _Node(mode=0o777, link=member.linkname)
        elif member.islnk():
            target = nodes.get(_clean(member.linkname, where))
            if target is None or target.is_directory:
                raise _refused(path, f"a hard link to `{member.linkname}`, which is no file before it", where)
            nodes[path] = target
        elif member.isdev():
            _log.debug("%s: device or pipe %s dropped", where, path)
        else:
            content = spool / str(number)
            with content.open("wb") as target_file:
                shutil.copyfileobj(_content(tar, member), target_file, _CHUNK)
            nodes[path] = _Node(mode=member.mode & _FILE_MODE, content=content, mtime=int(member.mtime))
        # A streamed tar remembers every member; they are not needed again.
        tar.members = []  # type: ignore[attr-defined, unused-ignore]
    return nodes


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        message = f"`{member.name}` has no content"
        raise tarfile.TarError(message)
    return content


def _clean(name: str, where: Source) -> str:
    """Return the member's path without `./` and doubled slashes; refuse one that could land elsewhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _refused(name, "a path that leaves the root", where)
    if any(part.startswith(".wh.") for part in parts):
        raise _refused(name, "a whiteout, which belongs in a layer and not in a root file system", where)
    return "/".join(parts)


def _refused(path: str, why: str, where: Source) -> BaseImageError:
    return BaseImageError(
        f"the member `{path}` is {why}",
        where=where,
        fix="make the tar inside the root file system: `tar -C ROOT -cf rootfs.tar .`",
    )


def _check(nodes: dict[str, _Node], where: Source) -> None:
    for path in nodes:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in nodes and not nodes[parent].is_directory:
                raise _refused(path, f"below `{parent}`, which is no directory", where)
            parent = parent.rpartition("/")[0]
    if ("manifest.json" in nodes or "oci-layout" in nodes) and "usr" not in nodes and "bin" not in nodes:
        raise BaseImageError(
            "this is a saved image, not a root file system",
            where=where,
            fix="unpack it and give the directory when it holds `oci-layout`; else load it and `docker export` it",
        )
    if not any(node.content for node in nodes.values()):
        raise BaseImageError("the tar holds no files", where=where, fix="`tar -C ROOT -cf rootfs.tar .`")


def _entries(nodes: dict[str, _Node]) -> Iterator[layer.Entry]:
    """Give the entries in a layer's order, in which the first name of shared content must be the file itself."""
    first: dict[_Node, str] = {}
    for path in sorted(nodes):
        node = nodes[path]
        if node.content is None:
            yield layer.Entry(path=path, mode=node.mode, link=node.link)
        elif node in first:
            yield layer.Entry(path=path, mode=node.mode, hard_link=first[node], mtime=node.mtime)
        else:
            first[node] = path
            yield layer.Entry(path=path, mode=node.mode, content=node.content, mtime=node.mtime)


@contextmanager
def open_compressed(path: Path, where: Source) -> Iterator[BinaryIO]:
    """Open a file for reading what was compressed into it, by its first bytes; a plain file as it is.

    What shows while reading that the file is damaged becomes a BaseImageError.
    """
    with path.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        damage: tuple[type[Exception], ...] = (*_DAMAGE, OSError)
        opened: Any = raw
        if magic.startswith(b"\x1f\x8b"):
            opened = igzip.open(raw, "rb")  # type: ignore[no-untyped-call, unused-ignore]
        elif magic.startswith(b"\xfd7zXZ\0"):
            opened = lzma.LZMAFile(raw)  # noqa: SIM115 - closed below
        elif magic.startswith(b"BZh"):
            opened = bz2.BZ2File(raw)
        elif magic.startswith(b"\x28\xb5\x2f\xfd"):
            zstd = _zstd(where)
            opened = zstd.open(raw, "rb")
            damage = (*damage, zstd.ZstdError)
        try:
            with opened:
                yield opened
        except damage as cause:
            # The decompressors also raise OSError for bad data; those of the system have a number.
            if isinstance(cause, OSError) and cause.errno is not None:
                raise
            raise BaseImageError(
                f"the content is damaged ({type(cause).__name__}: {cause})",
                where=where,
                fix="copy or make the file again",
            ) from cause


def _zstd(where: Source) -> Any:  # noqa: ANN401 - one of two modules with the same `open`
    """Return Python's own zstd module (3.14 on), or the one that conda-lock brings."""
    for name in ("compression.zstd", "zstandard"):
        with suppress(ImportError):
            return import_module(name)
    raise BaseImageError(
        "compressed with zstd, which this Python cannot read",
        where=where,
        fix="install `zstandard` beside envbuilder, or compress it with gzip",
    )
