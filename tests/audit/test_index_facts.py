"""What the index says of locked wheels today: taken back, gone, too new; in both of its forms."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from envbuilder.audit import index_facts
from envbuilder.audit.index_facts import IndexFile
from envbuilder.errors import InvalidFileError, UnreachableError
from envbuilder.policy import Policy
from tests.audit import samples
from tests.audit.samples import direct, lock_of, pinned
from tests.package_index import running_index, wheel
from tests.registry_server import answering

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine

TODAY = date(2026, 3, 10)


def at(index: str, folder: Path) -> Machine:
    made = samples.machine_at(folder)
    return replace(made, settings=replace(made.settings, index_url=index))


def test_a_page_of_links_says_what_was_taken_back(tmp_path: Path) -> None:
    good, bad = wheel("good"), wheel("bad")
    with running_index() as index:
        index.add(good, bad)
        index.yanked[bad.name] = "broken"
        lock = lock_of(good.locked(), bad.locked(), direct(pinned("elsewhere", "1.0")))
        found = index_facts.read(lock, at(index.url, tmp_path))
    assert found == {good.name: IndexFile(), bad.name: IndexFile(yanked="broken")}
    (finding,) = index_facts.check(lock, found, Policy(), today=TODAY, lock_file="l")
    assert (finding.rule, finding.package) == ("yanked", "bad")
    assert finding.what.endswith("was taken back by its authors: broken")


def test_json_says_when_it_was_uploaded_too(tmp_path: Path) -> None:
    lock = lock_of(pinned("old", "1.0"), pinned("new", "1.0"), pinned("gone", "1.0"), pinned("bare", "1.0"))
    files = [
        {"filename": "old-1.0-py3-none-any.whl", "upload-time": "2026-03-01T10:00:00.123456Z", "yanked": False},
        {"filename": "new-1.0-py3-none-any.whl", "upload-time": "2026-03-09T10:00:00Z", "yanked": True},
        {"filename": "bare-1.0-py3-none-any.whl"},
    ]
    data = json.dumps({"files": files}).encode()
    with answering(lambda _: (200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, data)) as host:
        found = index_facts.read(lock, at(f"http://{host}/simple", tmp_path))
    told = index_facts.check(lock, found, Policy(minimum_age=7), today=TODAY, lock_file="l")
    assert sorted((one.rule, one.package, one.severity) for one in told) == [
        ("gone", "gone", "warning"),
        ("too-new", "new", "error"),
        ("yanked", "new", "warning"),
    ]
    told = index_facts.check(lock, found, Policy(), today=TODAY, lock_file="l")
    assert {one.rule for one in told} == {"gone", "yanked"}


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": [1]}', b'{"files": [{"filename": "a", "upload-time": "x"}]}'])
def test_an_index_that_answers_something_else_is_an_error(data: bytes, tmp_path: Path) -> None:
    kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
    with (
        answering(lambda _: (200, kind, data)) as host,
        pytest.raises(UnreachableError, match="no list of files"),
    ):
        index_facts.read(lock_of(pinned("a", "1.0")), at(f"http://{host}/simple", tmp_path))


def test_without_an_index_there_is_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="no index is named"):
        index_facts.read(lock_of(), samples.machine_at(tmp_path))
