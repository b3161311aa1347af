from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import flavor_version
from envbuilder.conda_yaml import MatchSpec
from envbuilder.errors import Source
from envbuilder.requirement import Requirement

if TYPE_CHECKING:
    from envbuilder.yaml_text import Node

SOURCE = Source(file="MLmodel", key="flavors.x")
ASKED = Source(file="conda.yaml", key="dependencies[1]")


def test_every_version_beside_a_flavor_is_found() -> None:
    members: dict[str, Node] = {
        "sklearn_version": "1.2.0",
        "xgb_version": "1.7",
        "some_lib_version": "3",
        "python_version": "3.9",
        "api_version": "v1",
        "empty_version": "",
        "list_version": ("1",),
        "version": "2",
    }
    assert [(str(one.package), one.version) for one in flavor_version.read(members, SOURCE)] == [
        ("scikit-learn", "1.2.0"),
        ("xgboost", "1.7"),
        ("some-lib", "3"),
    ]
    assert flavor_version.read(members, SOURCE)[0].source == SOURCE.child("sklearn_version")


def losers(package: str, version: str, *lines: str, specs: tuple[str, ...] = ()) -> list[tuple[str, Source | None]]:
    (one,) = flavor_version.read({f"{package}_version": version}, SOURCE)
    found = flavor_version.losers(
        (one,),
        tuple(Requirement.parse(line, source=ASKED) for line in lines),
        tuple(MatchSpec.parse(spec, source=ASKED) for spec in specs),
    )
    assert all(loser.value == f"{one.package} {version}" and loser.field == "flavor" for loser in found)
    return [(loser.reason, loser.by) for loser in found]


@pytest.mark.parametrize(
    ("lines", "specs"),
    [
        (("torch==2.1.0",), ()),
        (("torch>=2", "numpy"), ()),
        (("torch @ https://h/torch.whl",), ()),
        ((), ("pytorch=1.0",)),
        (("torch==1.0",), ("pytorch-cpu",)),
    ],
    ids=["the same", "a range", "a place", "conda", "conda beside pip"],
)
def test_a_version_that_is_allowed_loses_nothing(lines: tuple[str, ...], specs: tuple[str, ...]) -> None:
    assert losers("pytorch", "2.1.0", *lines, specs=specs) == []


@pytest.mark.parametrize(
    ("package", "version", "lines", "expected"),
    [
        ("pytorch", "2.1.0", ("torch==2.0",), [("`torch==2.0` is asked for", ASKED)]),
        ("pytorch", "2.1.0+cu118", ("torch<2",), [("`torch<2` is asked for", ASKED)]),
        ("mlflow", "2.9", ("mlflow-skinny==2.1",), []),
        ("mlflow", "2.9", ("mlflow==2.1", "mlflow-skinny"), [("`mlflow==2.1` is asked for", ASKED)]),
        ("lgb", "4.0", ("numpy",), [("nothing asks for this package", None)]),
        ("sklearn", "one", ("scikit-learn==1",), []),
        ("sklearn", "1.0rc1", ("scikit-learn>=0.9",), []),
    ],
    ids=["another pin", "a local version", "another name", "both names", "nothing", "no version", "a pre-release"],
)
def test_a_version_that_is_not_allowed_loses_to_the_line_that_decides(
    package: str, version: str, lines: tuple[str, ...], expected: list[tuple[str, Source | None]]
) -> None:
    assert losers(package, version, *lines) == expected
