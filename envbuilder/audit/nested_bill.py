"""Bills of materials that others put inside their wheels (PEP 770), in CycloneDX's or SPDX's JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import license_expression

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEEPEST: Final = 20
_MOST: Final = 10_000
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that an archive says is inside it."""

    name: str
    version: str
    purl: str | None
    license: str | None
    stated_by: str
    """The file that says so."""


def read_parts(data: bytes, *, stated_by: str) -> tuple[Part, ...] | None:
    """Return what the bill lists, None where it is neither of the two or is damaged."""
    try:
        value = json.loads(data)
        if value.get("bomFormat") == "CycloneDX":
            found = tuple(_of_cyclonedx(value, stated_by, 0))
        elif str(value.get("spdxVersion", "")).startswith("SPDX-2"):
            found = tuple(_of_spdx(value, stated_by))
        else:
            return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if len(found) <= _MOST else None


def _of_cyclonedx(value: dict[str, Any], stated_by: str, depth: int) -> Iterator[Part]:
    if depth > _DEEPEST:
        message = "nested too deep"
        raise ValueError(message)
    for one in value.get("components") or ():
        licenses = [item.get("expression") or item["license"].get("id", "") for item in one.get("licenses") or ()]
        yield _part(one["name"], one.get("version"), one.get("purl"), " AND ".join(licenses), stated_by)
        yield from _of_cyclonedx(one, stated_by, depth + 1)


def _of_spdx(value: dict[str, Any], stated_by: str) -> Iterator[Part]:
    for one in value["packages"]:
        references = one.get("externalRefs") or ()
        named = next((ref["referenceLocator"] for ref in references if ref.get("referenceType") == "purl"), None)
        stated = str(one.get("licenseConcluded") or one.get("licenseDeclared") or "")
        yield _part(one["name"], one.get("versionInfo"), named, stated, stated_by)


def _part(name: object, version: object, purl: object, stated: str, stated_by: str) -> Part:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST:
        message = "not the name of a component"
        raise ValueError(message)
    text = version if isinstance(version, str) and version.isprintable() else ""
    known = purl if isinstance(purl, str) and purl.startswith("pkg:") and purl.isprintable() else None
    return Part(
        name=name,
        version=text[:_LONGEST],
        purl=known[:_LONGEST] if known is not None else None,
        license=license_expression.parse(stated),
        stated_by=stated_by,
    )
