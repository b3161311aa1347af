"""What a Python model names of MLflow, for as long as it is loaded where the environment has no MLflow."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, Dict, Iterator, List, Optional


class PythonModel:
    """The class that Python models derive from."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401
        """Do nothing; models load their artifacts here."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ANN401
        """Answer; each model has its own."""
        raise NotImplementedError


class PythonModelContext:
    """What a Python model is given besides its input."""

    def __init__(self, artifacts: Dict[str, str], model_config: Optional[Dict[str, Any]]) -> None:
        self.artifacts = artifacts
        self.model_config = model_config


def _unusable(name: str) -> type:
    """Return a class in place of one that is MLflow's: a model may name it, and cannot use it."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
        del self
        raise ImportError(f"the model uses `{name}`, and MLflow is not in its environment; add `mlflow` to it")

    return type(name.rpartition(".")[2], (), {"__init__": refuse})


class _Module(types.ModuleType):
    """A module that has every class."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        found = _unusable(f"{self.__name__}.{name}")
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of MLflow."""

    def __init__(self, contents: Dict[str, Dict[str, Any]]) -> None:
        self._contents = contents

    def find_spec(self, fullname: str, *_: Any) -> Optional[importlib.machinery.ModuleSpec]:  # noqa: ANN401
        if fullname.split(".", maxsplit=1)[0] != "mlflow":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(self._contents.get(module.__name__, {}))


@contextlib.contextmanager
def installed() -> Iterator[List[Any]]:
    """Let `mlflow` be imported; yields the list that gets what `mlflow.models.set_model` was called with."""
    given: List[Any] = []
    model_classes = {"PythonModel": PythonModel, "PythonModelContext": PythonModelContext}
    finder = _Finder(
        {
            "mlflow.models": {"set_model": given.append},
            "mlflow.models.model": {"set_model": given.append},
            "mlflow.pyfunc": model_classes,
            "mlflow.pyfunc.model": model_classes,
        }
    )
    sys.meta_path.insert(0, finder)
    try:
        for name in ("mlflow.models", "mlflow.pyfunc"):
            importlib.import_module(name)  # so that `import mlflow` has them
        yield given
    finally:
        sys.meta_path.remove(finder)
        # What asks later whether there is an MLflow gets the truth.
        for name in [name for name in sys.modules if name.split(".")[0] == "mlflow"]:
            del sys.modules[name]
