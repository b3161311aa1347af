"""Layers unpacked into directories, by diff id, for the sandbox to lay over each other."""

from __future__ import annotations

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
    if target.is_symlink() and not target.exists():
        target.unlink(missing_ok=True)
    if not target.exists():
        try:
            target.symlink_to(directory)
        except FileExistsError:
            return


def _apply(blob: Path, root: Path) -> None:
    with layer.open_layer(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
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
    if path.is_symlink() or (path.exists() and not (path.is_dir() and member.isdir())):
        _remove(path, root)
    try:
        tar.extract(member, root, filter="tar")
    except tarfile.FilterError as cause:
        raise BaseImageError(
            f"a layer holds a path that leaves the image: {member.name!r}",
            where=Source(file=str(root)),
            fix="use a base image from a source you trust",
        ) from cause


def _inside(path: Path, root: Path) -> bool:
    return path.parent.resolve().is_relative_to(root.resolve())


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
