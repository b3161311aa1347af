"""Bases from an OCI layout on disk, made by anyone: its blobs are taken over with the right digest only.

Follows image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from envbuilder import digest
from envbuilder.bases import manifests, rootfs
from envbuilder.errors import BaseImageError, Source
from envbuilder.oci_image import LARGEST_DOCUMENT, Descriptor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Image, Platform

_NAMES: Final = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_CHUNK: Final = 1 << 20


def read(path: Path, *, reference: str | None, platform: Platform, store: ImageStore) -> tuple[Digest, Image]:
    """Copy the image of the layout into the store; the digest is what the layout's `index.json` names.

    Raises BaseImageError for a directory that is no layout, an ambiguous choice, and whatever is missing or damaged.
    """
    where = Source(file=str(path))
    source = _Directory(path)
    top = source.select(reference, platform)
    known = rootfs.recall(store, "image", top.digest, str(platform))
    if known is not None:
        return top.digest, known
    chosen = manifests.choose(source.document(top), platform, source.document, where)
    for blob, _ in chosen.layers:
        source.copy(blob, store)
    image = manifests.assemble(chosen, store, where)
    rootfs.remember(store, image, "image", top.digest, str(platform))
    return top.digest, image


class _Directory:
    """An OCI layout directory made by anyone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = Source(file=str(path))

    def select(self, reference: str | None, platform: Platform) -> Descriptor:
        try:
            entries = manifests.parse_object((self.path / "index.json").read_bytes())["manifests"]
            # What is attached to an image is none.
            entries = [entry for entry in entries if "artifactType" not in entry]
            named = [entry for entry in entries if reference in (None, *_names(entry))]
            left = {str(entry["digest"]): entry for entry in named}
            if len(left) > 1:
                left = {key: entry for key, entry in left.items() if manifests.rank(entry, platform) in (0, 1)} or left
            found = [Descriptor.parse(entry) for entry in left.values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise BaseImageError(
                "not an OCI layout (no readable `index.json` of one)",
                where=self.where,
                fix="give a directory as `skopeo copy … oci:DIR` writes it, or a root file system as a tar",
            ) from cause
        if len(found) == 1:
            return found[0]
        there = ", ".join(f"`{name}`" for name in _shown(entries)) or "none"
        asked = f"called `{reference}`" if reference is not None else "chosen"
        raise BaseImageError(
            f"{'several images are' if found else 'no image is'} {asked} in the layout; there are: {there}",
            where=self.where,
            fix="name one of them" if entries else "copy the layout again",
        )

    def document(self, blob: Descriptor) -> bytes:
        if blob.size > LARGEST_DOCUMENT:
            raise manifests.damaged(blob.digest, self.where)
        with self._open(blob) as stream:
            return manifests.verified(stream.read(LARGEST_DOCUMENT + 1), blob, self.where)

    def copy(self, blob: Descriptor, store: ImageStore) -> None:
        """Take over the blob: a hard link where that is possible, else a copy, and only with the right digest."""
        if store.has(blob.digest):
            return
        source = self._file(blob).resolve()
        target = store.blob_path(blob.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._open(blob) as stream:
            # A file of someone else could be changed by them later: that one is copied.
            if os.fstat(stream.fileno()).st_uid == os.geteuid():
                if digest.of_stream(stream) != blob.digest:
                    raise manifests.damaged(blob.digest, self.where)
                try:
                    os.link(source, target)
                except FileExistsError:
                    return
                except OSError:
                    stream.seek(0)
                else:
                    return
            with store.new_blob() as writer:
                shutil.copyfileobj(stream, writer, _CHUNK)
                if writer.digest != blob.digest:
                    raise manifests.damaged(blob.digest, self.where)

    def _open(self, blob: Descriptor) -> BinaryIO:
        try:
            return self._file(blob).open("rb")
        except OSError as cause:
            raise BaseImageError(
                f"the blob {blob.digest} is missing in the layout", where=self.where, fix="copy the layout again"
            ) from cause

    def _file(self, blob: Descriptor) -> Path:
        return self.path / "blobs" / "sha256" / digest.hex_of(blob.digest)


def _names(entry: dict[str, Any]) -> tuple[str, ...]:
    annotations = entry.get("annotations") or {}
    return tuple(str(annotations[name]) for name in _NAMES if name in annotations)


def _shown(entries: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({next(iter(_names(entry)), str(entry["digest"])) for entry in entries})
