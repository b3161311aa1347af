"""A bill of materials as CycloneDX 1.6 in JSON: the same bill is the same bytes. Pure.

Written here and not by CycloneDX's own library, which the tests hold it to: that takes longer to import than to write.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component, Identity

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
TITLE: Final = "sbom.cdx.json"
_ROOT: Final = "model"
_CONFIDENCE: Final = {"lock": 1.0, "channel": 1.0, "dist-info": 1.0, "dpkg": 1.0, "sbom": 0.9, "name": 0.6}
_PREFIX: Final = "envbuilder"


def to_bytes(bill: Bill) -> bytes:
    """Return the bill; its serial number follows from its content, and it has no time."""
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"envbuilder:{bill.digest}")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "envbuilder", "version": bill.tool_version}]},
            "component": _root(bill),
        },
        "components": [_component(one) for one in bill.components],
        "dependencies": _dependencies(bill),
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _root(bill: Bill) -> dict[str, Any]:
    subject, lock = bill.subject, bill.lock
    known = {
        "lock.digest": lock.digest,
        "model.digest": subject.model_digest,
        "mlflow.version": subject.mlflow_version,
        "python.version": lock.python_version,
        "platform": lock.subdir,
        "base.reference": lock.base.reference if lock.base is not None else None,
        "base.digest": lock.base.digest if lock.base is not None else None,
        "base.packages": "listed" if bill.is_base_known else "unknown",
    }
    return {
        "type": "machine-learning-model" if subject.model_digest is not None else "application",
        "bom-ref": _ROOT,
        "name": subject.name,
        "version": digest.short(subject.model_digest or lock.digest),
        "properties": _properties((key, value) for key, value in known.items() if value is not None),
    }


def _component(one: Component) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": one.ref, "name": one.name}
    if one.version:
        found["version"] = one.version
    hashes = [("SHA-256", digest.hex_of(one.sha256) if one.sha256 else None), ("MD5", one.md5)]
    listed = [{"alg": algorithm, "content": content} for algorithm, content in hashes if content is not None]
    if listed:
        found["hashes"] = listed
    if one.license is not None:
        found["licenses"] = [{"expression": one.license}]
    elif one.license_text is not None:
        found["licenses"] = [{"license": {"name": one.license_text}}]
    if one.identities:
        found["purl"] = one.purl
    if one.url is not None:
        found["externalReferences"] = [{"type": "distribution", "url": one.url}]
    extra = _extra(one)
    if extra:
        found["properties"] = _properties(extra)
    if len(one.identities) > 1:
        found["evidence"] = {"identity": [_identity(identity) for identity in one.identities]}
    return found


def _extra(one: Component) -> list[tuple[str, str]]:
    extra = list(one.notes)
    if one.size is not None:
        extra.append(("archive.size", str(one.size)))
    if one.license is None and one.kind in {"pypi", "conda"}:
        extra.append(("license", "unknown"))
    return extra


def _identity(one: Identity) -> dict[str, Any]:
    confidence = _CONFIDENCE[one.basis]
    technique = "manifest-analysis" if one.basis != "name" else "other"
    return {
        "field": "purl",
        "confidence": confidence,
        "concludedValue": one.purl,
        "methods": [{"technique": technique, "confidence": confidence, "value": one.basis}],
    }


def _properties(items: Any) -> list[dict[str, str]]:  # noqa: ANN401 - pairs of texts
    return [{"name": f"{_PREFIX}:{name}", "value": value} for name, value in sorted(items)]


def _dependencies(bill: Bill) -> list[dict[str, Any]]:
    needed = {ref for one in bill.components for ref in one.depends}
    tops = [one.ref for one in bill.components if one.ref not in needed]
    return [
        {"ref": _ROOT, "dependsOn": tops},
        *({"ref": one.ref, "dependsOn": list(one.depends)} for one in bill.components),
    ]
