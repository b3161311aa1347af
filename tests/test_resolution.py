from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envbuilder import digest
from envbuilder.environment_spec import Overridden
from envbuilder.environment_yaml import Environment
from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.fields import Stated
from envbuilder.model import Model
from envbuilder.override import Override
from envbuilder.resolution import own_python, resolve, with_python
from tests.strategies import REQUIREMENTS

if TYPE_CHECKING:
    from envbuilder.environment_spec import Entry, EnvironmentSpec

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


def refused(model: Model, given: Override | None = None) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFileError) as caught:
        resolve(model, given)
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
    assert [(one.name, one.value, one.reason) for one in spec.unused] == [
        (
            "--extra-index-url",
            "https://***@h/simple",
            "not used: the workspace does not list this place in `allowed_indexes` of envbuilder.yaml",
        ),
        ("--pre", "", "not used: a pre-release is taken only where a requirement names one"),
    ]
    assert "s3cret" not in spec.to_text() + str(spec.to_dict()) + repr(spec)


def test_an_index_that_the_workspace_lists_is_used_with_its_credentials(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("six", "--extra-index-url https://u:s3cret@H/simple/"))
    spec = resolve(model, allowed_indexes=("https://h/simple",))
    (index,) = spec.indexes
    assert (index.kind, index.url, index.address) == (
        "extra_index_url",
        "https://***@H/simple/",
        "https://u:s3cret@H/simple/",
    )
    assert spec.unused == ()
    assert "s3cret" not in spec.to_text() + str(spec.to_dict()) + repr(spec)
    assert spec.digest != resolve(model).digest


def test_the_models_variables_are_set_but_for_the_images_own(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path, conda_yaml=conda("six") + "\nvariables: {OMP_NUM_THREADS: 4, PATH: /x, LD_X: y}"))
    assert [(one.name, one.value) for one in spec.variables] == [("OMP_NUM_THREADS", "4")]
    assert [(one.name, one.value, one.reason) for one in spec.unused] == [
        ("variables", "PATH", "not used: the image itself sets it"),
        ("variables", "LD_X", "not used: the image itself sets it"),
    ]


def test_the_models_base_image_is_asked_for(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path, MLmodel=f"{FLAVOR}\nmetadata: {{azureml.base_image: b:1}}", requirements_txt="six"))
    assert spec.base is not None
    assert (spec.base.image, spec.base.source.key) == ("b:1", "metadata.azureml.base_image")


def test_places_are_requirements_and_a_wheel_counts_by_its_content(tmp_path: Path) -> None:
    model = write(
        tmp_path,
        conda_yaml=conda("-e git+https://h/r@v1#egg=x", "https://h/y-1.tar.gz", "wheels/z-1-py3-none-any.whl"),
        **{"wheels/z-1-py3-none-any.whl": "one"},
    )
    spec = resolve(model)
    assert spec.requirement_lines() == (
        "x @ git+https://h/r@v1",
        "y @ https://h/y-1.tar.gz",
        f"z @ ./wheels/z-1-py3-none-any.whl --hash={digest.of_bytes(b'one')}",
    )
    assert [(one.name, one.value) for one in spec.unused] == [("--editable", "git+https://h/r@v1#egg=x")]
    (tmp_path / "wheels/z-1-py3-none-any.whl").write_text("other")
    assert resolve(Model.read(tmp_path)).digest != spec.digest


def test_versions_beside_the_flavors_lose_against_the_pins(tmp_path: Path) -> None:
    mlmodel = FLAVOR.replace("}}", "}, sklearn: {sklearn_version: 1.2.0, pickled_model: m}}")
    spec = resolve(write(tmp_path, MLmodel=mlmodel, requirements_txt="scikit-learn==1.3"))
    (one,) = spec.overridden
    assert (one.field, one.value, one.source.key) == (
        "flavor",
        "scikit-learn 1.2.0",
        "flavors.sklearn.sklearn_version",
    )
    assert one.reason == "`scikit-learn==1.3` is asked for"
    assert one.by == spec.requirements[0].source


CHOICE = Source(file="--environment")


def override(text: str, **more: tuple[Overridden, ...]) -> Override:
    environment = Environment.parse(text, file="slim.yaml")
    return Override(environment=environment, reference=environment.reference, source=CHOICE, **more)


