from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from envbuilder import model as model_module
from envbuilder.errors import EnvBuilderError, InvalidFileError, ModelError
from envbuilder.model import Model

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
    assert [file.path for file in model.files] == [
        "MLmodel",
        "code/a.py",
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
    ]
    assert model.files[1].size == 5
    assert model.files[1].digest == "sha256:8ff436def1451285599a1b1ad70800493b8dcafde2912e1a38345633054e4c26"
    assert model.conda is not None
    assert model.python_env is not None
    assert model.requirements is not None
    assert model.conda.source.file == str(tmp_path / "conda.yaml")


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    one, other = Model.read(write(tmp_path / "a")), Model.read(write(tmp_path / "b"))
    assert one.digest == other.digest
    changed = Model.read(write(tmp_path / "b", model_pkl=b"\0"))
    assert changed.digest != one.digest


def test_a_missing_path_says_what_to_give(tmp_path: Path) -> None:
    error = refused(tmp_path / "gone")
    assert str(error) == (
        f"no such model: No such file or directory\n  at {tmp_path / 'gone'}\n"
        "  fix: give a model directory or the path of its MLmodel file"
    )
    assert "no such model: not a path" in str(refused(Path("a\0b")))


@pytest.mark.parametrize("uri", ["runs:/abc/model", "models:/iris/1", "mlflow-artifacts:/x"])
def test_a_uri_is_told_apart_from_a_missing_path(uri: str) -> None:
    assert "download the model with `mlflow artifacts download`" in str(refused(Path(uri)))


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


def test_links_are_followed_inside_the_model_only(tmp_path: Path) -> None:
    write(tmp_path / "m", data__x_txt="x")
    (tmp_path / "m" / "link.txt").symlink_to("data/x.txt")
    (tmp_path / "m" / "more").symlink_to("data")
    paths = [file.path for file in Model.read(tmp_path / "m").files]
    assert paths == ["MLmodel", "conda.yaml", "data/x.txt", "link.txt", "more/x.txt"]
    (tmp_path / "seen_through").symlink_to("m")
    assert Model.read(tmp_path / "seen_through").digest == Model.read(tmp_path / "m").digest


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("/etc/passwd", "a link that leaves the model directory"),
        ("../outside", "a link that leaves the model directory"),
        ("nothing", "a link to nothing"),
        ("link", "a link to nothing"),
        (".", "a link that leads back into itself"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, what: str) -> None:
    (tmp_path / "outside").mkdir()
    write(tmp_path / "m")
    (tmp_path / "m" / "link").symlink_to(target)
    error = refused(tmp_path / "m")
    assert what in str(error)
    assert str(error.problems[0].where) == str(tmp_path / "m" / "link")


def test_special_files_and_unprintable_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a" / "s"))
        assert "neither a file nor a directory" in str(refused(tmp_path / "a"))
    write(tmp_path / "b")
    (tmp_path / "b" / "x\ny").touch()
    assert "a file name that is not plain UTF-8 text" in str(refused(tmp_path / "b"))


def test_links_that_multiply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "MAX_FILES", 50)
    write(tmp_path)
    for level in range(8):
        (tmp_path / f"d{level}").mkdir()
        for name in "ab":
            (tmp_path / f"d{level}" / name).symlink_to(f"../d{level + 1}" if level < 7 else "../MLmodel")
    assert "more than 50 files, links followed" in str(refused(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:  # pragma: no cover
    write(tmp_path)
    (tmp_path / "conda.yaml").chmod(0)
    assert "cannot be read" in str(refused(tmp_path))


def test_problems_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path, conda_yaml="dependencies: x", python_env_yaml="python: [x]", requirements_txt=b"\xff")
    with pytest.raises(InvalidFileError) as caught:
        Model.read(tmp_path)
    assert [str(problem.where).removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        "conda.yaml: dependencies",
        "python_env.yaml: python",
        "requirements.txt",
    ]


@pytest.mark.parametrize("env", ["../conda.yaml", "/etc/passwd", "a/../../x", ".", '"a\\nb"'])
def test_an_environment_outside_the_model_is_refused(tmp_path: Path, env: str) -> None:
    write(tmp_path, MLmodel=f"flavors: {{python_function: {{loader_module: m, env: {env}}}}}")
    with pytest.raises(InvalidFileError, match="leads out of the model directory"):
        Model.read(tmp_path)


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


def test_an_included_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, conda_yaml="dependencies:\n- pip:\n  - -r a.txt", a_txt=b"\xff")
    with pytest.raises(InvalidFileError, match="not UTF-8"):
        Model.read(tmp_path)


