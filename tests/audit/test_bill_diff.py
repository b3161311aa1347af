"""What changed between two locks, and how it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import digest
from envbuilder.audit import bill, bill_diff, debian_status
from envbuilder.audit.archive_facts import ArchiveFacts
from envbuilder.audit.bill import Subject
from envbuilder.locked import LockedBase
from tests.audit import samples
from tests.audit.samples import conda, lock_of, pinned
from tests.conftest import EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.audit.bill import Bill
    from envbuilder.audit.bill_diff import BillDiff
    from envbuilder.locked import Lock


def of(lock: Lock, **options: Any) -> Bill:  # noqa: ANN401 - those of a bill
    subject = Subject(name="m", model_digest=options.pop("model", None))
    made = {"facts": {}, "debian": None, **options}
    return bill.of_lock(lock, subject=subject, tool_version="1", **made)


def diff(first: Lock, second: Lock) -> BillDiff:
    return bill_diff.compare(of(first), of(second))


def test_the_same_is_no_difference() -> None:
    lock = lock_of(pinned("a", "1.0"), conda=[conda("pytorch", "2.3.1")])
    found = diff(lock, lock)
    assert found.is_empty
    assert found.to_text() == "no difference"
    assert found.to_markdown() == "No difference.\n"
    assert found.to_dict()["equal"] is True


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("1.2.3", "2.0.0", "~ a 1.2.3 -> 2.0.0 (major)"),
        ("1.2.3", "1.3", "~ a 1.2.3 -> 1.3 (minor)"),
        ("1.2.3", "1.2.2", "~ a 1.2.3 -> 1.2.2 (patch, down)"),
        ("1.2.3", "1.2.3.post1", "~ a 1.2.3 -> 1.2.3.post1 (other)"),
        ("odd", "odder", "~ a odd -> odder (other)"),
        (None, "1", "+ a 1"),
        ("1", None, "- a 1"),
    ],
)
def test_a_package_is_told_with_the_size_of_its_jump(before: str | None, after: str | None, text: str) -> None:
    sides = [lock_of(*([pinned("a", version)] if version is not None else [])) for version in (before, after)]
    assert diff(*sides).to_text() == text


def test_the_same_version_in_another_file_is_another_build() -> None:
    other = replace(pinned("a", "1.0"), sha256=digest.of_bytes(b"other"))
    assert diff(lock_of(pinned("a", "1.0")), lock_of(other)).to_text() == "~ a 1.0 -> 1.0 (build)"


def test_what_moves_between_conda_and_the_index_is_one_package() -> None:
    found = diff(lock_of(conda=[conda("pytorch", "2.3.1")]), lock_of(pinned("torch", "2.3.1")))
    assert found.to_text() == "~ torch 2.3.1 (conda) -> 2.3.1 (pypi) (build)"
    assert [one.kind for one in found.packages] == ["moved"]
    programs = diff(lock_of(conda=[conda("graphviz", "1.0", python=False)]), lock_of(pinned("graphviz", "1.0")))
    assert sorted(one.kind for one in programs.packages) == ["added", "removed"]


def test_several_conda_packages_of_one_project_are_each_compared() -> None:
    before = lock_of(conda=[conda("dask", "1.0"), conda("dask-core", "1.0")])
    after = lock_of(conda=[conda("dask", "1.0"), conda("dask-core", "1.1")])
    assert [one.kind for one in diff(before, after).packages] == ["changed"]


def test_python_base_platform_model_size_and_layers_are_told() -> None:
    first = lock_of(pinned("a", "1.0"), python="3.11.7")
    second = replace(lock_of(pinned("a", "1.0")), base=LockedBase(reference="other", digest=digest.of_bytes(b"o")))
    model = [digest.of_bytes(b"1"), digest.of_bytes(b"2")]
    key = pinned("a", "1.0").sha256
    bills = [
        of(lock, model=one, facts={key: ArchiveFacts(size=size)})
        for lock, one, size in zip((first, second), model, (1_000_000, 3_000_000), strict=True)
    ]
    layers = bill_diff.compare_layers([("base", "x"), ("model", "y")], [("base", "x"), ("", "z")])
    found = bill_diff.compare(*bills, layers=layers)
    assert [one[0] for one in found.facts] == ["python", "base", "model"]
    assert found.lines()[-4:] == [
        "~ archives 1.0 MB -> 3.0 MB (+2.0 MB)",
        "- layer model",
        "+ layer z",
        "= 1 layers stay",
    ]
    assert found.to_dict()["size"] == {"before": 1_000_000, "after": 3_000_000}
    assert "| changed | python | 3.11.7 | 3.12.4 |  |" in found.to_markdown()
    assert "+ layer z" in found.to_markdown()
    without = bill_diff.compare(of(replace(first, base=None)), of(second))
    assert any(line.startswith("~ base none -> other@") for line in without.lines())


def test_debians_packages_count_where_both_bases_are_known() -> None:
    stanza = "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n"
    packages = [debian_status.parse(stanza.format(version), os_release="") for version in ("1", "2")]
    first, second = (of(lock_of(), debian=one) for one in packages)
    assert bill_diff.compare(first, second).to_text() == "~ deb:zlib1g:amd64 1 -> 2 (major)"
    assert bill_diff.compare(first, of(lock_of())).is_empty
    assert bill_diff.compare(first, second).to_dict()["packages"][0]["jump"] == "major"
    added = bill_diff.compare(of(lock_of(), debian=()), second)
    assert added.to_dict()["packages"][0]["before"] is None


@pytest.mark.process
def test_the_command_line_compares_locks_in_three_forms(tmp_path: Path) -> None:
    files = []
    for name, version in (("a", "1.0"), ("b", "1.1")):
        (tmp_path / name).mkdir()
        files.append(str(samples.write_lock(tmp_path / name, lock_of(pinned("part", version)))))
    ended = command_line(tmp_path / "cache", "diff", *files)
    assert (ended.returncode, ended.stdout) == (1, "~ part 1.0 -> 1.1 (minor)\n")
    found = json.loads(command_line(tmp_path / "cache", "diff", *files, "--json").stdout)
    assert found["packages"][0]["jump"] == "minor"
    ended = command_line(tmp_path / "cache", "diff", *files, "--format", "markdown")
    assert r"| changed | part | 1.0 \(pypi\) | 1.1 \(pypi\) | minor |" in ended.stdout
    assert command_line(tmp_path / "cache", "diff", files[0], files[0]).returncode == 0
    ended = command_line(tmp_path / "cache", "diff", str(EXAMPLES / "scale"), files[0])
    assert ended.returncode == 11
    assert "there is no lock" in ended.stderr
    ended = command_line(tmp_path / "cache", "diff", str(EXAMPLES / "scale"), "nowhere:1", "--engine", "oci")
    assert ended.returncode == 3
    assert "has no image of that name" in ended.stderr