REPLACEMENT = """
image: python:3.12-slim
conda_file:
  channels: [conda-forge]
  dependencies: [python=3.12, {pip: ["numpy==2", "--extra-index-url https://u:s3cret@h/simple"]}]
  variables: {OMP_NUM_THREADS: 1}
inference_config:
  liveness_route: {port: 5001, path: /}
  readiness_route: {port: 5001, path: /}
  scoring_route: {port: 5001, path: /score}
"""


def test_a_replacement_takes_the_place_of_everything_and_the_models_values_are_kept(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("numpy==1", "six", "--pre", "-r gone.txt", specs=("python=3.9", "mkl")))
    spec = resolve(model, override(REPLACEMENT))
    assert (spec.python.value.text, spec.requirement_lines()) == ("3.12", ("numpy==2",))
    assert spec.environment == Stated(value="slim.yaml", source=CHOICE)
    assert spec.base is not None
    assert (spec.base.text, [one.text for one in spec.routes][2]) == ("python:3.12-slim", "scoring :5001/score")
    assert [one.name for one in spec.variables] == ["OMP_NUM_THREADS"]
    # The workspace's own indexes need no leave.
    assert [one.address for one in spec.indexes] == ["https://u:s3cret@h/simple"]
    assert lost(spec) == [
        ("python", "3.9", "conda.yaml: dependencies[0]"),
        ("python", "3.11.7", "MLmodel: flavors.python_function.python_version"),
        ("channels", "conda-forge", "conda.yaml: channels[0]"),
        ("match_specs", "mkl", "conda.yaml: dependencies[1]"),
        ("requirements", "numpy==1", "conda.yaml: dependencies[2].pip[0]"),
        ("requirements", "six", "conda.yaml: dependencies[2].pip[1]"),
        (
            "requirements",
            "`--requirement gone.txt`: there is no such file in the model directory",
            "conda.yaml: dependencies[2].pip[3]",
        ),
    ]
    assert {one.reason for one in spec.overridden[2:]} == {"the environment `slim.yaml` replaces the model's"}
    by = {one.value: one.by for one in spec.overridden}
    assert (by["numpy==1"], by["six"]) == (spec.requirements[0].source, CHOICE)


def test_a_replacement_leaves_python_to_the_model_where_it_names_none(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("numpy==1"))
    spec = resolve(model, override("image: b:1"))
    assert (spec.python.value.text, spec.python.source.file) == ("3.9", str(tmp_path / "conda.yaml"))
    assert spec.requirements == ()


def test_what_is_replaced_need_not_be_readable(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml="dependencies: x")
    spec = resolve(model, override(REPLACEMENT))
    assert ("requirements", "expected a list, got text", "conda.yaml: dependencies") in lost(spec)
    with pytest.raises(InvalidFileError, match="expected a list, got text"):
        resolve(model)
    with pytest.raises(InvalidFileError, match="expected a list, got text"):
        resolve(model, override("amend: {pip: {add: [six]}}"))


def test_the_same_problem_of_two_lists_is_told_once(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("a b"), requirements_txt="a b\nc d")
    spec = resolve(model, override(REPLACEMENT))
    found = [(one.value[:5], Path(one.source.file).name) for one in spec.overridden if one.field == "requirements"]
    assert found == [("`a b`", "conda.yaml")]


def test_a_replacement_serves_a_model_that_says_nothing(tmp_path: Path) -> None:
    model = write(tmp_path, MLmodel="flavors: {python_function: {loader_module: m}}")
    assert resolve(model, override(REPLACEMENT)).python.value.text == "3.12"
    (problem,) = refused(model, override("image: b:1"))
    assert problem.what == "no Python version is stated anywhere"


def test_a_replacement_that_is_wrong_is_refused_at_its_own_lines(tmp_path: Path) -> None:
    pip = "[a b, ./x-1-py3-none-any.whl, -r r.txt]"
    text = f"conda_file: {{dependencies: [python=3.12, {{pip: {pip}}}]}}"
    problems = refused(write(tmp_path, conda_yaml=conda("six")), override(text))
    assert [(problem.what, str(problem.where)) for problem in problems[1:]] == [
        (
            "`x-1-py3-none-any.whl`: there is no such wheel beside it",
            "slim.yaml: conda_file.dependencies[1].pip[1]",
        ),
        (
            "`--requirement r.txt`: there is no such file beside it",
            "slim.yaml: conda_file.dependencies[1].pip[2]",
        ),
    ]


