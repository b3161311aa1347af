from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import process
from envbuilder.conda_client import Access, host_and_path
from envbuilder.conda_solve import ChannelGroup, Job, Preferred
from tests.conda_channel import package, running_channel, sample, write_channel

if TYPE_CHECKING:
    from pathlib import Path

ENVIRON = {"PATH": os.environ["PATH"]}
PROGRAM = (sys.executable, "-I", "-m", "envbuilder.conda_solve")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        sources=(ChannelGroup(name="c", urls=(write_channel(tmp_path / "channel", sample()),)),),
        match_specs=("tzdata",),
        subdir="linux-64",
        virtual_packages=(("__glibc", "2.36", "0"),),
        cache_dir=str(tmp_path / "cache"),
    )


def run(job: Job, command: tuple[str, ...] = PROGRAM) -> dict[str, Any]:
    finished = process.run(command, environ=ENVIRON, stdin=job.to_json(), timeout=60)
    assert finished.tail == ()
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def test_a_job_is_read_as_it_was_written(job: Job) -> None:
    whole = replace(
        job,
        preferred=(Preferred(name="x", version="1", build="0", url="https://h/x"),),
        exclude_newer="2024-01-01T00:00:00+00:00",
        access=Access(mirrors=(("https://a/", ("https://b/",)),), logins=(("h", "/c/", "Basic eA=="),)),
    )
    assert Job.from_json(whole.to_json().decode()).to_json() == whole.to_json()


def test_a_login_is_for_a_host_and_what_its_path_begins_with() -> None:
    assert host_and_path("https://h.example:8080/t/tk/c") == ("h.example", "/t/tk/c/")
    assert host_and_path("https://h.example") == ("h.example", "/")


@pytest.mark.process
def test_the_answer_is_one_line_of_json_each_time_the_same(job: Job) -> None:
    answers = [run(replace(job, match_specs=("python", "hello"))) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    names = [record["name"] for record in answers[0]["packages"]]
    assert names == sorted(names) == ["hello", "libffi", "python", "six", "tzdata"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("change", "failure", "words"),
    [
        ({"match_specs": ("absent",)}, "unsatisfiable", "No candidates were found for absent"),
        ({"match_specs": ("six", "numpy >==")}, "match-spec", "unable to parse version spec"),
        ({"sources": (ChannelGroup(name="c", urls=("file:///absent",)),)}, "channel", "could not find subdir"),
    ],
)
def test_what_fails_is_an_answer_too(change: dict[str, Any], failure: str, words: str, job: Job) -> None:
    answer = run(replace(job, **change))
    assert answer["failure"] == failure
    assert words in answer["text"]
    assert "packages" not in answer


@pytest.mark.process
def test_a_solver_that_is_not_there_is_told(job: Job) -> None:
    code = "import sys; sys.modules['rattler'] = None; from envbuilder import conda_solve; conda_solve.main()"
    assert run(job, (sys.executable, "-I", "-c", code))["failure"] == "missing"


@pytest.mark.process
def test_channels_that_a_channel_names_are_not_asked(job: Job) -> None:
    with running_channel() as server:
        server.add("asked", [package("part", depends=("hidden",))])
        server.add("named", [package("hidden")])
        for relation in ("base", "overrides"):
            for path in ("noarch/repodata.json", "linux-64/repodata.json"):
                content = json.loads(server.channels["asked"][path])
                content["info"]["channel_relations"] = {relation: "../named"}
                server.put("asked", path, json.dumps(content).encode())
            sources = (ChannelGroup(name="c", urls=(f"{server.url}/asked",)),)
            assert run(replace(job, sources=sources, match_specs=("part",)))["failure"] == "unsatisfiable"
        assert not [path for path in server.asked if path.startswith("/named/")]
