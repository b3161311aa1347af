from __future__ import annotations

import os
from pathlib import Path

import pytest

from envbuilder import digest
from envbuilder.errors import EnvBuilderError, InvalidFileError, ModelError
from envbuilder.model import Model
from envbuilder.resolution import resolve
from tests.conftest import as_nobody

MLMODEL = """
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    python_version: 3.11.7
"""
CONDA = "channels: [conda-forge]\ndependencies:\n- python=3.11.7\n- pip:\n  - numpy==1\n"


def write(directory: Path, **files: str | bytes) -> Path:
    """Write a model: `a__b_txt` is the file `a/b.txt`."""
    for name, content in {"MLmodel": MLMODEL, "conda_yaml": CONDA, **files}.items():
        stem, _, suffix = name.rpartition("_") if "_" in name else (name, "", "")
        path = directory / (f"{stem.replace('__', '/')}.{suffix}" if suffix else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        Model.read(path)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    return caught.value


def test_a_directory_and_its_mlmodel_file_are_the_same_model(tmp_path: Path) -> None:
    write(tmp_path, python_env_yaml="python: 3.11.7", requirements_txt="numpy==1", code__a_py="x = 1")
    model = Model.read(tmp_path)
    assert model == Model.read(tmp_path / "MLmodel")
    assert (model.name, Model.read(tmp_path, name="iris").name) == (tmp_path.name, "iris")
    assert (model.problems, model.wheels) == ((), ())
    assert model.conda is not None
    assert model.python_env is not None
    assert model.requirements is not None
    assert model.conda.source.file == str(tmp_path / "conda.yaml")


def test_a_missing_path_says_what_to_give(tmp_path: Path) -> None:
    error = refused(tmp_path / "gone")
    assert str(error) == (
        f"no such model: No such file or directory\n  at {tmp_path / 'gone'}\n"
        "  fix: give a model directory or the path of its MLmodel file"
    )
    assert "no such model: not a path" in str(refused(Path("a\0b")))


def test_spaces_around_a_path_are_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    assert "remove the spaces around `m`" in str(refused(Path("m ")))


def test_a_path_with_a_colon_and_a_space_is_read(tmp_path: Path) -> None:
    assert Model.read(write(tmp_path / "a: b")).conda is not None


def test_places_without_a_model_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    assert "this file is no `MLmodel`" in str(refused(tmp_path / "file.txt"))
    assert "give the directory that MLflow saved" in str(refused(tmp_path))
    (tmp_path / "empty").mkdir()
    assert "the directory is empty" in str(refused(tmp_path / "empty"))
    os.mkfifo(tmp_path / "pipe")
    assert "neither a directory nor a file" in str(refused(tmp_path / "pipe"))


def test_models_below_are_named(tmp_path: Path) -> None:
    write(tmp_path / "artifacts" / "model")
    write(tmp_path / "artifacts" / "metadata")
    assert f"there is one model below; give `{tmp_path}/artifacts/model`" in str(refused(tmp_path))
    write(tmp_path / "other")
    assert "there are 2 models below" in str(refused(tmp_path))


def test_a_file_that_is_no_mlmodel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="broken YAML"):
        Model.read(write(tmp_path, MLmodel="import os\nx: [\n"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "conda.yaml").chmod(0)
    with as_nobody(tmp_path):
        assert "cannot be read: Permission denied" in str(refused(tmp_path))


def test_problems_of_environment_files_are_kept_for_who_needs_them(tmp_path: Path) -> None:
    write(tmp_path, conda_yaml="dependencies: x", python_env_yaml="python: [x]", requirements_txt=b"\xff")
    model = Model.read(tmp_path)
    assert [str(problem.where).removeprefix(f"{tmp_path}/") for problem in model.problems] == [
        "conda.yaml: dependencies",
        "python_env.yaml: python",
        "requirements.txt",
    ]
    assert (model.conda, model.python_env, model.requirements) == (None, None, None)
    with pytest.raises(InvalidFileError) as caught:
        resolve(model)
    assert caught.value.problems[:3] == model.problems


@pytest.mark.parametrize("env", ["../conda.yaml", "/etc/passwd", "a/../../x", ".", '"a\\nb"'])
def test_an_environment_outside_the_model_is_refused(tmp_path: Path, env: str) -> None:
    write(tmp_path, MLmodel=f"flavors: {{python_function: {{loader_module: m, env: {env}}}}}")
    (problem,) = Model.read(tmp_path).problems
    assert "leads out of the model directory" in problem.what
    assert problem.fix


@pytest.mark.parametrize("key", ["data", "code"])
@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x"])
def test_a_path_outside_the_model_is_refused(tmp_path: Path, key: str, path: str) -> None:
    write(tmp_path, MLmodel=f"flavors: {{python_function: {{loader_module: m, {key}: {path}}}}}")
    with pytest.raises(InvalidFileError, match="leads out of the model directory") as caught:
        Model.read(tmp_path)
    assert str(caught.value.problems[0].where) == f"{tmp_path}/MLmodel: flavors.python_function.{key}"


def test_wheels_that_are_named_are_read_with_their_digest(tmp_path: Path) -> None:
    name = "a-1-py3-none-any.whl"
    write(tmp_path, conda_yaml="dependencies:\n- pip: [-r r.txt, ./gone-1-py3-none-any.whl]", r_txt=f"wheels/{name}")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / name).write_bytes(b"wheel")
    (tmp_path / "wheels" / "other-1-py3-none-any.whl").touch()
    (wheel,) = Model.read(tmp_path).wheels
    assert (wheel.path, wheel.size, wheel.digest) == (f"wheels/{name}", 5, digest.of_bytes(b"wheel"))