def example(tmp_path: Path, *, info: dict[str, object] | None = None, **files: str) -> tuple[object, str]:
    mlmodel = MLMODEL + (f"saved_input_example_info: {json.dumps(info)}\n" if info else "") + files.pop("extra", "")
    model = Model.read(write(tmp_path, MLmodel=mlmodel, **files))
    return (json.loads(model.example_request) if model.example_request else None), model.example_reason


INFO = {"artifact_path": "input_example.json"}


@pytest.mark.parametrize(
    ("info", "content", "expected"),
    [
        ({"type": "dataframe", "pandas_orient": "split"}, {"columns": ["a"], "data": [[1]]},
         {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "values"}, [[1]], {"dataframe_split": {"data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "values"}, {"data": [[1]]}, {"dataframe_split": {"data": [[1]]}}),
        ({"type": "dataframe", "pandas_orient": "records"}, [{"a": 1}], {"dataframe_records": [{"a": 1}]}),
        ({"type": "dataframe"}, [{"a": 1}], {"dataframe_records": [{"a": 1}]}),
        ({"type": "dataframe", "pandas_orient": "split", "params": "true"},
         {"data": {"data": [[1]]}, "params": {"t": 1}}, {"dataframe_split": {"data": [[1]]}, "params": {"t": 1}}),
        ({"type": "ndarray", "format": "tf-serving"}, {"inputs": [[1]]}, {"inputs": [[1]]}),
        ({"type": "ndarray"}, [[1]], {"inputs": [[1]]}),
        ({"type": "ndarray"}, {"a": [1]}, {"inputs": {"a": [1]}}),
        ({"type": "json_object"}, "hello", {"inputs": "hello"}),
        ({"type": "json_object"}, {"messages": []}, {"messages": []}),
        ({"type": "json_object", "params": True}, {"data": {"prompt": "x"}, "params": {"n": 1}},
         {"prompt": "x", "n": 1}),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_saved_input_example_becomes_a_request(
    tmp_path: Path, info: dict[str, object], content: object, expected: object
) -> None:
    found, reason = example(tmp_path, info={**INFO, **info}, input_example_json=json.dumps(content))
    assert (found, reason) == (expected, "`input_example.json`, converted")


def test_a_serving_example_is_taken_first(tmp_path: Path) -> None:
    info: dict[str, object] = {**INFO, "type": "dataframe", "serving_input_path": "mine.json"}
    found, reason = example(tmp_path, info=info, mine_json='{"inputs": [NaN, 1]}')
    assert (found, reason) == ({"inputs": [None, 1]}, "`mine.json`")
    found, reason = example(tmp_path / "b", serving_input_payload_json='{"inputs": [2]}')
    assert (found, reason) == ({"inputs": [2]}, "`serving_input_payload.json`")


SIGNATURES = [
    (
        [
            {"type": "double", "name": "a"},
            {"type": "string", "name": "b"},
            {"type": "long", "name": "c", "required": False},
        ],
        {"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, "a"]]}},
    ),
    ([{"type": "boolean"}, {"type": "datetime"}], {"dataframe_split": {"data": [[False, "2020-01-01T00:00:00"]]}}),
    (
        [
            {"type": "array", "name": "l", "items": {"type": "integer"}},
            {"type": "map", "name": "m", "values": {"type": "any"}},
            {
                "type": "object",
                "name": "o",
                "properties": {"x": {"type": "float", "required": True}, "y": {"type": "float", "required": False}},
            },
        ],
        {"dataframe_split": {"columns": ["l", "m", "o"], "data": [[[0], {"a": "a"}, {"x": 0.0}]]}},
    ),
    ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}], {"inputs": [[0.0, 0.0]]}),
    (
        [
            {"type": "tensor", "name": name, "tensor-spec": {"dtype": name, "shape": [-1]}}
            for name in ("int64", "uint8", "bool", "datetime64[ns]", "str")
        ],
        {
            "inputs": {
                "int64": [0],
                "uint8": [0],
                "bool": [False],
                "datetime64[ns]": ["2020-01-01T00:00:00"],
                "str": ["a"],
            }
        },
    ),
]


@pytest.mark.parametrize(("entries", "expected"), SIGNATURES, ids=["named", "unnamed", "nested", "tensor", "tensors"])
def test_without_an_example_the_signature_makes_one(tmp_path: Path, entries: object, expected: object) -> None:
    extra = f"signature: {json.dumps({'inputs': json.dumps(entries)})}\n"
    assert example(tmp_path, extra=extra) == (expected, "made from the signature")


def test_a_signature_from_a_type_hint_takes_inputs(tmp_path: Path) -> None:
    extra = 'is_signature_from_type_hint: true\nsignature: {inputs: \'[{"type": "string"}]\'}\n'
    assert example(tmp_path, extra=extra)[0] == {"inputs": ["a"]}


@pytest.mark.parametrize(
    ("info", "content", "reason"),
    [
        ({"type": "sparse_matrix_csr"}, "{}", "`input_example.json` is of type `sparse_matrix_csr`"),
        ({"type": "dataframe"}, "{", "`input_example.json` is not JSON"),
        ({"type": "dataframe"}, "[" * 100_000, "`input_example.json` is not JSON"),
        ({"type": "dataframe"}, '{"data": [[1e999]]}', "the example holds values that JSON cannot carry"),
        ({"type": "dataframe"}, "[" + " " * 10 * 1024 * 1024 + "]", "`input_example.json` is larger than 10 MiB"),
        ({"type": "dataframe"}, None, "`input_example.json` does not exist"),
    ],
    ids=["sparse", "broken", "deep", "infinite", "large", "missing"],
)
def test_an_unusable_example_is_named_in_the_reason(
    tmp_path: Path, info: dict[str, object], content: str | None, reason: str
) -> None:
    files = {"input_example_json": content} if content is not None else {}
    found, why = example(tmp_path, info={**INFO, **info}, **files)
    assert found is None
    assert reason in why
    assert why.endswith("there is no input example, and no signature to make one from")


def test_a_broken_serving_example_falls_back(tmp_path: Path) -> None:
    found, reason = example(
        tmp_path, serving_input_example_json="{", extra='signature: {inputs: \'[{"type": "long"}]\'}\n'
    )
    assert found == {"dataframe_split": {"data": [[0]]}}
    assert reason == "`serving_input_example.json` is not JSON; made from the signature"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "quaternion"}, "no example value is known for the type `quaternion`"),
        ({"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [9999, 9999]}}, "too large to make up"),
        ({"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [1] * 40}}, "too large to make up"),
    ],
    ids=["unknown type", "many elements", "many dimensions"],
)
def test_a_signature_that_gives_no_example_says_why(tmp_path: Path, entry: object, reason: str) -> None:
    found, why = example(tmp_path, extra=f"signature: {json.dumps({'inputs': json.dumps([entry])})}\n")
    assert found is None
    assert reason in why


def test_every_failure_has_its_own_class(tmp_path: Path) -> None:
    with pytest.raises(EnvBuilderError) as caught:
        Model.read(tmp_path)
    assert caught.value.exit_code == 9
