"""What MLmodel says, as the builder wrote it down for the server: flavors, signature, metadata."""

import json
import os
from typing import Any, Dict, List, Mapping, Optional

DEFAULT_FILE = "/opt/envbuilder/contract.json"

Entries = Optional[List[Dict[str, Any]]]


class Contract:
    """The contract of a model."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.python_function = dict(document.get("python_function") or {})  # type: Dict[str, Any]
        self.flavors = dict(document.get("flavors") or {})  # type: Dict[str, Dict[str, Any]]
        signature = document.get("signature") or {}
        self.inputs = signature.get("inputs")  # type: Entries
        self.outputs = signature.get("outputs")  # type: Entries
        self.params = signature.get("params")  # type: Entries
        self.is_from_type_hint = bool(document.get("is_signature_from_type_hint"))
        self.metadata = document.get("metadata") or {}  # type: Dict[str, Any]
        self.mlflow_version = document.get("mlflow_version")  # type: Optional[str]


def find(environment: Mapping[str, str]) -> Optional[Contract]:
    """Read the contract of the image or, where a variable names one, of that file; None where there is none."""
    path = environment.get("ENVBUILDER_CONTRACT") or DEFAULT_FILE
    if not os.path.isfile(path):  # noqa: PTH113 - pathlib is one import more for a worker
        return None
    with open(path, "rb") as stream:  # noqa: PTH123 - as above
        return Contract(json.loads(stream.read().decode("utf-8")))
