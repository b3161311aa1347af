from __future__ import annotations

import pytest

from envbuilder import fleet_yaml
from envbuilder.errors import InvalidFileError


def test_a_path_is_named_from_where_the_file_is_and_a_uri_stays() -> None:
    members = fleet_yaml.parse("- churn\n- models:/fraud@champion\n- /srv/risk\n", file="team/fleet.yaml")
    assert [one.model for one in members] == ["team/churn", "models:/fraud@champion", "/srv/risk"]
    assert str(members[1].source) == "team/fleet.yaml: [1]"


def test_a_model_may_have_a_tag_and_an_environment_of_its_own() -> None:
    (member,) = fleet_yaml.parse(
        "- {model: churn, tag: 'team/churn:1.10', environment: lean@latest}", file="fleet.yaml"
    )
    assert (member.model, member.tag, member.environment) == ("churn", "team/churn:1.10", "lean@latest")


def test_all_problems_are_told_at_once_and_each_with_its_place() -> None:
    text = "- {model: a, tags: b}\n- {tag: 'c:1'}\n- [d]\n- {model: e, tag: 'E!'}\n- {model: [f]}\n"
    with pytest.raises(InvalidFileError) as caught:
        fleet_yaml.parse(text, file="fleet.yaml")
    places = [str(problem.where) for problem in caught.value.problems]
    assert places == [
        "fleet.yaml: [0].tags",
        "fleet.yaml: [1]",
        "fleet.yaml: [2]",
        "fleet.yaml: [3].tag",
        "fleet.yaml: [4].model",
        "fleet.yaml: [4]",
    ]
    assert all(problem.fix for problem in caught.value.problems)


@pytest.mark.parametrize(("text", "found"), [("", "nothing"), ("[]", "nothing"), ("a: b", "a mapping"), ("x", "text")])
def test_what_is_no_list_of_models_is_told(text: str, found: str) -> None:
    with pytest.raises(InvalidFileError, match=f"expected a list of models, got {found}"):
        fleet_yaml.parse(text, file="fleet.yaml")
