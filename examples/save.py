"""Saves the example models, each to the folder of its name; run with the packages that the models list.

    python -m venv .venv && .venv/bin/pip install mlflow==3.17.2 scikit-learn==1.7.2 skops==0.16.0 lightgbm==4.7.0 \\
        xgboost-cpu==3.2.0 onnx==1.23.2 onnxruntime==1.32.0 torch==2.13.0
    .venv/bin/python examples/save.py

Names of examples as arguments save those alone. A model is saved once and committed: its uuid and time differ each
time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import onnx
import pandas as pd
import torch
import xgboost
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
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


def boost(target: Path) -> None:
    """A model of xgboost, by its package without CUDA: the other one brings half a gigabyte more."""
    features, species = load_iris(return_X_y=True, as_frame=True)
    features = features.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    parameters = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1}
    model = xgboost.train(parameters, xgboost.DMatrix(features, species), num_boost_round=10)
    mlflow.xgboost.save_model(
        model,
        target,
        model_format="json",
        signature=infer_signature(features, model.predict(xgboost.DMatrix(features))),
        input_example=features.iloc[:3],
        pip_requirements=[MLFLOW, *FRAMES, "xgboost-cpu==3.2.0", "scipy==1.15.3"],
    )


def graph(target: Path) -> None:
    """A tensor model in ONNX: two outputs of a linear layer."""
    weights = onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2) / 4, "weights")
    offsets = onnx.numpy_helper.from_array(np.array([0.5, -0.5], dtype=np.float32), "offsets")
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["features", "weights", "offsets"], ["scores"])],
        "linear",
        [onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, 4])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None, 2])],
        [weights, offsets],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    mlflow.onnx.save_model(
        model,
        target,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4), "features")]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 2), "scores")]),
        ),
        input_example={"features": np.array([[1, 2, 3, 4], [0, 0, 0, 0]], dtype=np.float32)},
        pip_requirements=[MLFLOW, *FRAMES, "onnx==1.23.2", "onnxruntime==1.32.0"],
    )


def net(target: Path) -> None:
    """A tensor model of PyTorch, saved as most are; an exported graph holds paths of the machine that made it."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    with torch.no_grad():
        for number, weights in enumerate(model.parameters(), start=1):
            weights.copy_(torch.arange(weights.numel(), dtype=torch.float32).reshape(weights.shape) / (4 * number))
    mlflow.pytorch.save_model(
        model,
        target,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 2))]),
        ),
        input_example=np.array([[1, 2, 3, 4], [0, 0, 0, 0]], dtype=np.float32),
        serialization_format="pickle",
        pip_requirements=[MLFLOW, *FRAMES, "torch==2.13.0"],
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
    examples = {save.__name__: save for save in (iris, trees, boost, graph, net, text, scale)}
    for name in sys.argv[1:] or examples:
        save, target = examples[name], HERE / name
        shutil.rmtree(target, ignore_errors=True)
        save(target)


if __name__ == "__main__":
    main()
