"""The MLmodel file as a value: flavors, environment files, signature and input example. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from envbuilder import flavor_version
from envbuilder.base_request import BaseRequest, read_image
from envbuilder.errors import ModelError, Source
from envbuilder.fields import Stated, get_boolean, get_document, get_mapping, get_text
from envbuilder.problems import Problems, shown
from envbuilder.signature import Signature
from envbuilder.yaml_text import EMPTY, Node, load

if TYPE_CHECKING:
    from envbuilder.flavor_version import FlavorVersion

_KNOWN_KEYS: Final = frozenset(
    {
        "flavors",
        "mlflow_version",
        "model_uuid",
        "run_id",
        "signature",
        "is_signature_from_type_hint",
        "saved_input_example_info",
        "metadata",
    }
)
_KNOWN_PYFUNC_KEYS: Final = frozenset(
    {"loader_module", "python_version", "env", "data", "code", "config", "model_code_path"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputExample:
    """Where the saved input example is and how it is written."""

    path: str | None
    type: str | None
    orient: str | None
    serving_path: str | None
    has_params: bool
    """Whether the file is `{"data": …, "params": …}`."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFunction:
    """The flavor that can be served."""

    loader_module: str
    python_version: Stated[str] | None
    conda_env: Stated[str] | None
    """The path of the conda.yaml that `env` names."""
    virtual_env: Stated[str] | None
    """The path of the python_env.yaml that `env` names."""
    data: Stated[str] | None
    code: Stated[str] | None
    model_code_path: Stated[str] | None
    config: Mapping[str, Node] = field(repr=False)
    """What the model is loaded with, as it is: there may be keys and passwords in it."""
    other: Mapping[str, Node] = field(repr=False)
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MLmodel:
    """What an MLmodel file says."""

    flavors: tuple[str, ...]
    flavor_versions: tuple[FlavorVersion, ...]
    python_function: PythonFunction
    base: BaseRequest | None
    """The image that the model asks to be served on: Azure's `azureml.base_image`."""
    mlflow_version: str | None
    model_uuid: str | None
    run_id: str | None
    signature: Signature | None
    input_example: InputExample | None
    metadata: Mapping[str, Node] = field(repr=False)
    other: Mapping[str, Node] = field(repr=False)
    """Every other key, as it is."""
    source: Source

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> MLmodel:
        """Read the text of an MLmodel file; raise `ModelError` where nothing in it can be served."""
        source = Source(file=file)
        document = get_document(load(text, source_file=file), source, "an MLmodel file")
        problems = Problems()
        flavors = get_mapping(document, "flavors", source, problems)
        if flavors is not None and "python_function" not in flavors:
            _refuse_flavors(tuple(flavors), source)
        if flavors is None and "flavors" not in document:
            problems.add("no `flavors`", where=source, fix="give the MLmodel file that MLflow wrote")
        flavor = get_mapping(flavors or EMPTY, "python_function", source.child("flavors"), problems)
        python_function = _python_function(flavor or EMPTY, source.child("flavors").child("python_function"), problems)
        texts = {key: get_text(document, key, source, problems) for key in ("mlflow_version", "model_uuid", "run_id")}
        signature = _signature(document, source, problems)
        input_example = _input_example(document, source, problems)
        metadata = get_mapping(document, "metadata", source, problems) or EMPTY
        base = _base(metadata, source.child("metadata"), problems)
        problems.finish()
        return cls(
            flavors=tuple(flavors or EMPTY),
            flavor_versions=_versions(flavors or EMPTY, document, source),
            base=base,
            python_function=python_function,
            mlflow_version=_value(texts["mlflow_version"]),
            model_uuid=_value(texts["model_uuid"]),
            run_id=_value(texts["run_id"]),
            signature=signature,
            input_example=input_example,
            metadata=metadata,
            other={key: value for key, value in document.items() if key not in _KNOWN_KEYS} or EMPTY,
            source=source,
        )


