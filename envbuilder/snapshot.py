"""Layers unpacked into directories, by diff id, for the sandbox to lay over each other."""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, layer
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Layer

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"


def of_chain(layers: Sequence[Layer], *, store: ImageStore, snapshots: Path) -> Path:
    """Return the directory that the layers make together: in order, with whiteouts, as image-spec's layer.md says."""
    chain = digest.of_json([item.diff_id for item in layers])
    target = snapshots / digest.hex_of(chain)
    _drop_broken_link(target)
    if not target.is_dir():
        with disk.new_directory(target) as directory:
            for item in layers:
                _apply(store.blob_path(item.blob.digest), directory)
    return target


def of_layer(item: Layer, *, store: ImageStore, snapshots: Path) -> Path:
    """Return the directory that one layer makes."""
    return of_chain((item,), store=store, snapshots=snapshots)


def keep(item: Layer, directory: Path, *, snapshots: Path) -> None:
    """Let `directory`, which holds exactly the files of the layer, be its snapshot: saves unpacking it."""
    target = snapshots / digest.hex_of(digest.of_json([item.diff_id]))
    snapshots.mkdir(parents=True, exist_ok=True)
    _drop_broken_link(target)
    if not target.exists():
        try:
            target.symlink_to(directory)
        except FileExistsError:
            return


def _drop_broken_link(target: Path) -> None:
    if target.is_symlink() and not target.exists():
        target.unlink(missing_ok=True)


def _apply(blob: Path, root: Path) -> None:
    with layer.open_layer(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extraction_filter = _as_it_is
        for member in tar:
            path = root / member.name
            if path.name == _OPAQUE:
                _clear(path.parent, root)
            elif path.name.startswith(_WHITEOUT):
                _remove(path.parent / path.name.removeprefix(_WHITEOUT), root)
            elif not (member.ischr() or member.isblk() or member.isfifo()):
                _extract(tar, member, root)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    path = root / member.name
    # tarfile's own filters are newer than the Pythons that Debian 12 and Ubuntu 22.04 bring.
    target = root / member.linkname if member.islnk() else path
    if not (_inside(path, root) and _inside(target, root)):
        raise BaseImageError(
            f"a layer holds a path that leaves the image: {member.name!r}",
            where=Source(file=str(root)),
            fix="use a base image from a source you trust",
        )
    if path.is_symlink() or (path.exists() and not (path.is_dir() and member.isdir())):
        _remove(path, root)
    if member.islnk():
        _link(member, path, target)
        return
    # No set-user-id program is needed in a sandbox that has no rights to give.
    member.mode &= 0o777
    tar.extract(member, root, numeric_owner=True)


def _link(member: tarfile.TarInfo, path: Path, target: Path) -> None:
    """Make a hard link, to the link itself where its target is one: what that points to is not ours to touch."""
    if not os.path.lexists(target):
        raise BaseImageError(
            f"a layer holds a hard link to a file that is not there: {member.name!r}",
            where=Source(file=member.linkname),
            fix="use a base image from a source you trust",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(target, path, follow_symlinks=False)


def _as_it_is(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    """Keep the member: it was checked."""
    return member


def _inside(path: Path, root: Path) -> bool:
    return path.name != ".." and path.parent.resolve().is_relative_to(root.resolve())


def _remove(path: Path, root: Path) -> None:
    if not _inside(path, root):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear(directory: Path, root: Path) -> None:
    if directory.is_dir() and _inside(directory / "x", root):
        for child in directory.iterdir():
            _remove(child, root)
