"""What a registry has of an image already, and giving that more names: manifests travel, layers do not."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import requests

from envbuilder import digest
from envbuilder.errors import EnvBuilderError
from envbuilder.oci_image import DOCKER_MANIFEST, MANIFEST, Descriptor
from envbuilder.registry.patience import patiently
from envbuilder.registry.push import PUSH, Pushed, put_manifest
from envbuilder.registry.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.digest import Digest
    from envbuilder.image_reference import ImageReference
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An image in a registry: its manifest, and what its config says of its layers."""

    repository: Repository
    digest: Digest
    media_type: str
    manifest: bytes
    layers: tuple[tuple[str, Descriptor], ...]
    """Comment and blob of each."""

    labels: tuple[tuple[str, str], ...]

    def name(self, references: Iterable[ImageReference]) -> Pushed:
        """Give the image these tags of its repository."""
        references = tuple(references)
        for reference in references:
            put_manifest(self.repository, self.manifest, self.media_type, self.digest, reference.tag)
        return Pushed(
            references=tuple(str(reference) for reference in references), digest=self.digest, present=len(self.layers)
        )


def check(reference: ImageReference, *, settings: Settings, reporter: Reporter) -> None:
    """Raise what a push to the repository would fail with: an upload is begun, and called off."""
    repository = Repository(reference, PUSH, settings=settings, reporter=reporter)

    def begin() -> str | None:
        with repository.request("POST", "blobs/uploads/", body=bytes) as response:
            place = response.headers.get("Location")
            return urljoin(response.url, place) if place is not None else None

    location = patiently(begin, wait=threading.Event().wait)
    if location is not None:
        try:
            repository.request("DELETE", location).close()
        except EnvBuilderError:
            # Registries forget uploads by themselves too; some take no other way.
            return


def find(reference: ImageReference, *, settings: Settings, reporter: Reporter) -> Published | None:
    """Return the image with this tag, if the registry has one that is not an index of several."""
    repository = Repository(reference, PUSH, settings=settings, reporter=reporter)
    accepted = {"Accept": f"{MANIFEST}, {DOCKER_MANIFEST}"}
    data, response = repository.document(f"manifests/{reference.tag}", headers=accepted, is_optional=True)
    if response.status_code == requests.codes.not_found:
        return None
    try:
        manifest = json.loads(data)
        blobs = [Descriptor.parse(item) for item in manifest["layers"]]
        about = Descriptor.parse(manifest["config"])
        text, _ = repository.document(f"blobs/{about.digest}")
        if digest.of_bytes(text) != about.digest:
            return None
        config = json.loads(text)
        made_by = [item for item in config.get("history") or () if not item.get("empty_layer")]
        comments = [str(item.get("comment") or "") for item in made_by] if len(made_by) == len(blobs) else []
        return Published(
            repository=repository,
            digest=digest.of_bytes(data),
            media_type=str(manifest["mediaType"]),
            manifest=data,
            layers=tuple(zip(comments or [""] * len(blobs), blobs, strict=True)),
            labels=tuple(sorted((config.get("config") or {}).get("Labels", {}).items())),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
