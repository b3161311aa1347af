from __future__ import annotations

import pytest

from envbuilder.errors import InvalidFileError
from envbuilder.python_env_yaml import PythonEnvYaml


def test_every_line_is_kept_with_its_place() -> None:
    found = PythonEnvYaml.parse(
        "python: 3.10\nbuild_dependencies:\n- pip==23.2.1\n- wheel\ndependencies:\n- -r requirements.txt\n"
        "- a @ https://u:s3cret@h/a.whl",
        file="python_env.yaml",
    )
    assert found.python is not None
    assert (found.python.value, str(found.python.source)) == ("3.10", "python_env.yaml: python")
    assert [line.value for line in found.build_dependencies] == ["pip==23.2.1", "wheel"]
    assert [(line.value, line.source.key) for line in found.dependencies] == [
        ("-r requirements.txt", "dependencies[0]"),
        ("a @ https://***@h/a.whl", "dependencies[1]"),
    ]


def test_absent_keys_say_nothing() -> None:
    found = PythonEnvYaml.parse("{}", file="python_env.yaml")
    assert (found.python, found.build_dependencies, found.dependencies) == (None, (), ())


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        PythonEnvYaml.parse("python: [3]\ndependencies: x\nbuild_dependencies: {a: b}", file="e.yaml")
    assert [str(problem.where) for problem in caught.value.problems] == [
        "e.yaml: python",
        "e.yaml: build_dependencies",
        "e.yaml: dependencies",
    ]
