"""A contract's signature, with the questions that are put to MLflow's own where MLflow is in the environment."""

import importlib
from typing import Any, Dict, List, Optional

from .contract import Contract

NUMPY_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "bytes",
    "datetime": "datetime64[ns]",
}


class Schema:
    """The inputs of a model: columns or tensors."""

    def __init__(self, entries: List[Dict[str, Any]]) -> None:
        self.entries = entries
        self.is_tensor = bool(entries) and entries[0].get("type") == "tensor"
        self.is_named = bool(entries) and all(entry.get("name") is not None for entry in entries)
        self.by_name = {entry["name"]: entry for entry in entries} if self.is_named else {}

    def is_tensor_spec(self) -> bool:
        """Whether the inputs are tensors."""
        return self.is_tensor

    def input_names(self) -> List[Any]:
        """Return the names of the inputs, none where they go by position."""
        return list(self.by_name)

    def pandas_types(self) -> List[Any]:
        """Return the types that pandas reads the columns as."""
        if self.is_tensor:
            raise TypeError("TensorSpec only supports numpy types, use numpy_types() instead")
        return [pandas_type(entry["type"]) for entry in self.entries]

    def __str__(self) -> str:
        return "[{}]".format(", ".join(_entry_text(entry) for entry in self.entries))


class Metadata:
    """A contract as `payload` asks about it."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._schema = Schema(contract.inputs) if contract.inputs is not None else None

    def get_input_schema(self) -> Optional[Schema]:
        """Return what goes in."""
        return self._schema

    def get_params_schema(self) -> Any:  # noqa: ANN401 - MLflow has its own class for it
        """Return the parameters, each with a name."""
        return _Params(self._contract.params) if self._contract.params else None


class _Param:
    def __init__(self, entry: Dict[str, Any]) -> None:
        self.name = entry["name"]


class _Params:
    def __init__(self, entries: List[Dict[str, Any]]) -> None:
        self.params = [_Param(entry) for entry in entries]


def is_required(entry: Dict[str, Any]) -> bool:
    """Whether an input or a member must be there, however the version of MLflow wrote it."""
    return bool(entry.get("required", not entry.get("optional", False)))


def pandas_type(kind: str) -> Any:  # noqa: ANN401
    """Return the dtype of a column; texts, bytes and nested values are objects."""
    np = importlib.import_module("numpy")
    is_object = kind in ("string", "binary") or kind not in NUMPY_TYPES
    return np.dtype(object if is_object else NUMPY_TYPES[kind])


def dtype_of(entry: Dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the dtype of a tensor."""
    return importlib.import_module("numpy").dtype(entry["tensor-spec"]["dtype"])


def type_text(entry: Dict[str, Any]) -> str:
    """Write a type as MLflow's messages do."""
    kind = entry["type"]
    if kind == "array":
        return f"Array({type_text(entry['items'])})"
    if kind == "map":
        return f"Map(str -> {type_text(entry['values'])})"
    if kind == "object":
        members = sorted(entry["properties"].items())
        return "{{{}}}".format(", ".join(f"{name}: {type_text(one)} ({_need(one)})" for name, one in members))
    if kind == "tensor":
        return f"Tensor('{entry['tensor-spec']['dtype']}', {tuple(entry['tensor-spec']['shape'])})"
    return "Any" if kind == "any" else str(kind)


def _entry_text(entry: Dict[str, Any]) -> str:
    name = f"'{entry['name']}': " if entry.get("name") is not None else ""
    need = "" if entry["type"] == "tensor" and not name else f" ({_need(entry)})"
    return name + type_text(entry) + need


def _need(entry: Dict[str, Any]) -> str:
    return "required" if is_required(entry) else "optional"
