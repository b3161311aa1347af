"""What the server of an image must know of an MLmodel file, as JSON: it has no YAML parser in either Python. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import yaml

from envbuilder.yaml_text import EMPTY, load, plain

if TYPE_CHECKING:
    from envbuilder.signature import Json
    from envbuilder.yaml_text import Node

_KEYS: Final = ("mlflow_version", "metadata", "is_signature_from_type_hint", "type_hint_from_example")
"""What says how the model is used; when, where and by whom it was saved changes with every save."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def make(text: bytes, *, file: str) -> bytes:
    """Return the contract of an MLmodel file that `MLmodel.parse` has read; equal models give equal bytes."""
    document = _mapping(load(text, source_file=file))
    flavors = _mapping(document.get("flavors"))
    function = {key: plain(value) for key, value in _mapping(flavors.get("python_function")).items()}
    contract = {
        "python_function": {**function, **_config(text, function)},
        "flavors": {name: plain(members) for name, members in flavors.items() if name != "python_function"},
        "signature": _signature(_mapping(document.get("signature"))) if document.get("signature") else None,
        **{key: plain(document.get(key)) for key in _KEYS},
    }
    # Keys keep their order: it is the order of the members of objects.
    return json.dumps(contract, indent=1).encode() + b"\n"


def _config(text: bytes, function: Mapping[str, object]) -> dict[str, object]:
    """Return what the model is loaded with, as YAML types it: a number there is a number to the model."""
    if not isinstance(function.get("config"), dict):
        return {}
    try:
        # Size and depth are known to be bounded, aliases included: the text was read before.
        document: Any = yaml.load(text, Loader=_LOADER)  # noqa: S506 - one of the two safe ones
        config = document["flavors"]["python_function"]["config"]
        return {"config": json.loads(json.dumps(config, default=str))}
    except (ValueError, TypeError, yaml.YAMLError):
        return {}  # a date that is none, a key that is a date: then the texts stay as they are written


def _signature(members: Mapping[str, Node]) -> dict[str, Json]:
    return {key: _entries(members.get(key)) for key in ("inputs", "outputs", "params")}


def _entries(text: Node) -> Json:
    decoded: Json = json.loads(text) if isinstance(text, str) else None
    return decoded


def _mapping(node: Node) -> Mapping[str, Node]:
    return node if isinstance(node, Mapping) else EMPTY
