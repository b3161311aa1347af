"""Trains a model and saves it with MLflow, or predicts with one; runs in environments that tests make."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ICN001, PLC0415
# (mlflow is in those environments only, not where mypy runs)

import hashlib
import sys
from importlib.metadata import version

PINNED = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def table(rows):
    import numpy
    import pandas

    values = numpy.random.default_rng(7).normal(size=(rows, 12))
    return pandas.DataFrame(values, columns=[f"x{number}" for number in range(12)])


def train(folder):
    import mlflow
    import numpy
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    known = table(400)
    model = make_pipeline(StandardScaler(), SVR()).fit(known, numpy.sin(known.sum(axis=1)))
    mlflow.sklearn.save_model(
        model,
        folder,
        input_example=known[:3],
        pip_requirements=[f"{name}=={version(name)}" for name in PINNED],
    )


def predict(folder):
    """Print the digest of the predictions' bytes."""
    import mlflow
    import numpy

    answer = numpy.asarray(mlflow.pyfunc.load_model(folder).predict(table(1000)))
    sys.stdout.write(f"{answer.dtype} {answer.shape} {hashlib.sha256(answer.tobytes()).hexdigest()}\n")


if __name__ == "__main__":
    {"train": train, "predict": predict}[sys.argv[1]](sys.argv[2])
