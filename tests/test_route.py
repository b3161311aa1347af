from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import route
from envbuilder.errors import Problem, Source
from envbuilder.problems import Problems
from envbuilder.yaml_text import Node, load

if TYPE_CHECKING:
    from envbuilder.route import Route

SOURCE = Source(file="e.yaml")
ROUTES = {f"{name}_route": {"port": "5001", "path": f"/{name}"} for name in route.NAMES}


def read(value: Node) -> tuple[tuple[Route, ...], tuple[Problem, ...]]:
    problems = Problems()
    return route.read({"inference_config": value}, "inference_config", SOURCE, problems), problems.found


def test_all_three_routes_are_read() -> None:
    found, problems = read(ROUTES)
    assert [one.text for one in found] == [
        "liveness :5001/liveness",
        "readiness :5001/readiness",
        "scoring :5001/scoring",
    ]
    assert str(found[2].source) == "e.yaml: inference_config.scoring_route"
    assert problems == ()
    assert read(None) == ((), ())


@pytest.mark.parametrize(
    ("text", "whats", "key"),
    [
        ("{}", ["`liveness_route`, `readiness_route`, `scoring_route` are missing"], ""),
        ("{scoring_route: }", ["`liveness_route`, `readiness_route` are missing", "nothing is said here"], None),
        ("[x]", ["expected a mapping, got a list"], ""),
    ],
    ids=["none", "one, of nothing", "a list"],
)
def test_some_routes_are_not_enough(text: str, whats: list[str], key: str | None) -> None:
    found, problems = read(load(text, source_file="e.yaml"))
    assert found == ()
    assert [problem.what for problem in problems] == whats
    assert problems[0].where == SOURCE.child("inference_config")
    assert all(problem.fix for problem in problems)
    assert key is None or len(problems) == 1


@pytest.mark.parametrize(
    ("scoring", "what", "key"),
    [
        ({"port": "5001"}, "no `path`", ""),
        ({"path": "/"}, "no `port`", ""),
        ({"port": "0", "path": "/"}, "`0` is not a port", ".port"),
        ({"port": "65536", "path": "/"}, "`65536` is not a port", ".port"),
        ({"port": "5001.0", "path": "/"}, "`5001.0` is not a port", ".port"),
        ({"port": ("1",), "path": "/"}, "expected text, got a list", ".port"),
        ({"port": "80", "path": "score"}, "`score` is not the path of a route", ".path"),
        ({"port": "80", "path": "/a b"}, "`/a b` is not the path of a route", ".path"),
        ("x", "expected a mapping, got text", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_route_that_is_wrong_is_left_out_with_its_place(scoring: Node, what: str, key: str) -> None:
    found, (problem,) = read({**ROUTES, "scoring_route": scoring})
    assert [one.name for one in found] == ["liveness", "readiness"]
    assert (problem.what, bool(problem.fix)) == (what, True)
    assert str(problem.where) == f"e.yaml: inference_config.scoring_route{key}"


def test_an_unknown_route_is_named_with_the_known_ones() -> None:
    found, (problem,) = read({**ROUTES, "score_route": {}})
    assert len(found) == 3
    assert problem.what == "`score_route` is not known here"
    assert problem.fix == "use `liveness_route`, `readiness_route`, `scoring_route`"
    found, (problem,) = read({name: value for name, value in ROUTES.items() if name != "scoring_route"})
    assert problem.what == "`scoring_route` is missing"
    assert problem.fix == "give all three routes, or remove `inference_config`"
