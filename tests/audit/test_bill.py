"""The bill of materials: complete, the same bytes each time, valid, and read by the formats' own tools."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from envbuilder import digest
from envbuilder.audit import archive_facts, bill, cyclonedx, debian_status, spdx
from envbuilder.audit.archive_facts import ArchiveFacts
from envbuilder.audit.bill import Bill, Subject
from envbuilder.audit.component import Component
from envbuilder.audit.nested_bill import Part
from envbuilder.conda_package import CondaPackage
from envbuilder.installer import conda_packages, wheels
from envbuilder.locked import Lock, LockedBase, LockedPackage, WheelSource
from envbuilder.machine import Machine
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from envbuilder.target import Target
from tests.conda_channel import CondaFile, package, python_package
from tests.package_index import wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.digest import Digest

NESTED = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [
        {"type": "library", "name": "openssl", "version": "3.0.1", "purl": "pkg:generic/openssl@3.0.1"},
        {"type": "library", "name": "zlib", "version": "1.3", "licenses": [{"license": {"id": "Zlib"}}]},
    ],
}
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9
Depends: libgcc1 (>= 3), missing,
Description: a text
 Package: not-one

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14
Depends: libc6 (>= 2.35) | libc6-other
Provides: libgcc1 (= 1:12)

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: bad name
Version: 1
"""
OS_RELEASE = '# a comment\nID=debian\nVERSION_ID="12"\n'


def lock_of(*packages: LockedPackage, conda: tuple[CondaFile, ...] = ()) -> Lock:
    found = tuple(
        CondaPackage.from_record({**one.record, "url": f"https://conda.example/main/{one.subdir}/{one.name}"})
        for one in conda
    )
    return Lock(
        packages=packages,
        conda_packages=found,
        target=Target(subdir="linux-64"),
        base=LockedBase(reference="python:3.11-slim", digest=digest.of_bytes(b"base")),
        packages_digest=digest.of_bytes(b"asked"),
        python_version="3.11.7",
        tool_version="1",
    )


def whole(facts: Mapping[Digest, ArchiveFacts] | None = None) -> Bill:
    """Return a bill with every kind of component."""
    direct = replace(wheel("direct").locked(), is_direct=True)
    built = WheelSource(url="git+https://git.example/built@abc", digest=digest.of_bytes(b"tree"))
    archive = WheelSource(url="https://files.example/sourced-1.0.tar.gz", digest=digest.of_bytes(b"archive"))
    packages = (
        replace(wheel("top").locked(), dependencies=("part", "torch", "elsewhere")),
        wheel("part").locked(),
        direct,
        replace(wheel("built").locked(), url="built-1.0-py3-none-any.whl", source=built),
        replace(wheel("sourced").locked(), url="sourced-1.0-py3-none-any.whl", source=archive),
        replace(wheel("own").locked(), url="./wheels/own-1.0-py3-none-any.whl"),
    )
    conda = (
        python_package("pytorch", "2.3.1", depends=("python >=3.7", "zlib", "gone")),
        package("zlib", "1.3", subdir="linux-64"),
        package("stated", noarch="python", more={"purls": ["pkg:pypi/other-name@1.0"]}),
    )
    known = {
        digest.parse(wheel("part").digest): ArchiveFacts(
            size=10,
            license="MIT",
            parts=(
                Part(name="z", version="1", purl=None, license="Zlib", stated_by="sboms/a.json"),
                Part(name="y", version="", purl="pkg:generic/y", license=None, stated_by="sboms/a.json"),
            ),
            unreadable=("sboms/b.json",),
        ),
        digest.parse(wheel("own").digest): ArchiveFacts(size=10, license_text="ask us"),
    }
    return bill.of_lock(
        lock_of(*packages, conda=conda),
        subject=Subject(name="churn", model_digest=digest.of_bytes(b"model"), mlflow_version="3.1"),
        facts=facts if facts is not None else known,
        debian=debian_status.parse(STATUS, os_release=OS_RELEASE),
        tool_version="1",
    )


def test_what_the_archive_of_a_conda_package_holds_counts_before_its_name() -> None:
    lock = lock_of(conda=(python_package("pytorch", "2.3.1"),))
    facts = {lock.conda_packages[0].sha256: ArchiveFacts(size=1, distributions=(("torch", "2.3.1+cpu"),))}
    made = bill.of_lock(lock, subject=Subject(name="m"), facts=facts, debian=None, tool_version="1")
    (upstream,) = made.components[0].identities[1:]
    assert (upstream.purl, upstream.is_guess) == ("pkg:pypi/torch@2.3.1%2Bcpu", False)


def components(data: bytes) -> dict[str, dict[str, Any]]:
    return {one["bom-ref"]: one for one in json.loads(data)["components"]}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(settings=Settings(cache_dir=tmp_path / "cache"), reporter=Reporter())


