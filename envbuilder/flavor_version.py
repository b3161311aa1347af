"""The versions of packages that a model was saved with, as its MLmodel notes them beside its flavors. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from envbuilder.environment_spec import Overridden
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.errors import Source
    from envbuilder.requirement import Requirement
    from envbuilder.yaml_text import Node

_SUFFIX: Final = "_version"
_PACKAGES: Final = {
    "lgb": "lightgbm",
    "paddle": "paddlepaddle",
    "pytorch": "torch",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "xgb": "xgboost",
}
"""Where the name of the package is not the key without `_version`."""

_SAME: Final = {
    "keras": ("keras", "tensorflow"),
    "mlflow": ("mlflow", "mlflow-skinny", "mlflow-tracing"),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "torch": ("torch", "pytorch", "pytorch-cpu"),
    "xgboost": ("xgboost", "xgboost-cpu", "py-xgboost"),
}
"""The names under which a package is asked for, those of conda included."""

_OF_THE_FORMAT: Final = frozenset({"api_version", "python_version", "r_version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavorVersion:
    """One package and the version that was there when the model was saved."""

    package: NormalizedName
    version: str
    source: Source


def read(members: Mapping[str, Node], source: Source) -> tuple[FlavorVersion, ...]:
    """Find every `…_version` of a flavor; what cannot be read says nothing."""
    found = []
    for key, value in members.items():
        if key.endswith(_SUFFIX) and key not in _OF_THE_FORMAT and isinstance(value, str) and value:
            stem = key.removesuffix(_SUFFIX)
            name = canonicalize_name(_PACKAGES.get(stem, stem))
            found.append(FlavorVersion(package=name, version=value, source=source.child(key)))
    return tuple(found)


def losers(
    versions: Iterable[FlavorVersion], requirements: tuple[Requirement, ...], match_specs: tuple[MatchSpec, ...]
) -> tuple[Overridden, ...]:
    """Return the versions that what is asked for does not allow, each with the line that decides."""
    found = []
    for one in versions:
        names = _SAME.get(one.package, (one.package,))
        asked = [requirement for requirement in requirements if requirement.name in names]
        if any(spec.name in names for spec in match_specs):
            continue
        if not asked:
            found.append(_lost(one, "nothing asks for this package", None))
        found += [
            _lost(one, f"`{other.text}` is asked for", other.source)
            for other in asked
            if other.name == one.package and not _allows(other, one.version)
        ]
    return tuple(found)


def _lost(one: FlavorVersion, reason: str, by: Source | None) -> Overridden:
    return Overridden(
        field="flavor", value=shown(f"{one.package} {one.version}"), source=one.source, reason=reason, by=by
    )


def _allows(requirement: Requirement, version: str) -> bool:
    if requirement.is_direct:
        return True
    try:
        return ParsedRequirement(f"x{requirement.specifier}").specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True
