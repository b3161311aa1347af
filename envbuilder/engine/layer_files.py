"""Files of an image that is in the store, straight from the blobs of its layers, checked against their digests."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from envbuilder import digest, found_files, layer
from envbuilder.errors import BuildFailedError, Source

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.file_state import FileState
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Image, Layer

_WHITEOUT: Final = ".wh."


def read(image: Image, path: str, store: ImageStore) -> bytes | None:
    """Return a file, from the topmost layer that has it; None where there is none."""
    name = path.lstrip("/")
    for one in reversed(image.layers):
        with layer.open_layer(_blob(one, store)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.name == name:
                    content = tar.extractfile(member) if member.isreg() else None
                    return content.read() if content is not None else None
    return None


def below(image: Image, path: str, store: ImageStore) -> dict[str, FileState]:
    """Return the files and links below a directory; what a layer hides of those below it is gone."""
    found: dict[str, FileState] = {}
    for one in image.layers:
        with layer.open_layer(_blob(one, store)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            states = found_files.of_tar(tar, path.lstrip("/"))
        for hidden in [inside for inside in states if inside.rpartition("/")[2].startswith(_WHITEOUT)]:
            del states[hidden]
            folder, _, name = hidden.rpartition("/")
            gone = folder if name == f"{_WHITEOUT}{_WHITEOUT}.opq" else f"{folder}/{name.removeprefix(_WHITEOUT)}"
            for inside in [known for known in found if f"{known}/".startswith(f"{gone.lstrip('/')}/")]:
                del found[inside]
        found |= states
    return found


def _blob(one: Layer, store: ImageStore) -> Path:
    path = store.blob_path(one.blob.digest)
    if digest.of_file(path) != one.blob.digest:
        raise BuildFailedError(
            "a layer in the store is not what its name says",
            where=Source(file=str(path)),
            fix="remove it, and build the image again",
        )
    return path
