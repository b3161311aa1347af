"""Which repository of a registry was seen to hold a blob: from there it can be mounted, instead of uploaded again.

A note that is out of date costs nothing: the registry then asks for the blob.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from envbuilder import digest, disk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_reference import ImageReference
    from envbuilder.settings import Settings


def note(reference: ImageReference, blobs: Iterable[Digest], settings: Settings) -> None:
    """Remember that the repository holds these blobs."""
    for blob in blobs:
        path = _path(blob, settings)
        known = _read(path)
        if known.get(reference.registry) != reference.repository:
            disk.write_file(path, json.dumps({**known, reference.registry: reference.repository}).encode())


def find(reference: ImageReference, blobs: Iterable[Digest], settings: Settings) -> dict[Digest, str]:
    """Return another repository of the same registry for each blob of which one is known."""
    places = {blob: _read(_path(blob, settings)).get(reference.registry, "") for blob in blobs}
    return {blob: place for blob, place in places.items() if place and place != reference.repository}


def _path(blob: Digest, settings: Settings) -> Path:
    return settings.cache_dir / "registry" / "blobs" / f"{digest.hex_of(blob)}.json"


def _read(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_bytes())
        return {str(registry): str(repository) for registry, repository in value.items()}
    except (OSError, ValueError, AttributeError):
        return {}
