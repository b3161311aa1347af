from __future__ import annotations

import pytest

from envbuilder.errors import ModelError, Source
from envbuilder.model_pattern import ModelPattern, Registered, is_pattern

SOURCE = Source(file="--all")
MODELS = (
    Registered(name="fraud"),
    Registered(name="churn-eu", aliases=("champion", "latest-good")),
    Registered(name="churn-us"),
)


def uris(text: str) -> list[str]:
    return [one.model for one in ModelPattern.parse(text, source=SOURCE).members(MODELS, source=SOURCE)]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("models:/", ["models:/churn-eu/latest", "models:/churn-us/latest", "models:/fraud/latest"]),
        ("models:/churn-*", ["models:/churn-eu/latest", "models:/churn-us/latest"]),
        ("models:/churn-?s/latest", ["models:/churn-us/latest"]),
        ("models:/*@champion", ["models:/churn-eu@champion"]),
        ("models:/@champion", ["models:/churn-eu@champion"]),
    ],
)
def test_models_are_meant_by_name_and_alias(pattern: str, meant: list[str]) -> None:
    assert uris(pattern) == meant


@pytest.mark.parametrize("text", ["models:churn", "models:/churn/3", "models:/churn@", "models://host"])
def test_what_names_no_models_is_told_with_the_right_form(text: str) -> None:
    assert is_pattern(text)
    with pytest.raises(ModelError, match="names no models of a registry") as caught:
        uris(text)
    assert "`models:/NAME*@ALIAS`" in str(caught.value)


def test_where_no_model_is_meant_those_that_exist_are_named() -> None:
    with pytest.raises(ModelError, match=r"no model `risk\*`") as caught:
        uris("models:/risk*")
    assert "there are `churn-eu`, `churn-us`, `fraud`" in str(caught.value)
    with pytest.raises(ModelError, match="no model `churn-us` with the alias `champion`"):
        uris("models:/churn-us@champion")


def test_an_empty_registry_is_told() -> None:
    with pytest.raises(ModelError, match="check MLFLOW_TRACKING_URI"):
        ModelPattern(names="*").members((), source=SOURCE)
