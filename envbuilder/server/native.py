"""Models loaded and asked as MLflow's own flavors do it, where the environment has no MLflow."""

import importlib
import inspect
import pickle
import runpy
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from . import stand_in
from .contract import Contract

Params = Optional[Dict[str, Any]]
Predict = Callable[[Any, Params], Any]


class Native(NamedTuple):
    """A model without MLflow around it."""

    predict: Predict
    raw: Any = None
    """The library's own object, for flavors that take arrays."""


class UnloadableError(Exception):
    """The model cannot be loaded here; the text says what would help."""


def load(contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:
    """Load the model; returns what predicts from data and parameters."""
    module = str(contract.python_function.get("loader_module"))
    if contract.is_from_type_hint:
        raise UnloadableError(
            "the model checks its input by type hints, which is MLflow's to do, and MLflow is not in its environment;"
            " add `mlflow` to it"
        )
    if module in LOADERS:
        return LOADERS[module](contract, model_dir, config)
    if module.split(".", maxsplit=1)[0] == "mlflow":
        known = ", ".join(sorted(name[len("mlflow.") :] for name in LOADERS))
        raise UnloadableError(
            f"the model is loaded by `{module}`, and MLflow is not in its environment; add `mlflow` to it (without it,"
            f" {known} and loader modules of one's own can be loaded)"
        )
    return _custom(module, contract, model_dir, config)


def _custom(module: str, contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:
    loader = importlib.import_module(module)._load_pyfunc  # noqa: SLF001 - MLflow's name for it
    path = _data(contract, model_dir)
    takes_config = "model_config" in inspect.signature(loader).parameters
    model = loader(path, model_config=config) if takes_config else loader(path)
    function = getattr(model, contract.python_function.get("predict_fn") or "predict")
    if "params" in inspect.signature(function).parameters:
        return Native(lambda data, params: function(data, params=params))
    return Native(lambda data, _: function(data))


def _join(*parts: str) -> str:
    """Return a path as text, which is what old libraries take."""
    return str(Path(*parts))


def _data(contract: Contract, model_dir: str) -> str:
    named = contract.python_function.get("data")
    return _join(model_dir, named) if named else model_dir


def _unpickled(path: str, form: str, trusted: Any) -> Any:  # noqa: ANN401
    if form == "skops":
        return importlib.import_module("skops.io").load(path, trusted=trusted)
    if form == "joblib":
        return importlib.import_module("joblib").load(path)
    if form not in ("pickle", "cloudpickle"):
        raise UnloadableError(
            f"the model is written as `{form}`, expected `pickle`, `cloudpickle`, `joblib` or `skops`"
        )
    loader = importlib.import_module("cloudpickle") if form == "cloudpickle" else pickle
    with Path(path).open("rb") as stream:
        return loader.load(stream)


def _sklearn(contract: Contract, model_dir: str, _: Dict[str, Any]) -> Native:
    flavor, function = contract.flavors.get("sklearn", {}), contract.python_function
    path = _data(contract, model_dir)
    if not Path(path).is_file():
        path = _join(model_dir, function.get("model_path") or flavor.get("pickled_model") or "model.pkl")
    model = _unpickled(path, flavor.get("serialization_format", "pickle"), flavor.get("skops_trusted_types"))
    predict = getattr(model, function.get("predict_fn") or "predict")
    return Native(lambda data, _: predict(data), model)


def _class(name: str) -> Any:  # noqa: ANN401
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _xgboost(contract: Contract, model_dir: str, _: Dict[str, Any]) -> Native:
    xgboost = importlib.import_module("xgboost")
    flavor = contract.flavors.get("xgboost", {})
    model = _class(flavor.get("model_class", "xgboost.core.Booster"))()
    model.load_model(_join(model_dir, flavor.get("data", "model.xgb")))
    accepted = inspect.signature(model.predict).parameters

    def predict(data: Any, params: Params) -> Any:  # noqa: ANN401
        options = {name: one for name, one in (params or {}).items() if name in accepted}
        if isinstance(model, xgboost.Booster):
            data = xgboost.DMatrix(data)
        return model.predict(data, **options)

    return Native(predict, model)


def _lightgbm(contract: Contract, model_dir: str, _: Dict[str, Any]) -> Native:
    flavor = contract.flavors.get("lightgbm", {})
    path = _join(model_dir, flavor.get("data", "model.lgb"))
    if flavor.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        model = importlib.import_module("lightgbm").Booster(model_file=path)
    else:
        model = _unpickled(path, flavor.get("serialization_format", "cloudpickle"), flavor.get("skops_trusted_types"))
    return Native(lambda data, _: model.predict(data), model)


def _onnx(contract: Contract, model_dir: str, _: Dict[str, Any]) -> Native:
    runtime, np, pd = (importlib.import_module(name) for name in ("onnxruntime", "numpy", "pandas"))
    flavor = contract.flavors.get("onnx", {})
    wanted = flavor.get("providers") or ["CUDAExecutionProvider", "CPUExecutionProvider"]
    wanted = [wanted] if isinstance(wanted, str) else [tuple(one) if isinstance(one, list) else one for one in wanted]
    there = set(runtime.get_available_providers())
    usable = [one for one in wanted if (one if isinstance(one, str) else one[0]) in there]
    path = _join(model_dir, flavor.get("data", "model.onnx"))
    session = runtime.InferenceSession(path, providers=usable or ["CPUExecutionProvider"])
    inputs = {one.name: one.type for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]

    def predict(data: Any, _: Params) -> Any:  # noqa: ANN401
        is_frame = isinstance(data, pd.DataFrame)
        if is_frame and len(inputs) > 1:
            data = {name: data[name].values for name in inputs}
        elif not isinstance(data, dict):
            if len(inputs) > 1:
                raise TypeError(f"the model has {len(inputs)} inputs: name them")
            data = {next(iter(inputs)): data.values if is_frame else data}
        feed = {
            name: one.astype(np.float32) if inputs.get(name) == "tensor(float)" and one.dtype == np.float64 else one
            for name, one in data.items()
        }
        found = dict(zip(outputs, session.run(outputs, feed)))
        return pd.DataFrame({name: np.asarray(one).reshape(-1) for name, one in found.items()}) if is_frame else found

    return Native(predict)


def _pytorch(contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:
    torch, np, pd = (importlib.import_module(name) for name in ("torch", "numpy", "pandas"))
    folder = _join(model_dir, contract.flavors.get("pytorch", {}).get("model_data") or "data")
    path, device = _join(folder, "model.pth"), config.get("device") or "cpu"
    if Path(path).exists():
        # A pickle may hold anything, and a model is one; older versions know no other way and have no option for it.
        options = {"weights_only": False} if "weights_only" in inspect.signature(torch.load).parameters else {}
        model = torch.load(path, map_location=device, **options)
        model.eval()
    else:
        model = torch.export.load(_join(folder, "model.pt2")).module()

    def predict(data: Any, params: Params) -> Any:  # noqa: ANN401
        is_frame = isinstance(data, pd.DataFrame)
        if not is_frame and not isinstance(data, np.ndarray):
            raise TypeError("Input data should be pandas.DataFrame or numpy.ndarray")
        array = data.to_numpy(dtype=np.float32) if is_frame else data
        with torch.no_grad():
            found = model(torch.from_numpy(array).to(device), **(params or {})).cpu().numpy()
        return pd.DataFrame(found, index=data.index) if is_frame else found

    return Native(predict)


def _python_model(contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:
    function = contract.python_function
    with stand_in.installed():
        path = _join(model_dir, function.get("python_model") or "python_model.pkl")
        if function.get("python_model_compression"):
            raise UnloadableError("the model is compressed, which is MLflow's to undo; add `mlflow` to its environment")
        return _asked(_unpickled(path, "cloudpickle", None), contract, model_dir, config)


def _code_model(contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:
    name = Path(str(contract.python_function.get("model_code_path"))).name
    with stand_in.installed() as given:
        runpy.run_path(_join(model_dir, name))
        if not given:
            raise UnloadableError(f"`{name}` does not call `mlflow.models.set_model`")
        return _asked(given[-1], contract, model_dir, config)


def _asked(model: Any, contract: Contract, model_dir: str, config: Dict[str, Any]) -> Native:  # noqa: ANN401
    """Return how a Python model, or a function that is one, is asked."""
    named = contract.python_function.get("artifacts") or {}  # type: Dict[str, Dict[str, str]]
    artifacts = {name: _join(model_dir, one["path"]) for name, one in named.items()}
    context = stand_in.PythonModelContext(artifacts, config)
    if hasattr(model, "load_context"):
        model.load_context(context)
    function = getattr(model, "predict", model)
    accepted = inspect.signature(function).parameters
    first: List[Any] = [context] if "context" in accepted or "ctx" in accepted else []
    if "params" in accepted:
        return Native(lambda data, params: function(*first, data, params=params))
    return Native(lambda data, _: function(*first, data))


LOADERS = {
    "mlflow.lightgbm": _lightgbm,
    "mlflow.onnx": _onnx,
    "mlflow.pyfunc.loaders.code_model": _code_model,
    "mlflow.pyfunc.model": _python_model,
    "mlflow.pytorch": _pytorch,
    "mlflow.sklearn": _sklearn,
    "mlflow.xgboost": _xgboost,
}  # type: Dict[str, Callable[[Contract, str, Dict[str, Any]], Native]]
