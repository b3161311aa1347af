"""A model that uses a module of its own."""

import mlflow
import pandas as pd
from words import count


class TextStatistics(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame([count(text) for text in model_input["text"]])


mlflow.models.set_model(TextStatistics())