def _refuse_flavors(flavors: tuple[str, ...], source: Source) -> None:
    names = ", ".join(f"`{shown(flavor)}`" for flavor in flavors) or "no flavor at all"
    raise ModelError(
        f"no `python_function` flavor, only {names}",
        where=source.child("flavors"),
        fix="save the model with an MLflow flavor that can be loaded with `mlflow.pyfunc`",
    )


def _value(stated: Stated[str] | None) -> str | None:
    return stated.value if stated is not None else None


def _python_function(flavor: Mapping[str, Node], source: Source, problems: Problems) -> PythonFunction:
    loader_module = get_text(flavor, "loader_module", source, problems)
    if loader_module is None:
        problems.add("no `loader_module`", where=source, fix="give the MLmodel file that MLflow wrote")
    conda_env, virtual_env = _env(flavor, source, problems)
    return PythonFunction(
        loader_module=_value(loader_module) or "",
        python_version=get_text(flavor, "python_version", source, problems),
        conda_env=conda_env,
        virtual_env=virtual_env,
        data=get_text(flavor, "data", source, problems),
        code=get_text(flavor, "code", source, problems),
        model_code_path=get_text(flavor, "model_code_path", source, problems),
        config=_config(flavor, source, problems),
        other={key: value for key, value in flavor.items() if key not in _KNOWN_PYFUNC_KEYS} or EMPTY,
        source=source,
    )


def _versions(flavors: Mapping[str, Node], document: Mapping[str, Node], source: Source) -> tuple[FlavorVersion, ...]:
    # MLflow notes its own version at the top.
    return (
        *flavor_version.read(document, source),
        *(
            one
            for flavor, members in flavors.items()
            if isinstance(members, Mapping)
            for one in flavor_version.read(members, source.child("flavors").child(flavor))
        ),
    )


def _base(metadata: Mapping[str, Node], source: Source, problems: Problems) -> BaseRequest | None:
    nested = metadata.get("azureml")
    if isinstance(nested, Mapping) and "base_image" in nested:
        return read_image(nested, "base_image", source.child("azureml"), problems)
    return read_image(metadata, "azureml.base_image", source, problems)


def _config(flavor: Mapping[str, Node], source: Source, problems: Problems) -> Mapping[str, Node]:
    # A path is as good as a mapping here; only a mapping says something to us.
    if isinstance(flavor.get("config"), str):
        return EMPTY
    return get_mapping(flavor, "config", source, problems) or EMPTY


def _env(
    flavor: Mapping[str, Node], source: Source, problems: Problems
) -> tuple[Stated[str] | None, Stated[str] | None]:
    """Return the paths of conda.yaml and python_env.yaml; `env` is absent, text, or a mapping of either key."""
    env = flavor.get("env")
    if isinstance(env, str):
        return Stated(value=env, source=source.child("env")), None
    if env is not None and not isinstance(env, Mapping):
        problems.add(
            "expected a path or a mapping with `conda` or `virtualenv`",
            where=source.child("env"),
            fix="write `env: conda.yaml`",
        )
    members = env if isinstance(env, Mapping) else EMPTY
    return (
        get_text(members, "conda", source.child("env"), problems),
        get_text(members, "virtualenv", source.child("env"), problems),
    )


def _input_example(document: Mapping[str, Node], source: Source, problems: Problems) -> InputExample | None:
    info = get_mapping(document, "saved_input_example_info", source, problems)
    if info is None:
        return None
    where = source.child("saved_input_example_info")
    return InputExample(
        path=_value(get_text(info, "artifact_path", where, problems)),
        type=_value(get_text(info, "type", where, problems)),
        orient=_value(get_text(info, "pandas_orient", where, problems)),
        serving_path=_value(get_text(info, "serving_input_path", where, problems)),
        has_params=info.get("params") in (True, "true", "True"),
        source=where,
    )


def _signature(document: Mapping[str, Node], source: Source, problems: Problems) -> Signature | None:
    members = get_mapping(document, "signature", source, problems)
    from_type_hint = get_boolean(document, "is_signature_from_type_hint", source, problems)
    if members is None:
        return None
    return Signature.parse(members, source.child("signature"), problems, from_type_hint=bool(from_type_hint))
