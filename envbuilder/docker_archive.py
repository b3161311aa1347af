"""Images as one tar that `docker load` takes, from 20.10 on, and that is an OCI archive at the same time.

The same image gives the same bytes; nothing larger than a chunk is held in memory.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest, disk
from envbuilder.errors import BuildFailedError, Source
from envbuilder.image_reference import ImageReference
from envbuilder.oci_image import INDEX, Image, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Descriptor

_CHUNK: Final = 1 << 20
_BLOCK: Final = tarfile.BLOCKSIZE
_OCI_NAME: Final = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME: Final = "io.containerd.image.name"


def write(image: Image, references: tuple[str, ...], store: ImageStore, target: Path) -> None:
    """Write the archive to `target`, whole or not at all."""
    parts = stream(image, references, store)
    with disk.replaced_file(target) as opened:
        for part in parts:
            opened.write(part)


def stream(image: Image, references: tuple[str, ...], store: ImageStore) -> Iterator[bytes]:
    """Give the archive piece by piece, as the Docker SDK's `images.load` takes it.

    Raises BuildFailedError before the first piece when a layer is missing, InvalidFileError for a bad reference.
    """
    names = tuple(ImageReference.parse_name_tag(reference) for reference in references)
    layers = {layer.blob.digest: layer.blob for layer in image.layers}
    for blob in layers.values():
        path = store.blob_path(blob.digest)
        if not path.is_file() or path.stat().st_size != blob.size:
            raise _damaged(blob.digest, store)
    return _pieces(image, names, layers, store)


def _pieces(
    image: Image, names: tuple[ImageReference, ...], layers: dict[Digest, Descriptor], store: ImageStore
) -> Iterator[bytes]:
    config = image.config_bytes()
    manifest = image.manifest_bytes()
    yield from _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield from _member("index.json", to_json(_index(image, names)))
    yield from _member("manifest.json", to_json(_docker_manifest(image, names)))
    yield _header("blobs", 0, tarfile.DIRTYPE)
    yield _header("blobs/sha256", 0, tarfile.DIRTYPE)
    yield from _member(_place(digest.of_bytes(manifest)), manifest)
    yield from _member(_place(digest.of_bytes(config)), config)
    for blob in layers.values():
        yield _header(_place(blob.digest), blob.size)
        yield from _content(blob, store)
        yield _padding(blob.size)
    yield bytes(2 * _BLOCK)


def _docker_manifest(image: Image, names: tuple[ImageReference, ...]) -> list[dict[str, Any]]:
    return [
        {
            "Config": _place(image.config_descriptor().digest),
            "RepoTags": [str(name) for name in names],
            "Layers": [_place(layer.blob.digest) for layer in image.layers],
        }
    ]


def _index(image: Image, names: tuple[ImageReference, ...]) -> dict[str, Any]:
    descriptor = image.descriptor().to_dict()
    # Engines with containerd's image store read the second name, everything else the first.
    tagged = [{**descriptor, "annotations": {_OCI_NAME: str(name), _CONTAINERD_NAME: name.canonical}} for name in names]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": tagged or [descriptor]}


def _place(blob: Digest) -> str:
    return f"blobs/sha256/{digest.hex_of(blob)}"


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data
    yield _padding(len(data))


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    # PAX, for layers beyond the 8 GiB that an older header can say.
    return info.tobuf(format=tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _content(blob: Descriptor, store: ImageStore) -> Iterator[bytes]:
    left = blob.size
    with store.blob_path(blob.digest).open("rb") as opened:
        while left > 0:
            chunk = opened.read(min(_CHUNK, left))
            if not chunk:
                raise _damaged(blob.digest, store)
            left -= len(chunk)
            yield chunk


def _damaged(blob: Digest, store: ImageStore) -> BuildFailedError:
    return BuildFailedError(
        f"the layer {blob} is missing or incomplete",
        where=Source(file=str(store.root)),
        fix="build the image again",
    )