def test_an_amendment_keeps_the_models_environment(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("numpy==1", "six"))
    rule = Overridden(field="environment", value="other:1", source=Source(file="w"), reason="chosen", by=CHOICE)
    spec = resolve(model, override("name: up\nversion: 2\namend: {pip: {bump: [numpy==2]}}", overridden=(rule,)))
    assert spec.requirement_lines() == ("numpy==2", "six")
    assert spec.environment == Stated(value="up:2", source=CHOICE)
    assert spec.overridden[-1] == rule
    assert [one.value for one in spec.replaced_by(entry_of(spec, "numpy"))] == ["numpy==1"]


def entry_of(spec: EnvironmentSpec, name: str) -> Entry:
    return next(one for one in spec.entries() if one.name == name)


def test_the_models_own_python_is_known_without_a_spec(tmp_path: Path) -> None:
    found = own_python(write(tmp_path, conda_yaml=conda("bad line")))
    assert found is not None
    assert found.text == "3.9"
    assert own_python(write(tmp_path, conda_yaml=conda(specs=("python=three",)))) is None
    nothing = write(tmp_path, MLmodel="flavors: {python_function: {loader_module: m}}", conda_yaml=conda(specs=()))
    assert own_python(nothing) is None


@pytest.mark.parametrize(
    "text",
    [None, "amend: {}", "amend: {pip: {add: [extra]}}", REPLACEMENT],
    ids=["none", "empty", "amendment", "replacement"],
)
def test_the_same_question_has_the_same_answer(tmp_path: Path, text: str | None) -> None:
    write(tmp_path, conda_yaml=conda("numpy==1", "-r r.txt"), r_txt="six")
    given = override(text) if text is not None else None
    one, other = (resolve(Model.read(tmp_path), given) for _ in range(2))
    assert one == other
    assert (one.digest == resolve(Model.read(tmp_path)).digest) is (text in {None, "amend: {}"})


def test_everything_that_is_refused_is_reported_at_once(tmp_path: Path) -> None:
    problems = refused(
        write(
            tmp_path,
            conda_yaml=conda(
                "-e .",
                "wheels/a.whl",
                "https://h/a.whl",
                "git+https://u:s3cret@h/a",
                "bad line",
                "-r ../x.txt",
                "-r gone.txt",
                "-r loop.txt",
            ),
            loop_txt="-r loop.txt",
        )
    )
    assert [problem.what for problem in problems] == [
        "`.` is a path of something that is not a wheel",
        "`wheels/a.whl` does not say which package is there",
        "`https://h/a.whl` does not say which package is there",
        "`git+https://***@h/a` does not say which package is there",
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
            python_env_yaml="build_dependencies: [-e ., '# note', 'x @ https://h/x.whl']",
        )
    )
    assert [problem.what for problem in problems] == [
        "`pip=22|23` cannot be asked of pip's packages",
        "`-e .` cannot be asked of what builds packages",
        "`.` is a path of something that is not a wheel",
        "`x @ https://h/x.whl` cannot be asked of what builds packages",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(REQUIREMENTS, max_size=5))
def test_every_pip_line_ends_up_as_a_requirement(tmp_path: Path, lines: list[str]) -> None:
    spec = resolve(write(tmp_path, conda_yaml=conda("six", *lines)))
    assert len(spec.requirements) == len(lines) + 1
    assert resolve(write(tmp_path, conda_yaml=conda(*lines, "six"))).digest == spec.digest


def test_a_folder_of_this_machine_is_no_channel_of_a_model(tmp_path: Path) -> None:
    text = "channels: ['FILE:///srv', conda-forge]\ndependencies: [python=3.9, '~/c::openblas', 'conda-forge::mkl']\n"
    problems = refused(write(tmp_path, conda_yaml=text))
    assert [problem.what for problem in problems] == [
        "the channel `FILE:///srv` is a folder of the machine that builds",
        "the channel `~/c` is a folder of the machine that builds",
    ]


def test_what_conda_yaml_asks_of_python_and_pip_is_kept_for_conda(tmp_path: Path) -> None:
    model = write(tmp_path, conda_yaml=conda("a", specs=("python=3.9=h1_0", "pip", "openblas")))
    spec = resolve(model)
    assert [one.text for one in spec.tool_match_specs] == ["python=3.9=h1_0", "pip"]
    other = replace(spec, tool_match_specs=())
    assert (spec.packages_digest == other.packages_digest, spec.needs_conda) == (False, True)
    plain = replace(spec, match_specs=())
    assert plain.packages_digest == replace(plain, tool_match_specs=()).packages_digest
