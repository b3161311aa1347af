from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.model import Model
from envbuilder.resolution import resolve, with_python
from tests.strategies import REQUIREMENTS

if TYPE_CHECKING:
    from envbuilder.environment_spec import EnvironmentSpec

FLAVOR = "flavors: {python_function: {loader_module: m, python_version: 3.11.7}}"


def write(directory: Path, **files: str) -> Model:
    """Write and read a model: `a__b_txt` is the file `a/b.txt`."""
    for name, content in {"MLmodel": FLAVOR, **files}.items():
        path = directory / ("/".join(name.split("__")).replace("_txt", ".txt").replace("_yaml", ".yaml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Model.read(directory)


def conda(*pip: str, specs: tuple[str, ...] = ("python=3.9",)) -> str:
    lines = [*(f"- {spec!r}" for spec in specs), *(["- pip:"] if pip else []), *(f"  - {line!r}" for line in pip)]
    return "channels: [conda-forge]\ndependencies:\n" + "\n".join(lines)


def refused(model: Model) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFileError) as caught:
        resolve(model)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    return caught.value.problems


def lost(spec: EnvironmentSpec) -> list[tuple[str, str, str]]:
    return [(one.field, one.value, f"{Path(one.source.file).name}: {one.source.key}") for one in spec.overridden]


def test_conda_yaml_decides_on_python_and_the_losers_are_kept(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path, conda_yaml=conda("a"), python_env_yaml="python: 3.10.13"))
    assert spec.python.value.text == "3.9"
    assert spec.python.source.key == "dependencies[0]"
    assert lost(spec) == [
        ("python", "3.10.13", "python_env.yaml: python"),
        ("python", "3.11.7", "MLmodel: flavors.python_function.python_version"),
    ]
    assert spec.overridden[0].by == spec.python.source
    assert spec.overridden[0].reason == "`3.9` is asked for by a file that comes first"


@pytest.mark.parametrize(
    ("specs", "python_env", "mlmodel", "expected", "losers"),
    [
        (("python=3.11",), "3.11.7", "3.11.7", "3.11", []),
        (("python=3.11.7",), "3.11", "3.11.*", "3.11.7", []),
        (("python=3.11.7",), "3.11.8", "3.11.7", "3.11.7", ["3.11.8"]),
        (("python>=3.9",), ">=3.9", ">=3.10", ">=3.9", [">=3.10"]),
        (("python",), "3.8.2", "3.9", "3.8.2", ["3.9"]),
        (("openblas",), None, "3.8", "3.8", []),
        (("python=3.8", "python>=3.8.5"), None, None, "3.8,>=3.8.5", []),
        (("python=3.8",), "nonsense", None, "3.8", ["nonsense"]),
        (("Python=3.8=h1_cpython",), None, None, "==3.8", []),
    ],
)
def test_python_comes_from_the_first_file_that_states_it(
    tmp_path: Path,
    specs: tuple[str, ...],
    python_env: str | None,
    mlmodel: str | None,
    expected: str,
    losers: list[str],
) -> None:
    files = {"python_env_yaml": f"python: '{python_env}'"} if python_env else {}
    version = f", python_version: '{mlmodel}'" if mlmodel else ""
    model = write(
        tmp_path,
        MLmodel=f"flavors: {{python_function: {{loader_module: m{version}}}}}",
        conda_yaml=conda("a", specs=specs),
        **files,
    )
    spec = resolve(model)
    assert spec.python.value.text == expected
    assert [one.value for one in spec.overridden if one.field == "python"] == losers


@pytest.mark.parametrize("specs", [("python",), ("openblas",)])
def test_python_is_never_guessed(tmp_path: Path, specs: tuple[str, ...]) -> None:
    model = write(
        tmp_path,
        MLmodel="flavors: {python_function: {loader_module: m}}",
        conda_yaml=conda("a", specs=specs),
    )
    (problem,) = refused(model)
    assert problem.what == "no Python version is stated anywhere"
    assert "python=3.11" in (problem.fix or "")


def test_a_python_that_nobody_can_read_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(write(tmp_path, conda_yaml=conda("a", specs=("python=three",))))
    assert problem.what == "`=three` is not a Python version"


CHOSEN = Source(file="--python")


