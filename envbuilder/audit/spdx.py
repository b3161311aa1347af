"""A bill of materials as SPDX 2.3 in JSON: the same bill is the same bytes. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component

_ROOT: Final = "SPDXRef-model"
_NO_TIME: Final = "1970-01-01T00:00:00Z"
"""SPDX wants a time; a clock would make two equal bills differ."""


def to_bytes(bill: Bill) -> bytes:
    """Return the bill; its namespace follows from its content."""
    refs = {one.ref: f"SPDXRef-{index}-{_plain(one.name)}" for index, one in enumerate(bill.components)}
    needed = {ref for one in bill.components for ref in one.depends}
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", _ROOT)]
    relations += [_relation(_ROOT, "DEPENDS_ON", refs[one.ref]) for one in bill.components if one.ref not in needed]
    inside = {one.ref for one in bill.components if one.kind == "part"}
    for one in bill.components:
        relations += [
            _relation(refs[one.ref], "CONTAINS" if ref in inside else "DEPENDS_ON", refs[ref]) for ref in one.depends
        ]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.subject.name,
        "documentNamespace": f"https://envbuilder.invalid/spdx/{digest.hex_of(bill.digest)}",
        "creationInfo": {"created": _NO_TIME, "creators": [f"Tool: envbuilder-{bill.tool_version}"]},
        "packages": [_root(bill), *(_package(one, refs[one.ref]) for one in bill.components)],
        "relationships": relations,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _root(bill: Bill) -> dict[str, Any]:
    subject = bill.subject
    base = "the base's packages are listed" if bill.is_base_known else "the base's packages are not known"
    return {
        "SPDXID": _ROOT,
        "name": subject.name,
        "versionInfo": digest.short(subject.model_digest or bill.lock.digest),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "comment": f"lock {bill.lock.digest}, Python {bill.lock.python_version}, {bill.lock.subdir}; {base}",
    }


def _package(one: Component, ref: str) -> dict[str, Any]:
    sums = [("SHA256", digest.hex_of(one.sha256) if one.sha256 else None), ("MD5", one.md5)]
    found: dict[str, Any] = {
        "SPDXID": ref,
        "name": one.name,
        "downloadLocation": one.url or "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": name, "checksumValue": value} for name, value in sums if value is not None],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": one.license or "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": identity.purl,
                **({"comment": "a guess by the package's name"} if identity.is_guess else {}),
            }
            for identity in one.identities
        ],
    }
    if one.version:
        found["versionInfo"] = one.version
    remarks = [f"{name}: {value}" for name, value in one.notes]
    if one.license is None and one.license_text is not None:
        remarks.append(f"the package says of its licence: {one.license_text}")
    if remarks:
        found["comment"] = "; ".join(remarks)
    return found
