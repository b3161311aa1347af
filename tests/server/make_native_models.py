"""Saves scikit-learn models as MLflow lays them out; runs in an environment that has no MLflow."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, N803
# (scikit-learn is in that environment only, not where mypy runs)

import json
import sys
from pathlib import Path

import cloudpickle
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = ["a", "b", "c"]


class ByName(BaseEstimator):
    """Answers by the names of its columns, and otherwise without one."""

    def predict(self, X):
        return X["a"].to_numpy() * 2 if hasattr(X, "columns") else X[:, 1]


class Total(BaseEstimator):
    """Answers with one number for all rows, which no batch may do."""

    def predict(self, X):
        return [float(sum(map(sum, getattr(X, "values", X).tolist())))]


class Picky(BaseEstimator):
    """Refuses a large negative number."""

    def predict(self, X):
        rows = getattr(X, "values", X)
        if (rows < -5000).any():
            raise ArithmeticError("a negative number: -7777.5")
        return rows.sum(axis=1)


def main(folder):
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [0.5, 0.1, 7, 2], "c": [9.0, 8, 1, 0]})
    target = [1.0, 2.5, 0.5, 9]
    names = ColumnTransformer([("scaled", StandardScaler(), ["a", "b"])], remainder="passthrough")
    write(folder / "linear", LinearRegression().fit(frame, target), "double")
    write(folder / "integers", LinearRegression().fit(frame, target), "long")
    write(folder / "columns", make_pipeline(names, LinearRegression()).fit(frame, target), "double")
    write(folder / "by_name", ByName(), "double")
    write(folder / "total", Total(), "double")
    write(folder / "picky", Picky(), "double")
    write(folder / "declared", Picky(), "double", "metadata: {envbuilder: {row_wise: true}}\n")
    write(folder / "texts", LinearRegression().fit(frame, target), "string")


def write(folder, model, kind, more=""):
    folder.mkdir()
    inputs = [{"type": kind, "name": name, "required": True} for name in COLUMNS]
    flavors = {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"},
        "sklearn": {"serialization_format": "cloudpickle"},
    }
    signature = json.dumps({"inputs": json.dumps(inputs)})
    (folder / "MLmodel").write_text(f"flavors: {json.dumps(flavors)}\nsignature: {signature}\n{more}")
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
