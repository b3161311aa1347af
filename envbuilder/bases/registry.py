"""Bases from a container registry, by the distribution specification: manifest, then the blobs that are missing.

What was pulled is noted per reference and platform, so that `--offline` finds it again.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import requests

from envbuilder import digest, disk
from envbuilder.bases import manifests, rootfs
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.image_reference import ImageReference
from envbuilder.registry import blob_places
from envbuilder.registry.repository import CHUNK, MANIFESTS, Purpose, Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.image_store import BlobWriter, ImageStore
    from envbuilder.oci_image import Descriptor, Image, Platform
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

_PARALLEL: Final = 4
_ATTEMPTS: Final = 4
"""How often a blob's download is taken up again where it broke off."""

_MEGABYTE: Final = 1_000_000
_INSTEAD: Final = (
    "or pass another base: `--base debian:bookworm` (put together from Debian packages), "
    "the path of an OCI layout, or of a root file system's tar"
)
_PULL: Final = Purpose(actions="pull", refused=BaseImageError, instead=_INSTEAD)


def pull(
    reference: ImageReference, *, platform: Platform, store: ImageStore, settings: Settings, reporter: Reporter
) -> tuple[Digest, Image]:
    """Bring the image for the platform into the store; the digest is what the reference points at (often an index).

    Raises BaseImageError when there is no such image, it needs a login, or it is damaged, and UnreachableError when
    the registry does not answer now.
    """
    where = Source(file=str(reference))
    key = digest.of_json([reference.canonical, str(platform)])
    note = settings.cache_dir / "registry" / f"{digest.hex_of(key)}.json"
    if settings.offline or reference.digest is not None:
        top = _noted(note)
        known = rootfs.recall(store, "image", top, str(platform)) if top is not None else None
        if top is not None and known is not None:
            return top, known
    if settings.offline:
        raise UnreachableError(
            f"the base image was not pulled for `{platform}` yet, and `--offline` forbids to do it now",
            where=where,
            fix=f"run once without `--offline`, {_INSTEAD}",
        )
    for place in _mirrored(reference, settings):
        try:
            top, image = _pulled(place, platform, store=store, settings=settings, reporter=reporter)
            break
        except (BaseImageError, UnreachableError) as cause:
            reporter.warning(f"the mirror `{place.name}` is passed over: {cause.problems[0].what}")
    else:
        top, image = _pulled(reference, platform, store=store, settings=settings, reporter=reporter)
    disk.write_file(note, json.dumps({"reference": reference.canonical, "digest": top}).encode())
    return top, image


def _mirrored(reference: ImageReference, settings: Settings) -> Iterator[ImageReference]:
    """Give what the image is called by the mirrors of its registry."""
    for registry, place in settings.registry_mirrors:
        if registry == reference.registry:
            mirror = ImageReference.parse(f"{place}/{reference.repository}")
            yield replace(mirror, tag=reference.tag, digest=reference.digest)


def _pulled(
    reference: ImageReference, platform: Platform, *, store: ImageStore, settings: Settings, reporter: Reporter
) -> tuple[Digest, Image]:
    where = Source(file=str(reference))
    repository = Repository(reference, _PULL, settings=settings, reporter=reporter)
    data = _top(repository)
    top = digest.of_bytes(data)
    image = rootfs.recall(store, "image", top, str(platform))
    if image is None:
        chosen = manifests.choose(data, platform, lambda blob: _document(repository, blob), where)
        blobs = [blob for blob, _ in chosen.layers]
        _Download(repository, store).fetch(blobs)
        blob_places.note(reference, [blob.digest for blob in blobs], settings)
        image = manifests.assemble(chosen, store, where)
        rootfs.remember(store, image, "image", top, str(platform))
    return top, image


def _noted(note: Path) -> Digest | None:
    try:
        return digest.parse(json.loads(note.read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _top(repository: Repository) -> bytes:
    """Return the manifest or index that the reference points at, verified where it can be."""
    reference = repository.reference
    wanted = reference.digest or reference.tag
    data, response = repository.document(f"manifests/{wanted}", headers={"Accept": ", ".join(MANIFESTS)})
    promised = reference.digest or response.headers.get("Docker-Content-Digest", "")
    found = digest.of_bytes(data)
    if promised.startswith("sha256:") and promised != found:
        raise manifests.damaged(found, repository.where)
    return data


def _document(repository: Repository, blob: Descriptor) -> bytes:
    kind = "manifests" if blob.media_type in MANIFESTS else "blobs"
    data, _ = repository.document(f"{kind}/{blob.digest}", headers={"Accept": blob.media_type})
    return manifests.verified(data, blob, repository.where)


class _Download:
    """Brings blobs from a repository into the store, several at a time."""

    def __init__(self, repository: Repository, store: ImageStore) -> None:
        self.repository = repository
        self.store = store
        self.progress_lock = threading.Lock()
        self.stopped = threading.Event()
        self.done = 0

    def fetch(self, blobs: Iterable[Descriptor]) -> None:
        """Download the blobs that the store lacks; those that are complete stay when one fails."""
        missing = {blob.digest: blob for blob in blobs if not self.store.has(blob.digest)}
        total = sum(blob.size for blob in missing.values())
        with ThreadPoolExecutor(max_workers=_PARALLEL) as executor:
            running = [executor.submit(self._fetch_blob, blob, total) for blob in missing.values()]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stopped.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch_blob(self, blob: Descriptor, total: int) -> None:
        with self.store.new_blob() as writer:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._append(blob, writer, total)
                    break
                except requests.exceptions.RequestException as cause:
                    if attempt == _ATTEMPTS:
                        raise self.repository.cut("the download broke off", cause) from cause
            if writer.digest != blob.digest:
                raise manifests.damaged(blob.digest, self.repository.where)

    def _append(self, blob: Descriptor, writer: BlobWriter, total: int) -> None:
        """Download what is missing at the end of the blob."""
        wanted = {"Range": f"bytes={writer.size}-"} if writer.size else {}
        with self.repository.request("GET", f"blobs/{blob.digest}", headers=wanted) as response:
            known = writer.size if response.status_code != requests.codes.partial_content else 0
            for chunk in response.iter_content(CHUNK):
                if self.stopped.is_set():
                    raise self.repository.cut("the download was stopped")
                fresh = chunk[known:]
                known -= len(chunk) - len(fresh)
                if writer.size + len(fresh) > blob.size:
                    raise manifests.damaged(blob.digest, self.repository.where)
                writer.write(fresh)
                self._progress(len(fresh), total)

    def _progress(self, count: int, total: int) -> None:
        with self.progress_lock:
            before, self.done = self.done, self.done + count
            if self.done // _MEGABYTE > before // _MEGABYTE or self.done == total:
                reporter = self.repository.reporter
                reporter.progress("pull", -(-self.done // _MEGABYTE), -(-total // _MEGABYTE), "MB")
