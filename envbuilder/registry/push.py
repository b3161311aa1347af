"""Bringing an image of the store into a registry: its blobs first, then its manifest, its tags last.

So a name points at a whole image or at what it did before, wherever a push ends. What is there is not sent again.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder.errors import RegistryRefusedError
from envbuilder.oci_image import MANIFEST
from envbuilder.registry import blob_places
from envbuilder.registry.patience import patiently
from envbuilder.registry.repository import Purpose, Repository
from envbuilder.registry.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envbuilder.digest import Digest
    from envbuilder.image_reference import ImageReference
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Descriptor, Image
    from envbuilder.registry.upload import Outcome
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

PUSH: Final = Purpose(actions="pull,push", refused=RegistryRefusedError)
_PARALLEL: Final = 4
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push came to."""

    references: tuple[str, ...]
    digest: Digest
    """Of the manifest, as the registry knows it."""

    uploaded: int = 0
    """Blobs that were sent."""

    mounted: int = 0
    """Blobs that the registry took from another of its repositories."""

    present: int = 0
    """Blobs that were there."""

    size: int = 0
    """Bytes of the blobs that were sent."""

    is_counted: bool = True
    """False where an engine pushed and says nothing of blobs: the numbers mean nothing then."""

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        counts: dict[str, int | None] = {
            "uploaded": self.uploaded,
            "mounted": self.mounted,
            "present": self.present,
            "bytes": self.size,
        }
        if not self.is_counted:
            counts = dict.fromkeys(counts)
        return {"references": list(self.references), "digest": self.digest, **counts}

    def to_text(self) -> str:
        """Return it as people read it."""
        if not self.is_counted:
            return "sent by the engine, which does not say how much"
        return (
            f"{self.uploaded} blobs of {self.size / _MEGABYTE:.1f} MB sent, "
            f"{self.mounted} mounted, {self.present} there already"
        )


def push(
    images: Sequence[tuple[Image, tuple[ImageReference, ...]]],
    *,
    store: ImageStore,
    settings: Settings,
    reporter: Reporter,
) -> Pushed:
    """Bring the images there and give each its names, in this order; all names are of one repository.

    Returns what became of the last image. Raises RegistryRefusedError, and UnreachableError after some patience.
    """
    image, references = images[-1]
    blobs = {blob.digest: blob for one, _ in images for blob in _blobs(one)}
    others = blob_places.find(references[0], blobs, settings)
    repository = Repository(
        references[0], PUSH, settings=settings, reporter=reporter, others=sorted(set(others.values()))
    )
    outcomes = _Uploads(repository, store, others).bring(blobs.values())
    for one, names in images:
        manifest = one.descriptor().digest
        for name in (manifest, *(reference.tag for reference in names)):
            put_manifest(repository, one.manifest_bytes(), MANIFEST, manifest, name)
    blob_places.note(references[0], blobs, settings)
    counted = list(outcomes.values())
    return Pushed(
        references=tuple(str(reference) for reference in references),
        digest=image.descriptor().digest,
        uploaded=counted.count("uploaded"),
        mounted=counted.count("mounted"),
        present=counted.count("present"),
        size=sum(blobs[one].size for one, outcome in outcomes.items() if outcome == "uploaded"),
    )


def _blobs(image: Image) -> tuple[Descriptor, ...]:
    return image.config_descriptor(), *(layer.blob for layer in image.layers)


def put_manifest(repository: Repository, data: bytes, media_type: str, digest: Digest, name: str) -> None:
    """Let `name`, a tag or the digest, be this manifest; where it is already, nothing is sent: tags can be for ever."""
    path = f"manifests/{name}"

    def put() -> None:
        with repository.request("HEAD", path, headers={"Accept": media_type}, is_optional=True) as found:
            if found.headers.get("Docker-Content-Digest") == digest:
                return
        repository.request("PUT", path, headers={"Content-Type": media_type}, body=lambda: data).close()

    patiently(put, wait=threading.Event().wait)


class _Uploads:
    """The blobs of one push, several at a time."""

    def __init__(self, repository: Repository, store: ImageStore, others: dict[Digest, str]) -> None:
        self.repository = repository
        self.store = store
        self.others = others
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.sent = 0
        self.total = 0

    def bring(self, blobs: Iterable[Descriptor]) -> dict[Digest, Outcome]:
        """Bring the blobs there and return what became of each; those that are complete stay when one fails."""
        blobs = tuple(blobs)
        self.total = sum(blob.size for blob in blobs)
        with ThreadPoolExecutor(max_workers=_PARALLEL) as executor:
            running = {executor.submit(self._bring, blob): blob for blob in blobs}
            try:
                return {running[future].digest: future.result() for future in as_completed(running)}
            except BaseException:
                self.stopped.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    def _bring(self, blob: Descriptor) -> Outcome:
        upload = Upload(
            repository=self.repository,
            blob=blob,
            store=self.store,
            other=self.others.get(blob.digest),
            stopped=self.stopped,
            on_bytes=self._progress,
        )
        outcome = patiently(upload.attempt, wait=self.stopped.wait)
        if outcome != "uploaded":
            with self.lock:
                self.total -= blob.size
        return outcome

    def _progress(self, count: int) -> None:
        with self.lock:
            before, self.sent = self.sent, self.sent + count
            if self.sent // _MEGABYTE > before // _MEGABYTE:
                self.repository.reporter.progress("push", self.sent // _MEGABYTE, -(-self.total // _MEGABYTE), "MB")
