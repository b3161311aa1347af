"""The model loaded: with the environment's own MLflow where it has one, else by its loader module or natively."""

import importlib
import importlib.util
import inspect
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from . import batch, contract, enforcement, native, parameters
from .schema import Metadata

if TYPE_CHECKING:
    from .direct import Direct

RAW = ("sklearn_model", "xgb_model", "lgb_model")
"""Where MLflow's wrappers have the model itself."""


class LoadedModel:
    """A loaded model and what is asked about it for every request."""

    def __init__(
        self,
        predict: Callable[[Any, Any], Any],
        metadata: Any,  # noqa: ANN401 - MLflow's, of any version, or the contract's
        mlflow_version: str,
        known: Optional[contract.Contract] = None,
        raw: Any = None,  # noqa: ANN401 - a model of any library
    ) -> None:
        self.predict = predict
        self.metadata = metadata
        self.mlflow_version = mlflow_version
        self.contract = known
        self.raw = raw
        self.direct: Optional[Direct] = None
        self.is_row_wise = batch.is_row_wise(known, os.environ)
        self.most_rows = batch.most_rows(os.environ)


def load(model_dir: str) -> LoadedModel:
    """Load the model as MLflow's own server does."""
    known = contract.find(os.environ)
    config = os.environ.get("SERVING_MODEL_CONFIG")
    overridden: Dict[str, Any] = json.loads(config) if config else {}
    if importlib.util.find_spec("mlflow") is None:
        return _load_without_mlflow(model_dir, known, overridden)
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    mlflow = importlib.import_module("mlflow")
    pyfunc = importlib.import_module("mlflow.pyfunc")
    options = {"model_config": overridden} if config else {}
    model = pyfunc.load_model(model_dir, **options)
    takes_params = "params" in inspect.signature(model.predict).parameters

    def predict(data: Any, params: Any) -> Any:  # noqa: ANN401
        return model.predict(data, params=params) if takes_params else model.predict(data)

    wrapper = getattr(model, "_model_impl", None)
    raw = next((getattr(wrapper, name) for name in RAW if hasattr(wrapper, name)), wrapper)
    version = str(getattr(mlflow, "__version__", "unknown"))
    return LoadedModel(predict, getattr(model, "metadata", None), version, known, raw)


def _load_without_mlflow(model_dir: str, known: Optional[contract.Contract], overridden: Dict[str, Any]) -> LoadedModel:
    if known is None:
        raise native.UnloadableError(
            "MLflow is not in the model's environment, and without a `contract.json` the model cannot be loaded by"
            " other means; build the image again, or add `mlflow` to the environment"
        )
    config, code = known.python_function.get("config"), known.python_function.get("code")
    if code:
        sys.path.insert(0, os.path.join(model_dir, code))  # noqa: PTH118 - pathlib is one import more
    loaded = native.load(known, model_dir, {**(config if isinstance(config, dict) else {}), **overridden})
    metadata = Metadata(known)
    schema = metadata.get_input_schema()

    def predict(data: Any, params: Any) -> Any:  # noqa: ANN401
        data = enforcement.enforce(data, schema) if schema is not None else data
        return loaded.predict(data, parameters.enforce(params, known.params))

    return LoadedModel(predict, metadata, "none", known, loaded.raw)
