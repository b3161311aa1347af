from __future__ import annotations

import json
from typing import Any

import pytest

from envbuilder.audit.nested_bill import read_parts

SPDX = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {
            "name": "openssl",
            "versionInfo": "3.0.1",
            "licenseDeclared": "Apache-2.0",
            "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:generic/openssl@3.0.1"}],
        },
        {"name": "bare"},
    ],
}


def test_spdx_and_nested_cyclonedx_are_read() -> None:
    found = read_parts(json.dumps(SPDX).encode(), stated_by="sboms/x.json") or ()
    assert [(one.name, one.version, one.purl, one.license) for one in found] == [
        ("openssl", "3.0.1", "pkg:generic/openssl@3.0.1", "Apache-2.0"),
        ("bare", "", None, None),
    ]
    inner = {"name": "inner", "version": 1, "purl": "not one"}
    outer = {"bomFormat": "CycloneDX", "components": [{"name": "outer", "version": "1", "components": [inner]}]}
    nested = read_parts(json.dumps(outer).encode(), stated_by="x") or ()
    assert [(one.name, one.version, one.purl) for one in nested] == [("outer", "1", None), ("inner", "", None)]


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"name": "x"}
    for _ in range(levels):
        value = {"name": "x", "components": [value]}
    return {"bomFormat": "CycloneDX", "components": [value]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"spdxVersion": "SPDX-3.0"}',
        b'{"bomFormat": "CycloneDX", "components": [{"name": "a\\u001b[2J"}]}',
        b'{"bomFormat": "CycloneDX", "components": [1]}',
        b'{"spdxVersion": "SPDX-2.3"}',
        json.dumps(deep(30)).encode(),
        b'{"a":' * 100_000,
        json.dumps({"bomFormat": "CycloneDX", "components": [{"name": "x"}] * 10_001}).encode(),
    ],
)
def test_what_is_no_bill_or_a_hostile_one_is_left_out(data: bytes) -> None:
    assert read_parts(data, stated_by="x") is None
