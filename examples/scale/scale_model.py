"""A model with parameters: callers may change its factor and its rounding with each request."""

import mlflow


class Scale(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        params = params or {}
        scaled = model_input["value"] * params.get("factor", 2.0)
        return scaled.round(params.get("digits", 2)).tolist()


mlflow.models.set_model(Scale())
