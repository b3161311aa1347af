"""Real model directories, where they are at hand: each gives a spec or an error that says where and how to fix it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envbuilder.conda_yaml import CondaYaml
from envbuilder.environment_spec import EnvironmentSpec
from envbuilder.errors import EnvBuilderError, Problem
from envbuilder.model import Model
from envbuilder.requirement import classify
from envbuilder.resolution import resolve

SHARED = Path(os.environ.get("ENVBUILDER_SHARED", Path(__file__).parents[2] / "shared"))


def directories(name: str) -> list[Path]:
    found = {path.parent for path in (SHARED / name).rglob("MLmodel")}
    return sorted(path for path in found if "metadata" not in path.parts)


def outcome(directory: Path) -> EnvironmentSpec | EnvBuilderError:
    try:
        return resolve(Model.read(directory))
    except EnvBuilderError as error:
        return error


@pytest.mark.parametrize(("name", "specs", "errors"), [("corpus", 45, 7), ("models", 20, 4)])
def test_real_models_give_a_spec_or_a_helpful_error(name: str, specs: int, errors: int) -> None:
    found = {directory: outcome(directory) for directory in directories(name)}
    if not found:
        pytest.skip(f"no `{name}` in {SHARED}")
    failures = {directory: one for directory, one in found.items() if isinstance(one, EnvBuilderError)}
    assert all(problem.where and problem.fix for one in failures.values() for problem in one.problems)
    assert (len(found) - len(failures), len(failures)) == (specs, errors), sorted(failures)
    for one in found.values():
        if isinstance(one, EnvironmentSpec):
            assert one.python.value.minor is not None
            assert one.to_text()


def test_no_line_of_a_real_conda_yaml_is_lost() -> None:
    files = [*SHARED.glob("corpus/**/conda.yaml"), *SHARED.glob("models/**/conda.yaml")]
    if not files:
        pytest.skip(f"no conda.yaml in {SHARED}")
    for file in files:
        conda = CondaYaml.parse(file.read_bytes(), file=str(file))
        written = [line.strip() for line in file.read_text().splitlines() if line.strip().startswith("- ")]
        lines = len(conda.channels) + len(conda.match_specs) + len(conda.pip_blocks) + len(conda.pip_lines)
        assert lines == len(written), file
        for line in conda.pip_lines:
            items = classify(line.value, source=line.source)
            assert items
            assert not any(isinstance(item, Problem) for item in items)
