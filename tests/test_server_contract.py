from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import server_contract
from envbuilder.mlmodel import MLmodel
from envbuilder.model import Model
from envbuilder.server import contract

if TYPE_CHECKING:
    from pathlib import Path

MLMODEL = """\
artifact_path: model
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, code: null, python_version: 3.10}
  sklearn: {sklearn_version: 1.10, serialization_format: cloudpickle}
metadata: {task: iris, rows: 1}
mlflow_version: 3.17.2
model_uuid: 1c0f
run_id: 1c0f
signature:
  inputs: '[{"type": "double", "name": "b"}, {"type": "double", "name": "a"}]'
  outputs: null
utc_time_created: '2026-11-23 01:47:22.664047'
"""


def made(text: str) -> Any:  # noqa: ANN401 - decoded JSON
    MLmodel.parse(text, file="MLmodel")
    return json.loads(server_contract.make(text.encode(), file="MLmodel"))


def test_versions_stay_as_written_and_what_a_save_makes_new_is_left_out() -> None:
    assert made(MLMODEL) == {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "code": None,
            "python_version": "3.10",
        },
        "flavors": {"sklearn": {"sklearn_version": "1.10", "serialization_format": "cloudpickle"}},
        "signature": {
            "inputs": [{"type": "double", "name": "b"}, {"type": "double", "name": "a"}],
            "outputs": None,
            "params": None,
        },
        "mlflow_version": "3.17.2",
        "metadata": {"task": "iris", "rows": "1"},
        "is_signature_from_type_hint": None,
        "type_hint_from_example": None,
    }


def test_a_model_without_a_signature_says_so() -> None:
    assert made("flavors: {python_function: {loader_module: m}}")["signature"] is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "{t: 0.5, n: 1, flag: true, name: '1', none: null}",
            {"t": 0.5, "n": 1, "flag": True, "name": "1", "none": None},
        ),
        ("{day: 2026-11-26, 1: a}", {"day": "2026-11-26", "1": "a"}),
        ("{day: 2026-99-99, n: 1}", {"day": "2026-99-99", "n": "1"}),
        ("{2026-11-26: 1}", {"2026-11-26": "1"}),
        ("config.yaml", "config.yaml"),
    ],
)
def test_what_a_model_is_loaded_with_has_yamls_types(config: str, expected: object) -> None:
    text = f"flavors: {{python_function: {{loader_module: m, config: {config}}}}}"
    assert made(text)["python_function"]["config"] == expected


def test_the_server_reads_what_the_builder_wrote(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL)
    written = Model.read(tmp_path).contract
    assert written == Model.read(tmp_path).contract
    (tmp_path / "contract.json").write_bytes(written)
    found = contract.find({"ENVBUILDER_CONTRACT": str(tmp_path / "contract.json")})
    assert found is not None
    assert found.python_function["loader_module"] == "mlflow.sklearn"
    assert [column["name"] for column in found.inputs or ()] == ["b", "a"]
    assert (found.outputs, found.params, found.is_from_type_hint) == (None, None, False)
    assert (found.mlflow_version, found.metadata["task"]) == ("3.17.2", "iris")


def test_without_a_file_there_is_no_contract(tmp_path: Path) -> None:
    assert contract.find({"ENVBUILDER_CONTRACT": str(tmp_path / "none.json")}) is None
