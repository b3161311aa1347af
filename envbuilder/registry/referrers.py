"""Attaching a document to an image of a registry: by the referrers API, else by the tag that stands in for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import requests

from envbuilder import digest
from envbuilder.errors import RegistryRefusedError
from envbuilder.oci_artifact import EMPTY, Artifact, fallback_tag, with_artifact
from envbuilder.oci_image import DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor
from envbuilder.registry.patience import patiently
from envbuilder.registry.push import PUSH, put_manifest
from envbuilder.registry.repository import MANIFESTS, Repository

if TYPE_CHECKING:
    from envbuilder.digest import Digest
    from envbuilder.image_reference import ImageReference
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

_ACCEPTED = f"{MANIFEST}, {DOCKER_MANIFEST}"
_SUBJECT = "OCI-Subject"
"""What a registry with the API answers a manifest with that has a subject."""


def attach(
    reference: ImageReference,
    image: Digest,
    *,
    media_type: str,
    data: bytes,
    title: str,
    settings: Settings,
    reporter: Reporter,
) -> Artifact:
    """Attach a document to the image with this digest in the repository; the same one twice is one.

    Raises RegistryRefusedError, also where the registry takes images only, and UnreachableError.
    """
    repository = Repository(reference, PUSH, settings=settings, reporter=reporter)
    text, response = repository.document(f"manifests/{image}", headers={"Accept": _ACCEPTED})
    subject = Descriptor(media_type=response.headers.get("Content-Type", MANIFEST), digest=image, size=len(text))
    artifact = Artifact(media_type=media_type, data=data, subject=subject, title=title)
    for content in (EMPTY, data):
        _put_blob(repository, content)
    manifest = artifact.manifest_bytes()
    name = digest.of_bytes(manifest)

    def put() -> str | None:
        headers = {"Content-Type": MANIFEST}
        with repository.request("PUT", f"manifests/{name}", headers=headers, body=lambda: manifest) as answer:
            return answer.headers.get(_SUBJECT)

    if patiently(put, wait=threading.Event().wait) is None:
        _list(repository, artifact)
    return artifact


def _put_blob(repository: Repository, content: bytes) -> None:
    blob = digest.of_bytes(content)

    def put() -> None:
        with repository.request("HEAD", f"blobs/{blob}", is_optional=True) as found:
            if found.status_code == requests.codes.ok:
                return
        with repository.request("POST", "blobs/uploads/", body=bytes) as started:
            place = started.headers.get("Location")
        if place is None:
            raise repository.cut("the registry does not say where to send a blob")
        separator = "&" if "?" in place else "?"
        headers = {"Content-Type": "application/octet-stream"}
        repository.request("PUT", f"{place}{separator}digest={blob}", headers=headers, body=lambda: content).close()

    patiently(put, wait=threading.Event().wait)


def _list(repository: Repository, artifact: Artifact) -> None:
    """Put the artifact into the index that stands in for the API. Two that do so at once may lose one of theirs."""
    tag = fallback_tag(artifact.subject)
    # All kinds are accepted: a registry says that it has nothing where it has only another kind.
    headers = {"Accept": ", ".join(MANIFESTS)}
    known, response = repository.document(f"manifests/{tag}", headers=headers, is_optional=True)
    try:
        index = with_artifact(known if response.status_code == requests.codes.ok else None, artifact)
    except ValueError as cause:
        raise RegistryRefusedError(
            f"the tag `{tag}` is to list what is attached to the image, and is something else",
            where=repository.where,
            fix="remove that tag",
        ) from cause
    put_manifest(repository, index, INDEX, digest.of_bytes(index), tag)