def test_named_files_that_are_missing_are_kept_as_missing(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="numpy")
    (tmp_path / "conda.yaml").unlink()
    model = Model.read(tmp_path)
    assert [one.value for one in model.missing] == ["conda.yaml", "python_env.yaml"]
    assert model.conda is None


def test_included_files_are_read_with_what_they_include(tmp_path: Path) -> None:
    write(
        tmp_path,
        conda_yaml="dependencies:\n- pip:\n  - -r sub/a.txt\n  - -c constraints.txt\n  - -r ../x.txt\n  - -r gone.txt",
        sub__a_txt="-r b.txt\nnumpy\n--pre\n",
        sub__b_txt="-r a.txt\nscipy",
        constraints_txt="urllib3<3",
        python_env_yaml="dependencies: [-r requirements.txt]",
        requirements_txt="six",
    )
    assert [one.path for one in Model.read(tmp_path).included] == [
        "constraints.txt",
        "requirements.txt",
        "sub/a.txt",
        "sub/b.txt",
    ]


def test_an_included_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, conda_yaml="dependencies:\n- pip:\n  - -r a.txt", a_txt=b"\xff")
    assert [problem.what[:9] for problem in Model.read(tmp_path).problems] == ["not UTF-8"]


def test_no_more_than_some_files_are_included(tmp_path: Path) -> None:
    names = [f"r{number}_txt" for number in range(40)]
    lines = "".join(f"-r r{number}.txt\n" for number in range(40))
    write(tmp_path, requirements_txt=lines, **dict.fromkeys(names, ""))
    assert len(Model.read(tmp_path).included) >= 32


def test_the_saved_example_becomes_the_request(tmp_path: Path) -> None:
    info = "saved_input_example_info: {artifact_path: example.json, type: ndarray, serving_input_path: ../x.json}\n"
    model = Model.read(write(tmp_path / "a", MLmodel=MLMODEL + info, example_json="[1]"))
    assert (model.example_request, model.example_reason) == (b'{"inputs":[1]}', "`example.json`, converted")
    model = Model.read(write(tmp_path / "b", serving_input_example_json='{"inputs": [2]}'))
    assert (model.example_request, model.example_reason) == (b'{"inputs":[2]}', "`serving_input_example.json`")
    signature = 'signature: {inputs: \'[{"type": "long"}]\'}\n'
    model = Model.read(write(tmp_path / "c", MLmodel=MLMODEL + signature))
    assert (model.example_request, model.example_reason) == (
        b'{"dataframe_split":{"data":[[0]]}}',
        "made from the signature",
    )
    assert Model.read(write(tmp_path / "d")).example_request is None


def test_an_example_is_read_up_to_its_bound(tmp_path: Path) -> None:
    info = "saved_input_example_info: {artifact_path: example.json, type: ndarray}\n"
    model = Model.read(write(tmp_path, MLmodel=MLMODEL + info, example_json="[" + " " * 10 * 1024 * 1024 + "]"))
    assert model.example_request is None
    assert "`example.json` is larger than 10 MiB" in model.example_reason


def test_every_failure_has_its_own_class(tmp_path: Path) -> None:
    with pytest.raises(EnvBuilderError) as caught:
        Model.read(tmp_path)
    assert caught.value.exit_code == 9
