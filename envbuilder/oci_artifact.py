"""What is attached to an image: a document with a manifest of its own that names the image as its subject. Pure.

Follows image-spec 1.1 ("Guidelines for Artifact Usage") and distribution-spec 1.1 ("Referrers Tag Schema").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from envbuilder import digest
from envbuilder.oci_image import EPOCH, INDEX, MANIFEST, Descriptor, to_json

EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A document that belongs to an image."""

    media_type: str
    data: bytes
    subject: Descriptor
    """The image's manifest."""

    title: str
    """The document's file name."""

    @property
    def blob(self) -> Descriptor:
        """The document."""
        return Descriptor(media_type=self.media_type, digest=digest.of_bytes(self.data), size=len(self.data))

    @property
    def empty(self) -> Descriptor:
        """The config that every manifest must have."""
        return Descriptor(media_type=_EMPTY_TYPE, digest=digest.of_bytes(EMPTY), size=len(EMPTY))

    @property
    def annotations(self) -> dict[str, str]:
        """What clients show of it."""
        return {"org.opencontainers.image.created": EPOCH}

    def manifest_bytes(self) -> bytes:
        """Return the manifest."""
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": self.media_type,
                "config": self.empty.to_dict(),
                "layers": [{**self.blob.to_dict(), "annotations": {"org.opencontainers.image.title": self.title}}],
                "subject": self.subject.to_dict(),
                "annotations": self.annotations,
            }
        )

    def descriptor(self) -> dict[str, Any]:
        """Return the manifest's entry in an index."""
        data = self.manifest_bytes()
        found = Descriptor(media_type=MANIFEST, digest=digest.of_bytes(data), size=len(data))
        return {**found.to_dict(), "artifactType": self.media_type, "annotations": self.annotations}


def fallback_tag(subject: Descriptor) -> str:
    """Return the tag of the index that lists what is attached, where a registry has no API for that."""
    return subject.digest.replace(":", "-")


def with_artifact(index: bytes | None, artifact: Artifact) -> bytes:
    """Return the index with the artifact in it, what others attached stays; raises ValueError for what is no index."""
    value: Any = json.loads(index) if index is not None else {"manifests": []}
    entries = value.get("manifests") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        message = "not an index"
        raise ValueError(message)
    own = artifact.descriptor()
    listed = [*(one for one in entries if one.get("digest") != own["digest"]), own]
    return to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})
