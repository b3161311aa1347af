from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import EXAMPLES
from tests.server.served import run_cases

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.network]

LOADER = """\
from helper import FACTOR

class Model:
    def __init__(self, path, config):
        with open(path) as stream:
            self.offset = float(stream.read())
        self.config = config

    def predict(self, data):
        return {"sum": float(data["x"].sum() * FACTOR + self.offset), "config": self.config}

def _load_pyfunc(path, model_config=None):
    return Model(path, model_config)
"""


def case(model: str, request: object, content_type: str = "application/json") -> dict[str, Any]:
    return {"model": model, "content_type": content_type, "body": json.dumps(request).encode().hex()}


def write_model(folder: Path, flavors: object, more: str = "", **files: str) -> None:
    folder.mkdir()
    (folder / "MLmodel").write_text(f"flavors: {json.dumps(flavors)}\n{more}")
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("name", ["boost", "graph", "iris", "scale", "text", "trees"])
def test_the_examples_answer_the_same_without_mlflow(name: str, bare_python: str, tmp_path: Path) -> None:
    wanted = json.loads((EXAMPLES / "expected" / f"{name}.json").read_text())
    answers = run_cases(bare_python, EXAMPLES, [case(name, one["request"]) for one in wanted], tmp_path)
    for one, (status, body) in zip(wanted, answers, strict=True):
        assert status == one["status"]
        if status == 200:
            assert body == one["body"]


def test_a_loader_module_of_ones_own_gets_its_code_data_and_configuration(bare_python: str, tmp_path: Path) -> None:
    flavor = {
        "loader_module": "own_loader",
        "code": "code",
        "data": "offset.txt",
        "config": {"a": 1, "b": 0.5},
    }
    files = {"code__own_loader_dot_py": LOADER, "code__helper_dot_py": "FACTOR = 10\n", "offset_dot_txt": "0.25"}
    write_model(tmp_path / "own", {"python_function": flavor}, **files)
    asked = [case("own", {"dataframe_records": [{"x": 1}, {"x": 2}]})]
    answers = run_cases(bare_python, tmp_path, asked, tmp_path)
    assert answers == [(200, {"predictions": {"sum": 30.25, "config": {"a": 1, "b": 0.5}}})]
    answers = run_cases(bare_python, tmp_path, asked, tmp_path, SERVING_MODEL_CONFIG='{"b": 2}')
    assert answers == [(200, {"predictions": {"sum": 30.25, "config": {"a": 1, "b": 2}}})]


@pytest.mark.parametrize(
    ("flavor", "more", "said"),
    [
        ({"loader_module": "mlflow.spark"}, "", "the model is loaded by `mlflow.spark`, and MLflow is not in its"),
        ({"loader_module": "mlflow.pyfunc.model"}, "is_signature_from_type_hint: true", "checks its input by type"),
        ({"loader_module": "mlflow.sklearn", "model_path": "MLmodel"}, "", "expected `pickle`, `cloudpickle`"),
    ],
    ids=["spark", "type hints", "unknown form"],
)  # fmt: skip
def test_what_cannot_be_loaded_without_mlflow_says_so(
    flavor: dict[str, str], more: str, said: str, bare_python: str, tmp_path: Path
) -> None:
    flavors = {"python_function": flavor, "sklearn": {"serialization_format": "own"}}
    write_model(tmp_path / "model", flavors, more)
    with pytest.raises(AssertionError, match="UnloadableError") as error:
        run_cases(bare_python, tmp_path, [case("model", {})], tmp_path)
    assert said in str(error.value)


def test_a_model_that_needs_a_class_of_mlflow_says_which(bare_python: str, tmp_path: Path) -> None:
    code = "import mlflow\nfrom mlflow.tracking import MlflowClient\nMlflowClient()\n"
    flavor = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "/x/model.py"}
    write_model(tmp_path / "model", {"python_function": flavor}, model_dot_py=code)
    with pytest.raises(AssertionError, match=r"the model uses `mlflow\.tracking\.MlflowClient`, and MLflow is not in"):
        run_cases(bare_python, tmp_path, [case("model", {})], tmp_path)
