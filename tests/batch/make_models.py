"""Saves the models of these tests to the folder that is its argument; run in an environment with MLflow."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ARG002
# (MLflow and scikit-learn are in that environment only, not where mypy runs)

import os
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "slope", "ca"]


def patients(count, seed=0):
    """Return made-up rows of the heart-classifier's columns."""
    chance = np.random.default_rng(seed)
    found = {name: chance.integers(0, 200, count) for name in NUMBERS}
    found["oldpeak"] = np.round(chance.random(count) * 5, 1)
    found["thal"] = chance.choice(["normal", "fixed", "reversible"], count)
    return pd.DataFrame(found)


class Moody(mlflow.pyfunc.PythonModel):
    """Doubles numbers, and does worse for some of them."""

    def predict(self, context, model_input, params=None):
        values = model_input["x"]
        once = os.environ.get("MOODY_FILE", "")
        if (values == 13).any():
            raise ArithmeticError("13 is not to be doubled")
        if (values == 14).any():
            os._exit(3)
        if (values == 15).any() and once and not Path(once).exists():
            Path(once).touch()
            os._exit(4)
        if (values == 16).any():
            time.sleep(60)
        if (values == 17).any():
            return [0]
        time.sleep(float(os.environ.get("MOODY_SECONDS", "0")))
        return values * (params or {}).get("factor", 2)


class Pair(mlflow.pyfunc.PythonModel):
    """Answers with a data frame of two columns."""

    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"half": model_input["x"] / 2, "what": ["é," + str(x) for x in model_input["x"]]})


class Nested(mlflow.pyfunc.PythonModel):
    """Answers with a list for each row."""

    def predict(self, context, model_input, params=None):
        return [[float(x), None] for x in model_input["x"]]


class Pictures(mlflow.pyfunc.PythonModel):
    """Answers with two numbers for each picture, as a classifier of two classes does."""

    def predict(self, context, model_input, params=None):
        assert model_input.dtype == np.uint8
        mean = model_input.astype(np.float32).mean(axis=(1, 2, 3)) / 255
        return np.stack([mean, 1 - mean], axis=1)


def main(folder):
    rows = patients(500)
    target = (rows["age"] + 10 * rows["oldpeak"] > 110).astype(int)
    encode = ColumnTransformer([("thal", OneHotEncoder(), ["thal"])], remainder=StandardScaler())
    heart = make_pipeline(encode, LogisticRegression(max_iter=500)).fit(rows, target)
    mlflow.sklearn.save_model(
        heart,
        folder / "heart",
        signature=infer_signature(rows, heart.predict(rows)),
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    number = ModelSignature(inputs=Schema([ColSpec("long", "x")]), params=ParamSchema([ParamSpec("factor", "long", 2)]))
    column = ModelSignature(inputs=Schema([ColSpec("double", "x")]))
    tensor = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, 300, 300, 3))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 2))]),
    )
    for name, model, signature in [
        ("moody", Moody(), number),
        ("pair", Pair(), column),
        ("nested", Nested(), column),
        ("pictures", Pictures(), tensor),
    ]:
        mlflow.pyfunc.save_model(folder / name, python_model=model, signature=signature, pip_requirements=[])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
