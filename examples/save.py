"""Saves the example models, each to the folder of its name; run with the packages that the models list.

    python -m venv .venv && .venv/bin/pip install mlflow==3.17.2 scikit-learn==1.7.2 skops==0.16.0 lightgbm==4.7.0
    .venv/bin/python examples/save.py

A model is saved once and committed: its uuid and time differ each time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import lightgbm
import mlflow
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).resolve().parent
MLFLOW = "mlflow-skinny==3.17.2"
FRAMES = ["numpy==2.2.6", "pandas==2.3.3"]


def iris(target: Path) -> None:
    features, species = load_iris(return_X_y=True, as_frame=True)
    features = features.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    model = LogisticRegression(max_iter=200).fit(features, species)
    mlflow.sklearn.save_model(
        model,
        target,
        signature=infer_signature(features, model.predict(features)),
        input_example=features.iloc[:3],
        pip_requirements=[MLFLOW, *FRAMES, "scikit-learn==1.7.2", "scipy==1.15.3", "skops==0.16.0"],
    )


def trees(target: Path) -> None:
    """A model whose wheels need a library of the system: lightgbm links to libgomp, and does not bring it."""
    features, species = load_iris(return_X_y=True, as_frame=True)
    features = features.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    parameters = {"objective": "multiclass", "num_class": 3, "num_leaves": 4, "num_threads": 1, "verbosity": -1}
    model = lightgbm.train(parameters, lightgbm.Dataset(features, species), num_boost_round=10)
    mlflow.lightgbm.save_model(
        model,
        target,
        signature=infer_signature(features, model.predict(features)),
        input_example=features.iloc[:3],
        pip_requirements=[MLFLOW, *FRAMES, "lightgbm==4.7.0", "scipy==1.15.3"],
    )


WORDS = '''\
"""Counts in texts; travels with the model in its `code` folder."""


def count(text: str) -> dict[str, int]:
    words = text.split()
    return {"characters": len(text), "words": len(words), "longest": max((len(word) for word in words), default=0)}
'''

TEXT_MODEL = '''\
"""A model that uses a module of its own."""

import lightgbm
import mlflow
import pandas as pd
from words import count


class TextStatistics(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame([count(text) for text in model_input["text"]])


mlflow.models.set_model(TextStatistics())
'''

SCALE_MODEL = '''\
"""A model with parameters: callers may change its factor and its rounding with each request."""

import mlflow


class Scale(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        params = params or {}
        scaled = model_input["value"] * params.get("factor", 2.0)
        return scaled.round(params.get("digits", 2)).tolist()


mlflow.models.set_model(Scale())
'''


def text(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        # MLflow keeps the path of the script as it was given.
        os.chdir(name)
        Path("words.py").write_text(WORDS)
        Path("text_model.py").write_text(TEXT_MODEL)
        sys.path.insert(0, name)
        example = pd.DataFrame({"text": ["to be or not to be", "that is the question"]})
        mlflow.pyfunc.save_model(
            target,
            python_model="text_model.py",
            code_paths=["words.py"],
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", "text")]),
                outputs=Schema([ColSpec("long", name) for name in ("characters", "words", "longest")]),
            ),
            input_example=example,
            pip_requirements=[MLFLOW, *FRAMES],
        )


def scale(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        Path("scale_model.py").write_text(SCALE_MODEL)
        mlflow.pyfunc.save_model(
            target,
            python_model="scale_model.py",
            signature=ModelSignature(
                inputs=Schema([ColSpec("double", "value")]),
                outputs=Schema([ColSpec("double")]),
                params=ParamSchema([ParamSpec("factor", "double", 2.0), ParamSpec("digits", "long", 2)]),
            ),
            input_example=(pd.DataFrame({"value": [1.0, 2.345]}), {"factor": 3.0, "digits": 1}),
            pip_requirements=[MLFLOW, *FRAMES],
        )


def main() -> None:
    for save in (iris, trees, text, scale):
        target = HERE / save.__name__
        shutil.rmtree(target, ignore_errors=True)
        save(target)


if __name__ == "__main__":
    main()
