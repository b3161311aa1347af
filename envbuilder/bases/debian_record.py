"""Notes of the layers that were made, so that the same input is answered from the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from envbuilder import digest, disk
from envbuilder.oci_image import Descriptor, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from envbuilder.image_store import ImageStore


def write(path: Path, made: Layer, *, packages: Mapping[str, str] | None = None) -> None:
    """Note the layer, and for people the versions of the packages in it."""
    value = {"blob": made.blob.to_dict(), "diff_id": made.diff_id, "packages": dict(packages or {})}
    disk.write_file(path, json.dumps(value, indent=1).encode())


def read(path: Path, store: ImageStore, *, comment: str) -> Layer | None:
    """Return the layer that was noted, when the store still has it."""
    try:
        value = json.loads(path.read_bytes())
        blob = Descriptor.parse(value["blob"])
        found = Layer(blob=blob, diff_id=digest.parse(value["diff_id"]), comment=comment)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if store.has(blob.digest) else None
