from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import conda_failure
from envbuilder.channel import Address, Channel
from envbuilder.conda_failure import Asked, Wish
from envbuilder.conda_settings import CondaSettings
from envbuilder.conda_yaml import MatchSpec
from envbuilder.errors import (
    DiskFullError,
    EngineMissingError,
    EnvBuilderError,
    LockImpossibleError,
    Source,
    UnreachableError,
)
from envbuilder.settings import Settings
from envbuilder.target import Target

WHERE = Source(file="conda.yaml")
SETTINGS = CondaSettings.from_environ({}, settings=Settings(cache_dir=Path("cache")))
TARGET = Target(subdir="linux-64")
CONNECT = "error sending request for url (http://{host}/first/noarch/repodata.json)\nCaused by: client error (Connect)"


def channel(text: str) -> Channel:
    found = Channel.find(text, alias=SETTINGS.channel_alias, source=WHERE.child(text.rpartition("/")[2]))
    assert found is not None
    return found


ASKED = Asked(
    channels=(channel("http://u:canary@one.example/first"), channel("http://two.example/t/tk-canary/second")),
    wishes=tuple(
        Wish(match_spec=MatchSpec.parse(text, source=WHERE.child(i)), text=text) for i, text in enumerate(("a", "B-c"))
    ),
)


def error(failure: str, text: str, settings: CondaSettings = SETTINGS, url: str | None = None) -> EnvBuilderError:
    return conda_failure.error({"failure": failure, "text": text, "url": url}, ASKED, TARGET, settings)


def test_a_solver_that_cannot_be_loaded_is_told() -> None:
    found = error("missing", "No module named 'rattler'")
    assert isinstance(found, EngineMissingError)
    assert "rattler" in found.problems[0].what


def test_a_full_disk_is_told_as_such() -> None:
    assert isinstance(error("channel", "an IO error\nCaused by: No space left on device (os error 28)"), DiskFullError)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "HTTP status client error (401 Unauthorized) for url (http://u:*****@one.example/first/noarch/r.json)",
            "first",
        ),
        (
            "HTTP status client error (401 Unauthorized) for url (http://two.example/t/****/second/noarch/r.json)",
            "second",
        ),
        ("HTTP status client error (401 Unauthorized) for url (http://two.example/second-other/noarch/r.json)", None),
    ],
)
def test_the_channel_that_an_address_belongs_to_is_named(text: str, key: str | None) -> None:
    (problem,) = error("channel", text).problems
    assert problem.where == (WHERE.child(key) if key else None)
    assert problem.what.startswith("the channel" if key else "a channel asks for a login")
    assert "canary" not in str(problem)


def test_a_broken_list_is_told_by_the_address_that_comes_with_it() -> None:
    (problem,) = error("channel", "failed to parse repodata.json", url="http://two.example/second").problems
    assert problem.where == WHERE.child("second")


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({"http_proxy": "http://u:canary@proxy.example:3128"}, "proxy.example:3128"),
        ({"HTTP_PROXY": "proxy.example:3128"}, "proxy.example:3128"),
        ({"ALL_PROXY": "http://proxy.example"}, "proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example"}, None),
        ({"HTTP_PROXY": "http://proxy.example", "NO_PROXY": "x.example, .one.example"}, None),
        ({"HTTP_PROXY": "http://proxy.example", "no_proxy": "*"}, None),
        ({"HTTP_PROXY": "http://proxy.example", "no_proxy": "ne.example"}, "proxy.example"),
    ],
)
def test_nobody_there_is_the_proxys_trouble_where_there_is_one(environ: dict[str, str], proxy: str | None) -> None:
    settings = replace(SETTINGS, settings=replace(SETTINGS.settings, environ=tuple(environ.items())))
    (problem,) = error("channel", CONNECT.format(host="one.example"), settings).problems
    expected = (
        f"the proxy {proxy} did not let through to" if proxy else "the channel `http://***@one.example/first` did not"
    )
    assert problem.what.startswith(expected)
    assert "canary" not in str(problem)


def test_offline_explains_what_has_no_other_explanation() -> None:
    offline = replace(SETTINGS, settings=replace(SETTINGS.settings, offline=True))
    found = error("channel", "shard http://one.example/first/noarch/x not there", offline)
    assert isinstance(found, UnreachableError)
    assert "`--offline` forbids" in found.problems[0].what


def test_a_long_explanation_is_cut_and_names_every_line_that_takes_part() -> None:
    text = "Cannot solve the request because of: The following packages are incompatible\n├─ b-c *\n" + "└─ a 1\n" * 100
    found = error("unsatisfiable", text + "x" * 30_000)
    assert isinstance(found, LockImpossibleError)
    first, second = found.problems
    assert len(first.what.splitlines()) == 62
    assert first.what.splitlines()[1] == "├─ b-c *"
    assert first.what.endswith("… and 42 lines more")
    assert (first.where, second.where) == (WHERE.child(0), WHERE.child(1))
    assert second.what == "`B-c` takes part in it"


def test_an_explanation_without_a_known_name_is_told_at_the_first_line() -> None:
    (problem,) = error("unsatisfiable", "it cannot be").problems
    assert (problem.where, problem.fix) == (WHERE.child(0), "change one of these lines")


def test_a_virtual_package_that_the_target_lacks_is_told() -> None:
    (problem,) = error("unsatisfiable", "└─ __win *, for which no candidates were found").problems
    assert problem.fix == "the target has none of it: take another target, or another version of the package"


def test_an_address_below_a_mirror_belongs_to_its_channel() -> None:
    of, by = (Address.parse(url, where=WHERE) for url in ("http://two.example", "https://mirror.example/conda"))
    settings = replace(SETTINGS, mirrors=((of, (by,)),))
    text = "HTTP status server error (502 Bad Gateway) for url (https://mirror.example/conda/second/noarch/r.json)"
    (problem,) = error("channel", text, settings).problems
    assert problem.where == WHERE.child("second")
    assert "cannot answer now (502 Bad Gateway)" in problem.what
