from __future__ import annotations

import json

import pytest

from envbuilder import digest, oci_artifact
from envbuilder.oci_artifact import Artifact
from envbuilder.oci_image import INDEX, MANIFEST, Descriptor

SUBJECT = Descriptor(media_type=MANIFEST, digest=digest.of_bytes(b"image"), size=5)
BILL = Artifact(media_type="application/x+json", data=b"{}", subject=SUBJECT, title="bill.json")
OTHER = Artifact(media_type="application/y+json", data=b"[]", subject=SUBJECT, title="other.json")


def test_the_manifest_names_the_image_and_holds_the_document() -> None:
    manifest = json.loads(BILL.manifest_bytes())
    assert manifest["artifactType"] == "application/x+json"
    assert manifest["subject"] == SUBJECT.to_dict()
    (document,) = manifest["layers"]
    assert document["digest"] == digest.of_bytes(b"{}")
    assert document["annotations"] == {"org.opencontainers.image.title": "bill.json"}
    assert manifest["config"]["size"] == 2
    assert BILL.descriptor()["digest"] == digest.of_bytes(BILL.manifest_bytes())


def test_a_list_of_what_is_attached_keeps_what_others_attached_and_names_each_once() -> None:
    first = oci_artifact.with_artifact(None, OTHER)
    both = oci_artifact.with_artifact(first, BILL)
    assert oci_artifact.with_artifact(both, BILL) == both
    value = json.loads(both)
    assert value["mediaType"] == INDEX
    assert [one["artifactType"] for one in value["manifests"]] == ["application/y+json", "application/x+json"]


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"manifests": [1]}', b"{"])
def test_what_is_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an index|Expecting"):
        oci_artifact.with_artifact(text, BILL)


def test_the_list_has_a_tag_made_of_the_images_digest() -> None:
    assert oci_artifact.fallback_tag(SUBJECT) == SUBJECT.digest.replace("sha256:", "sha256-")
