"""Saves the models that the tests serve; runs in the models' environment, started by the fixture `models`."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ARG002
# (mlflow and scikit-learn are in that environment only, not where mypy runs, and MLflow looks at the names and hints)

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import PythonModel
from mlflow.types import ParamSchema, ParamSpec
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        print("printed by the model", flush=True)
        os.write(1, b"written by the model\n")
        return model_input


class Params(PythonModel):
    def predict(self, context, model_input, params=None):
        return [params["factor"] * value for value in model_input["x"]]


class Unloadable(PythonModel):
    def load_context(self, context):
        raise LookupError("no such weights")

    def predict(self, context, model_input, params=None):
        return []


class Acting(PythonModel):
    """Does to its process what the column `do` says, or answers with the value it names."""

    def predict(self, context, model_input, params=None):
        action, argument = str(model_input["do"][0]), float(model_input["argument"][0])
        if action == "raise":
            raise ArithmeticError("the reactor\nis off")
        if action == "exit":
            os._exit(int(argument))
        elif action == "sys.exit":
            sys.exit(int(argument))
        elif action == "sleep":
            time.sleep(argument)
        elif action == "orphan":
            subprocess.run(["/bin/sh", "-c", f"sleep {argument} >/dev/null 2>&1 &"], check=True)
        return values()[action] if action in values() else [os.getpid()]


def values():
    return {
        "nan": [1.0, float("nan"), float("inf")],
        "array": np.array([[1.5, np.nan]]),
        "scalars": {"i": np.int64(1), "f": np.float32(0.5), "b": np.bool_(True), "keys": {np.int64(3): 1}},
        "dates": np.array(["2021-01-02T03:04:05", "NaT"], dtype="datetime64[s]"),
        "frame": pd.DataFrame({"a": [1, None], "t": pd.to_datetime(["2021-01-01", None])}),
        "bytes": b"abc",
        "object": object(),
    }


def main(folder):
    features, target = load_iris(return_X_y=True, as_frame=True)
    classifier = LogisticRegression(max_iter=200).fit(features, target)
    mlflow.sklearn.save_model(
        classifier,
        folder / "iris",
        serialization_format="cloudpickle",
        signature=infer_signature(features, classifier.predict(features)),
        input_example=features.iloc[:3],
        pip_requirements=[],
    )
    x = pd.DataFrame({"x": [1.5]})
    factor = ModelSignature(infer_signature(x).inputs, params=ParamSchema([ParamSpec("factor", "double", 2.0)]))
    for name, model, signature in (
        ("echo", Echo(), None),
        ("params", Params(), factor),
        ("unloadable", Unloadable(), None),
        ("acting", Acting(), None),
    ):
        mlflow.pyfunc.save_model(folder / name, python_model=model, signature=signature, pip_requirements=[])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
