"""Images on disk: an OCI layout directory whose blobs are shared by all images and named by content.

Follows image-spec 1.1, image-layout.md. Blobs appear under their name only when complete, and `index.json` is
replaced as a whole under a lock, so a killed process leaves a valid layout behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from envbuilder import digest, disk
from envbuilder.errors import BuildFailedError, Source
from envbuilder.oci_artifact import EMPTY
from envbuilder.oci_image import INDEX, Descriptor, Image, Layer, Platform, RunConfig, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.oci_artifact import Artifact

_REFERENCE: Final = "org.opencontainers.image.ref.name"
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a member that is not there, or of another type, raises."""

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(slots=True)
class BlobWriter:
    """Takes a blob's bytes; `digest` and `size` are known once all are written."""

    stream: IO[bytes]
    size: int = 0
    _state: Any = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._state.update(data)
        self.size += len(data)
        return self.stream.write(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is complete. Present for compressors that call it."""

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return digest.of_hex(self._state.hexdigest())


@dataclass(frozen=True, slots=True)
class ImageStore:
    """An OCI layout directory; created when first written to."""

    root: Path

    def blob_path(self, blob: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self.root / "blobs" / "sha256" / digest.hex_of(blob)

    def has(self, blob: Digest) -> bool:
        """Tell whether the blob is here."""
        return self.blob_path(blob).is_file()

    def holds(self, blob: Descriptor) -> bool:
        """Tell whether the blob is here in its whole length."""
        try:
            return self.blob_path(blob.digest).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    @contextmanager
    def new_blob(self) -> Iterator[BlobWriter]:
        """Give a writer; the blob gets its name when the block ends well."""
        directory = self.root / "blobs" / "sha256"
        incoming = directory / f".incoming-{os.getpid()}-{os.urandom(6).hex()}"
        try:
            with disk.replaced_file(incoming) as stream:
                writer = BlobWriter(stream)
                yield writer
            incoming.replace(self.blob_path(writer.digest))
        finally:
            incoming.unlink(missing_ok=True)

    def add_blob(self, data: bytes) -> Digest:
        """Store `data` and return its digest."""
        blob = digest.of_bytes(data)
        try:
            is_here = self.blob_path(blob).read_bytes() == data
        except FileNotFoundError:
            is_here = False
        if not is_here:
            disk.write_file(self.blob_path(blob), data)
        return blob

    def add_image(self, image: Image) -> Descriptor:
        """Store the image's config and manifest; its layers must be here already."""
        self.add_blob(image.config_bytes())
        self.add_blob(image.manifest_bytes())
        return image.descriptor()

    def image(self, manifest: Digest) -> Image:
        """Read the image with this manifest digest; raises BuildFailedError when the layout is damaged."""
        try:
            value = json.loads(self.blob_path(manifest).read_bytes())
            config = json.loads(self.blob_path(digest.parse(value["config"]["digest"])).read_bytes())
            blobs = [Descriptor.parse(item) for item in value["layers"]]
            diff_ids = [digest.parse(item) for item in config["rootfs"]["diff_ids"]]
            comments = [item.get("comment", "") for item in config.get("history", ()) if not item.get("empty_layer")]
            if len(comments) != len(blobs):
                comments = [""] * len(blobs)
            return Image(
                platform=Platform(
                    os=config["os"], architecture=config["architecture"], variant=config.get("variant", "")
                ),
                config=RunConfig.parse(config.get("config") or {}),
                layers=tuple(
                    Layer(blob=blob, diff_id=diff_id, comment=comment)
                    for blob, diff_id, comment in zip(blobs, diff_ids, comments, strict=True)
                ),
            )
        except (OSError, *_MALFORMED) as cause:
            raise self._not_complete(manifest, cause) from cause

    def references(self) -> dict[str, Descriptor]:
        """Return the tagged images: reference → manifest."""
        return {name: descriptor for name, descriptor in self._index() if name is not None}

    def tag(self, manifest: Descriptor, *references: str) -> None:
        """Make each of `references` point to the image, taking it from the image that had it."""
        from filelock import FileLock  # noqa: PLC0415 - brings asyncio along, which most runs do without

        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            entries = {name: descriptor for name, descriptor in self.references().items() if name not in references}
            entries.update(dict.fromkeys(references, manifest))
            self._write_index(entries)

    def untag(self, *references: str) -> None:
        """Take these names away; the blobs stay until they are pruned."""
        from filelock import FileLock  # noqa: PLC0415

        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            entries = {name: descriptor for name, descriptor in self.references().items() if name not in references}
            self._write_index(entries)

    def export(
        self, manifest: Descriptor, references: tuple[str, ...], target: Path, *, attached: tuple[Artifact, ...] = ()
    ) -> None:
        """Write a layout directory that holds just this image, and what belongs to it; `target` must not exist."""
        with disk.new_directory(target) as directory:
            copy = ImageStore(directory)
            for blob in self.blobs_of(manifest):
                copy.blob_path(blob).parent.mkdir(parents=True, exist_ok=True)
                try:
                    _link_or_copy(self.blob_path(blob), copy.blob_path(blob))
                except FileNotFoundError as cause:
                    raise self._not_complete(manifest.digest, cause) from cause
                if digest.of_file(copy.blob_path(blob)) != blob:
                    raise self.dropped(blob)
            for artifact in attached:
                for data in (EMPTY, artifact.data, artifact.manifest_bytes()):
                    copy.add_blob(data)
            copy._write_index(dict.fromkeys(references, manifest), [one.descriptor() for one in attached])

    def blobs_of(self, manifest: Descriptor) -> tuple[Digest, ...]:
        """Return every blob the image needs: manifest, config, layers."""
        image = self.image(manifest.digest)
        value = json.loads(self.blob_path(manifest.digest).read_bytes())
        config = digest.parse(value["config"]["digest"])
        return tuple(dict.fromkeys((manifest.digest, config, *(layer.blob.digest for layer in image.layers))))

    def dropped(self, blob: Digest) -> BuildFailedError:
        """Remove a blob that turned out to be damaged, and return the error that says so."""
        self.blob_path(blob).unlink(missing_ok=True)
        return BuildFailedError(
            f"the blob {blob} was damaged in the cache, and was removed from it",
            where=Source(file=str(self.blob_path(blob))),
            fix="do it again: what is missing is made anew",
        )

    def _not_complete(self, manifest: Digest, cause: Exception) -> BuildFailedError:
        return BuildFailedError(
            f"the image `{manifest}` is not complete in the layout ({cause})",
            where=Source(file=str(self.root)),
            fix="build it again; where the layout came from elsewhere, copy it again",
        )

    def _index(self) -> list[tuple[str | None, Descriptor]]:
        """Return what `index.json` lists, each with its reference."""
        path = self.root / "index.json"
        if not path.exists():
            return []
        try:
            return [
                ((item.get("annotations") or {}).get(_REFERENCE), Descriptor.parse(item))
                for item in json.loads(path.read_bytes())["manifests"]
            ]
        except (OSError, *_MALFORMED) as cause:
            raise BuildFailedError(
                "`index.json` is not an OCI image index",
                where=Source(file=str(path)),
                fix="copy the layout again, or build the image again",
            ) from cause

    def _write_index(self, entries: dict[str, Descriptor], attached: Iterable[dict[str, Any]] = ()) -> None:
        manifests = [
            {**descriptor.to_dict(), "annotations": {_REFERENCE: name}} for name, descriptor in sorted(entries.items())
        ]
        manifests += attached
        disk.write_file(self.root / "oci-layout", _LAYOUT)
        disk.write_file(
            self.root / "index.json", to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
