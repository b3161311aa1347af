"""Logs the models that the tests fetch; runs in the tracking server's environment, started by `tracking_server`."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN201, ANN204, ARG002
# (mlflow is in that environment only, not where mypy runs, and MLflow looks at the names and hints)

import json
import os
import sys
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel


class Constant(PythonModel):
    def __init__(self, value):
        self.value = value

    def predict(self, context, model_input, params=None):
        return [self.value] * len(model_input)


def log(value, folder, **registered):
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=Constant(value),
        pip_requirements=[],
        code_paths=[str(folder / "helpers")],
        artifacts={"weights": str(folder / "weights.bin")},
        **registered,
    )


def main(folder, iris):
    (folder / "helpers").mkdir()
    (folder / "helpers" / "__init__.py").touch()
    (folder / "weights.bin").write_bytes(os.urandom(1_500_000))
    found = {}
    with mlflow.start_run() as run:
        found["run_id"] = run.info.run_id
        found["model_ids"] = [log(value, folder, registered_model_name="churn").model_id for value in (1, 2)]
        mlflow.log_artifacts(iris, "iris")
        mlflow.log_artifacts(iris, "overwritten")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("churn", "champion", "1")
    client.transition_model_version_stage("churn", "1", "Production")
    client.create_registered_model("empty")

    found["file_store"] = (folder / "mlruns").as_uri()
    mlflow.set_tracking_uri(found["file_store"])
    with mlflow.start_run() as run:
        found["file_store_run_id"] = run.info.run_id
        log(3, folder)
    (folder / "logged.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
