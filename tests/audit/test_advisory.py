from __future__ import annotations

from typing import Any

import pytest

from envbuilder.audit import advisory, cvss
from envbuilder.audit.advisory import Advisory
from tests.audit.samples import entry

ODD = {
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "a"},
            "versions": ["1.0"],
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "odd"}]}],
        }
    ]
}


def parsed(**options: Any) -> Advisory:  # noqa: ANN401 - those of an entry
    return Advisory.parse(entry("X-1", "a", **options), options.get("ecosystem", "PyPI"), "a")


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        # From the specification's examples, by its calculator.
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 1.6),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N", None),
        ("CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", None),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", None),
        ("", None),
    ],
)
def test_a_vector_has_the_score_of_the_specification(vector: str, score: float | None) -> None:
    assert cvss.base_score(vector) == score


@pytest.mark.parametrize(
    ("version", "is_affected"), [("0.9", False), ("1.0", True), ("1.9.9", True), ("2.0rc1", True), ("2.0", False)]
)
def test_a_range_goes_from_the_first_to_before_the_version_that_mends_it(version: str, *, is_affected: bool) -> None:
    assert parsed(introduced="1.0", fixed="2.0").affects(version, is_debian=False) is is_affected


def test_versions_are_compared_as_the_index_does_and_odd_ones_by_their_letters() -> None:
    named = parsed(affected=[{"package": {"ecosystem": "PyPI", "name": "a"}, "versions": ["1.0", "odd one"]}])
    assert named.affects("1.0.0", is_debian=False)
    assert named.affects("odd one", is_debian=False)
    assert not named.affects("1.1", is_debian=False)
    assert not named.affects("odd two", is_debian=False)


def test_the_last_affected_version_is_affected_itself_and_what_comes_again_too() -> None:
    events = [{"introduced": "1"}, {"last_affected": "2"}, {"introduced": "4"}, {"fixed": "5"}]
    affected = [{"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": [{"type": "SEMVER", "events": events}]}]
    one = parsed(affected=affected)
    found = [version for version in ("0", "1", "2", "3", "4", "5") if one.affects(version, is_debian=False)]
    assert found == ["1", "2", "4"]
    git = [{"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": [{"type": "GIT", "events": events}]}]
    assert not parsed(affected=git).affects("1", is_debian=False)


def test_versions_of_debian_are_compared_as_dpkg_does() -> None:
    one = parsed(ecosystem="Debian:12", fixed="1:3.0.9-1+deb12u2")
    assert one.affects("1:3.0.9-1+deb12u1", is_debian=True)
    assert not one.affects("1:3.0.9-1+deb12u2", is_debian=True)
    assert one.affects("1:3.0.9~rc1-1", is_debian=True)
    (found,) = advisory.merged([one], "1:3.0.9-1", is_debian=True)
    assert found.fixed == "1:3.0.9-1+deb12u2"


@pytest.mark.parametrize(
    ("more", "rating"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}, "critical"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]}, "low"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"}]}, "unknown"),
        ({"rating": "moderate"}, "medium"),
        ({"rating": None}, "unknown"),
        ({"rating": "odd"}, "unknown"),
    ],
)
def test_the_score_counts_before_the_word(more: dict[str, Any], rating: str) -> None:
    assert parsed(**more).rating == rating


def test_what_shares_a_name_is_one_vulnerability() -> None:
    found = advisory.merged(
        [
            Advisory.parse(entry("GHSA-1", "a", fixed="2", aliases=("CVE-1",), rating="LOW"), "PyPI", "a"),
            Advisory.parse(entry("GHSA-2", "a", fixed="3"), "PyPI", "a"),
            Advisory.parse(entry("PYSEC-1", "a", fixed="2.5", aliases=("CVE-1",), rating="HIGH"), "PyPI", "a"),
            Advisory.parse(entry("ODD", "a", ranges=[]) | ODD, "PyPI", "a"),
            Advisory.parse(entry("GHSA-3", "a", fixed="0.1"), "PyPI", "a"),
            Advisory.parse(entry("OTHER", "a", fixed="odd", summary="", details="a\x1b[2J text\nmore"), "PyPI", "a"),
        ],
        "1.0",
        is_debian=False,
    )
    assert [(one.names, one.fixed, one.rating) for one in found] == [
        (("CVE-1", "GHSA-1", "PYSEC-1"), "2", "high"),
        (("GHSA-2",), "3", "high"),
        (("ODD",), None, "high"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"id": 1, "affected": []},
        {"id": "a\x1b[2J"},
        {"id": "X", "affected": [{"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": [{"type": "SEMVER"}]}]},
    ],
)
def test_what_is_malformed_is_an_error(value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Advisory.parse(value, "PyPI", "a")