def test_a_chosen_python_wins_over_the_models_and_that_one_is_kept(tmp_path: Path) -> None:
    asked = resolve(write(tmp_path, conda_yaml=conda("a"), python_env_yaml="python: 3.10.13"))
    spec = with_python(asked, "3.12.1", source=CHOSEN)
    assert (spec.python.value.text, spec.python.source) == ("3.12.1", CHOSEN)
    assert spec.overridden[:-1] == asked.overridden
    last = spec.overridden[-1]
    assert (last.field, last.value, last.source) == ("python", "3.9", asked.python.source)
    assert (last.by, last.reason) == (CHOSEN, "another Python was chosen for this build")
    assert (asked.python.value.text, spec.requirements) == ("3.9", asked.requirements)


@pytest.mark.parametrize("text", ["three", "3.11; rm", "3." + "1" * 300, "", "*"])
def test_a_chosen_python_that_nobody_can_read_is_refused_at_its_option(tmp_path: Path, text: str) -> None:
    asked = resolve(write(tmp_path, conda_yaml=conda("a")))
    with pytest.raises(InvalidFileError) as caught:
        with_python(asked, text, source=CHOSEN)
    (problem,) = caught.value.problems
    assert str(problem.where) == "--python"
    assert problem.fix


def test_a_chosen_python_changes_the_digest_and_its_place_does_not(tmp_path: Path) -> None:
    asked = resolve(write(tmp_path, conda_yaml=conda("a")))
    spec = with_python(asked, "3.12", source=CHOSEN)
    assert spec.digest != asked.digest
    assert spec.digest == with_python(asked, "3.12", source=Source(file="elsewhere")).digest
    assert spec.digest == resolve(write(tmp_path, conda_yaml=conda("a", specs=("python=3.12",)))).digest
    assert with_python(asked, "3.9", source=CHOSEN).digest == asked.digest


def test_condas_pip_list_wins_over_requirements_txt(tmp_path: Path) -> None:
    spec = resolve(
        write(
            tmp_path,
            conda_yaml=conda("numpy==1", "six", "-c constraints.txt"),
            constraints_txt="urllib3<3",
            python_env_yaml="dependencies: [-r requirements.txt]",
            requirements_txt="numpy == 2\nsix\nscipy\nbad line\n-c other.txt",
            other_txt="urllib3<2\nidna<4",
        )
    )
    assert spec.requirement_lines() == ("numpy==1", "six")
    assert spec.constraint_lines() == ("urllib3<3",)
    assert [one for one in lost(spec) if one[0] != "python"] == [
        ("requirements", "numpy==2", "requirements.txt: line 1"),
        ("requirements", "scipy", "requirements.txt: line 3"),
        ("constraints", "urllib3<2", "other.txt: line 1"),
        ("constraints", "idna<4", "other.txt: line 2"),
        (
            "requirements",
            "`bad line` is not a requirement: Expected semicolon (after name with no version specifier) or end",
            "requirements.txt: line 4",
        ),
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"conda_yaml": conda(), "requirements_txt": "numpy==1"},
        {"requirements_txt": "numpy==1"},
        {"python_env_yaml": "dependencies: [-r requirements.txt]", "requirements_txt": "numpy==1"},
        {"python_env_yaml": "dependencies: [numpy==1]"},
    ],
    ids=["no pip list", "alone", "through python_env.yaml", "in python_env.yaml"],
)
def test_without_a_pip_list_the_next_list_counts(tmp_path: Path, files: dict[str, str]) -> None:
    assert resolve(write(tmp_path, **files)).requirement_lines() == ("numpy==1",)


def test_an_empty_list_of_requirements_is_a_list(tmp_path: Path) -> None:
    assert resolve(write(tmp_path, requirements_txt="")).requirements == ()


def test_conda_packages_alone_are_enough(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path, conda_yaml=conda(specs=("python=3.9", "openblas", "pip", "wheel"))))
    assert [one.name for one in spec.match_specs] == ["openblas"]
    assert spec.needs_conda
    assert [channel.value for channel in spec.channels] == ["conda-forge"]


def test_a_model_that_asks_for_nothing_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(write(tmp_path))
    assert problem.what == "nothing says which packages the model needs"
    assert str(problem.where) == f"{tmp_path}/MLmodel: flavors.python_function.env"


def test_a_named_file_that_is_missing_is_reported(tmp_path: Path) -> None:
    flavor = "flavors: {python_function: {loader_module: m, python_version: 3.9, env: conda.yaml}}"
    (problem,) = refused(write(tmp_path, MLmodel=flavor))
    assert problem.what == "`conda.yaml` does not exist, and nothing else says which packages the model needs"
    spec = resolve(write(tmp_path, MLmodel=flavor, requirements_txt="six"))
    assert lost(spec) == [("env", "conda.yaml", "MLmodel: flavors.python_function.env")]