@pytest.mark.parametrize(
    "made",
    [whole(), bill.of_lock(lock_of(), subject=Subject(name="none"), facts={}, debian=None, tool_version="1")],
    ids=["whole", "empty"],
)
def test_cyclonedx_is_valid_and_read_by_its_own_library(made: Bill) -> None:
    data = cyclonedx.to_bytes(made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    read = Bom.from_json(json.loads(data))  # type: ignore[attr-defined]
    assert {str(one.bom_ref) for one in read.components} == {one.ref for one in made.components}
    assert {str(one.purl) for one in read.components if one.purl} == {
        one.purl for one in made.components if one.identities
    }
    read.validate()


def test_spdx_is_valid_and_read_by_its_own_library() -> None:
    made = whole()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bill.spdx.json"
        file.write_bytes(spdx.to_bytes(made))
        document = parse_file(str(file))
    assert [one.validation_message for one in validate_full_spdx_document(document)] == []
    assert [one.name for one in document.packages] == ["churn", *(one.name for one in made.components)]
    relations = {(one.spdx_element_id, one.relationship_type.name) for one in document.relationships}
    assert any(kind == "CONTAINS" for _, kind in relations)


def test_the_same_bill_is_the_same_bytes_and_another_one_has_another_serial_number() -> None:
    for writer in (cyclonedx, spdx):
        assert writer.to_bytes(whole()) == writer.to_bytes(whole())
    serials = {json.loads(cyclonedx.to_bytes(one))["serialNumber"] for one in (whole(), whole(facts={}))}
    assert len(serials) == 2


def test_each_package_has_the_urls_it_is_known_by_and_a_guess_is_called_one() -> None:
    found = {one.name: one for one in whole().components}
    assert found["top"].purl == "pkg:pypi/top@1.0"
    assert found["direct"].purl == "pkg:pypi/direct@1.0?download_url=https://index.example/direct-1.0-py3-none-any.whl"
    assert found["built"].purl == "pkg:pypi/built@1.0?vcs_url=git%2Bhttps://git.example/built%40abc"
    assert found["sourced"].purl == "pkg:pypi/sourced@1.0?download_url=https://files.example/sourced-1.0.tar.gz"
    assert ("file-of-model", "wheels/own-1.0-py3-none-any.whl") in found["own"].notes
    assert [(one.purl, one.is_guess) for one in found["pytorch"].identities] == [
        (
            "pkg:conda/pytorch@2.3.1?build=pyhd8ed1ab_0&channel=https://conda.example/main&subdir=noarch&type=conda",
            False,
        ),
        ("pkg:pypi/torch@2.3.1", True),
    ]
    assert [(one.purl, one.is_guess) for one in found["stated"].identities[1:]] == [("pkg:pypi/other-name@1.0", False)]
    assert len(found["zlib"].identities) == 1
    assert found["libc6"].purl == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"


def test_edges_lead_to_wheels_conda_packages_and_what_is_inside() -> None:
    found = {one.name: one for one in whole().components}
    assert found["top"].depends == ("conda:pytorch@2.3.1-pyhd8ed1ab_0", "pypi:part@1.0")
    assert found["pytorch"].depends == ("conda:zlib@1.3-0",)
    assert found["part"].depends == ("pypi:part@1.0#pkg:generic/y@", "pypi:part@1.0#z@1")
    assert found["libc6"].depends == ("deb:libgcc-s1:amd64@12.2.0-14",)
    assert "gone" not in found


def test_what_nobody_knows_the_licence_of_is_named() -> None:
    assert [one.name for one in whole().unlicensed] == [
        "pytorch", "stated", "zlib", "built", "direct", "own", "sourced", "top",
    ]  # fmt: skip
    own = components(cyclonedx.to_bytes(whole()))["pypi:own@1.0"]
    assert own["licenses"] == [{"license": {"name": "ask us"}}]
    assert {"name": "envbuilder:license", "value": "unknown"} in own["properties"]


def test_archives_in_the_caches_say_licence_size_content_and_what_is_inside(machine: Machine) -> None:
    nested = json.dumps(NESTED).encode()
    files = {"a/__init__.py": b"", "a-1.0.dist-info/sboms/a.cdx.json": nested, "a-1.0.dist-info/sboms/b.json": b"{"}
    a = wheel("a", metadata=("License-Expression: mit OR apache-2.0",), files=files)
    b = wheel("b", metadata=("Classifier: License :: OSI Approved :: MIT License",))
    c = wheel("c", metadata=("License: ask the authors",))
    damaged, absent = wheel("damaged"), wheel("absent")
    for one in (a, b, c, damaged):
        path = wheels.wheel_path(one.locked(), machine.wheels)
        path.parent.mkdir(parents=True)
        path.write_bytes(one.data if one is not damaged else b"PK nonsense")
    packaged = python_package("pytorch", "2.3.1")
    old = package("zlib", "1.3", extension=".tar.bz2")
    lock = lock_of(*(one.locked() for one in (a, b, c, damaged, absent)), conda=(packaged, old))
    for conda, file in zip(lock.conda_packages, (packaged, old), strict=True):
        path = conda_packages.archive_path(conda, machine)
        path.parent.mkdir(parents=True)
        path.write_bytes(file.data)
    found = archive_facts.read(lock, machine)
    assert found[a.digest].license == "MIT OR Apache-2.0"
    assert found[a.digest].size == len(a.data)
    assert [(one.name, one.version, one.license) for one in found[a.digest].parts] == [
        ("openssl", "3.0.1", None),
        ("zlib", "1.3", "Zlib"),
    ]
    assert found[a.digest].unreadable == ("sboms/b.json",)
    assert found[b.digest].license == "MIT"
    assert (found[c.digest].license, found[c.digest].license_text) == (None, "ask the authors")
    assert damaged.digest not in found
    assert absent.digest not in found
    first, second = (found[one.sha256] for one in lock.conda_packages)
    assert (first.license, first.distributions) == ("BSD-3-Clause", (("pytorch", "2.3.1"),))
    assert (second.license, second.distributions) == ("BSD-3-Clause", ())


def test_a_component_of_an_unknown_version_and_with_no_hash_is_valid_too() -> None:
    component = Component(ref="x", kind="pypi", name="x", version="", identities=())
    made = replace(whole(), components=(component,))
    data = cyclonedx.to_bytes(made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert "version" not in components(data)["x"]
    package = json.loads(spdx.to_bytes(made))["packages"][1]
    assert "versionInfo" not in package
    assert "comment" not in package
    known = replace(whole(), components=(replace(component, license="MIT"),))
    assert "properties" not in components(cyclonedx.to_bytes(known))["x"]