def test_options_are_kept_with_the_reason_why_they_do_nothing(tmp_path: Path) -> None:
    spec = resolve(
        write(tmp_path, conda_yaml=conda("six", "--extra-index-url https://u:s3cret@h/simple", "--pre", "# note", ""))
    )
    assert [(one.name, one.value, one.reason) for one in spec.options] == [
        ("--extra-index-url", "https://***@h/simple", "not used unless the workspace allows this place"),
        ("--pre", "", "not used: a pre-release is taken only where a requirement names one"),
    ]
    assert "s3cret" not in spec.to_text() + str(spec.to_dict())


def test_everything_that_is_refused_is_reported_at_once(tmp_path: Path) -> None:
    problems = refused(
        write(
            tmp_path,
            conda_yaml=conda(
                "six @ git+https://u:s3cret@h/six@1",
                "-e .",
                "wheels/a.whl",
                "https://h/a.whl",
                "git+https://h/a",
                "bad line",
                "-r ../x.txt",
                "-r gone.txt",
                "-r loop.txt",
            ),
            loop_txt="-r loop.txt",
        )
    )
    assert [problem.what for problem in problems] == [
        "`six @ git+https://***@h/six@1` is fetched from a URL, not from an index",
        "`--editable .` is not accepted",
        "`wheels/a.whl` is a path, which packages are not installed from",
        "`https://h/a.whl` is a url, not a package's name",
        "`git+https://h/a` is a repository, not a package's name",
        "`bad line` is not a requirement: Expected semicolon (after name with no version specifier) or end",
        "`--requirement ../x.txt` leads out of the model directory",
        "`--requirement gone.txt`: there is no such file in the model directory",
        "`--requirement loop.txt` includes itself, or too many files in a row",
    ]
    assert problems[0].where is not None
    assert problems[0].where.key == "dependencies[1].pip[0]"


def test_included_lines_are_constraints_where_a_constraint_includes_them(tmp_path: Path) -> None:
    spec = resolve(
        write(
            tmp_path,
            requirements_txt="-r sub/a.txt",
            sub__a_txt="numpy\n-c b.txt",
            sub__b_txt="-r c.txt",
            sub__c_txt="six<2",
        )
    )
    assert spec.requirement_lines() == ("numpy",)
    assert spec.constraint_lines() == ("six<2",)


@pytest.mark.parametrize(
    ("specs", "build", "expected", "losers"),
    [
        (("pip<=23.2.1",), ["pip==23.2.1", "setuptools==65.5.0", "wheel"],
         ["pip<=23.2.1", "setuptools==65.5.0", "wheel"], []),
        (("pip",), ["pip==23.2.1"], ["pip==23.2.1"], []),
        (("pip=22",), ["pip==23.2.1"], ["pip==22.*"], ["pip==23.2.1"]),
        (("pip=22.*",), ["pip==22.*"], ["pip==22.*"], []),
        (("pip=22.*",), ["pip"], ["pip==22.*"], []),
        (("pip==22.1",), ["pip>=22"], ["pip==22.1"], ["pip>=22"]),
        (("setuptools 58.0.4",), [], ["setuptools==58.0.4.*"], []),
        (("wheel>=0.30,<0.40",), [], ["wheel<0.40,>=0.30"], []),
    ],
)  # fmt: skip
def test_build_requirements_come_from_conda_where_it_has_a_version(
    tmp_path: Path, specs: tuple[str, ...], build: list[str], expected: list[str], losers: list[str]
) -> None:
    model = write(
        tmp_path,
        conda_yaml=conda("a", specs=("python=3.11", *specs)),
        python_env_yaml=f"build_dependencies: {build}",
    )
    spec = resolve(model)
    assert [one.text for one in spec.build_requirements] == expected
    assert [one.value for one in spec.overridden if one.field == "build_requirements"] == losers
    assert not spec.needs_conda


def test_build_requirements_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    problems = refused(
        write(
            tmp_path,
            conda_yaml=conda("a", specs=("python=3.11", "pip=22|23")),
            python_env_yaml="build_dependencies: [-e ., '# note']",
        )
    )
    assert [problem.what for problem in problems] == [
        "`pip=22|23` cannot be asked of pip's packages",
        "`--editable .` is not accepted",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(REQUIREMENTS, max_size=5))
def test_every_pip_line_ends_up_as_a_requirement(tmp_path: Path, lines: list[str]) -> None:
    spec = resolve(write(tmp_path, conda_yaml=conda("six", *lines)))
    assert len(spec.requirements) == len(lines) + 1
    assert resolve(write(tmp_path, conda_yaml=conda(*lines, "six"))).digest == spec.digest
