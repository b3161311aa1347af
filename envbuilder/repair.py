"""Known breakages of old pins, each mended by a rule: which packages it is about, what it changes, and why.

Pure. A rule limits what nothing else limits, and adds what nothing else brings; what the model pins stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from packaging.requirements import Requirement as ParsedRequirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envbuilder.environment_spec import Overridden
from envbuilder.errors import Source
from envbuilder.requirement import Requirement
from envbuilder.signature import ColumnSpec

if TYPE_CHECKING:
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.mlmodel import MLmodel

FILE: Final = "envbuilder"
"""The file of the `Source` of everything that a rule puts into a spec; the key is `repairs.NAME`."""

_WINDOWS: Final = 'sys_platform == "win32"'
_SAYS_WINDOWS: Final = re.compile('"(win32|Windows|nt)"')
_FIRST_OF_SCIKIT_LEARN: Final = Version("0.10")
"""Older ones have no wheels; those of the package `sklearn` are 0.0 and its post-releases."""

_MLFLOW: Final = ("mlflow", "mlflow-skinny")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFor:
    """Applies where one of these is asked for, and only in versions that are meant here."""

    packages: tuple[str, ...]
    """As requirements, e.g. `mlflow<2.16`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBy:
    """Applies to a model that one of these modules loads."""

    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalColumns:
    """Applies to a model whose signature has optional columns in the words of certain versions of MLflow."""

    mlflow: str
    """The versions, e.g. `<2.10`."""


When: TypeAlias = AskedFor | LoadedBy | OptionalColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Allows no other versions of some packages."""

    packages: tuple[str, ...]
    """As requirements, e.g. `numpy<2`."""
    added: bool = False
    """Whether they are asked for, too, because nothing else brings them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """Asks for another package in the place of the one that is asked for."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyOnWindows:
    """Asks for the package on Windows only."""


Change: TypeAlias = Limit | Rename | OnlyOnWindows


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A known breakage and what mends it."""

    name: str
    reason: str
    """One sentence, as people read it."""
    when: When
    change: Change
    minors: range = range(40)
    """The minor versions of Python 3 on which it breaks and is mended: others have no such packages."""

    @property
    def source(self) -> Source:
        """The place that stands beside everything that this rule puts into a spec."""
        return Source(file=FILE, key=f"repairs.{self.name}")


REPAIRS: Final = (
    Repair(
        name="sklearn-is-scikit-learn",
        reason="the package `sklearn` holds nothing and can no longer be installed; scikit-learn is meant",
        when=AskedFor(packages=("sklearn",)),
        change=Rename(to="scikit-learn"),
    ),
    Repair(
        name="packages-of-windows",
        reason="the model was saved on Windows, and this package exists nowhere else",
        when=AskedFor(packages=("pywin32", "pywinpty", "tensorflow-intel")),
        change=OnlyOnWindows(),
    ),
    Repair(
        name="setuptools-for-pkg-resources",
        reason="it imports pkg_resources, which a new environment does not have and setuptools 82 no longer brings",
        when=AskedFor(packages=("mlflow<2.16", "mlflow-skinny<2.16", "xgboost>=1.4,<1.7", "pmdarima<2.0.4")),
        change=Limit(packages=("setuptools<81",), added=True),
    ),
    Repair(
        name="protobuf-before-4",
        reason="its generated code is refused by protobuf 4",
        when=AskedFor(packages=("mlflow<1.26.1", "mlflow-skinny<1.26.1", "onnx<1.12")),
        change=Limit(packages=("protobuf<4",)),
        minors=range(7, 40),
    ),
    Repair(
        name="protobuf-before-6",
        reason="it imports google.protobuf.service, which protobuf 6 no longer has",
        when=AskedFor(packages=("mlflow>=1.26.1,<1.28", "mlflow-skinny>=1.26.1,<1.28")),
        change=Limit(packages=("protobuf<6",)),
        minors=range(9, 40),
    ),
    Repair(
        name="numpy-before-1.24",
        reason="it uses names such as numpy.float and numpy.object, which numpy 1.24 no longer has",
        when=AskedFor(packages=("mlflow<1.25", "onnx<1.11", "pandas<1.1", "scikit-learn<0.24")),
        change=Limit(packages=("numpy<1.24",)),
        minors=range(8, 12),
    ),
    Repair(
        name="numpy-before-2",
        reason="it works with numpy 1 only, and does not say so",
        when=AskedFor(
            packages=(
                "catboost<1.2.6",
                "h5py<3.11",
                "lightgbm<4.4",
                "matplotlib<3.7.3",
                "numexpr<2.10",
                "onnxruntime<1.18",
                "opencv-python<4.10",
                "opencv-python-headless<4.10",
                "pandas<2.1.2",
                "pmdarima<2.1",
                "pyarrow<15",
                "pywavelets<1.5",
                "scikit-image<0.23",
                "scikit-learn<1.3.1",
                "shap<0.46",
                "shapely<2.0.3",
                "spacy<3.7",
                "statsmodels<0.14.1",
                "tables<3.10",
                "torch<2.3",
                "xgboost<1.6",
            )
        ),
        change=Limit(packages=("numpy<2",)),
        minors=range(9, 13),
    ),
    Repair(
        name="scipy-before-1.9",
        reason="it imports scipy.linalg.pinv2, which scipy 1.9 no longer has",
        when=AskedFor(packages=("scikit-learn<1",)),
        change=Limit(packages=("scipy<1.9",)),
        minors=range(8, 11),
    ),
    Repair(
        name="pandas-before-2",
        reason="it uses pandas.Int64Index for every data frame, which pandas 2 no longer has",
        when=AskedFor(packages=("xgboost<1.6",)),
        change=Limit(packages=("pandas<2",)),
        minors=range(8, 12),
    ),
    Repair(
        name="scikit-learn-before-1.8",
        reason="it checks arrays with `force_all_finite`, which scikit-learn 1.8 no longer knows",
        when=AskedFor(packages=("lightgbm<4.6",)),
        change=Limit(packages=("scikit-learn<1.8",)),
        minors=range(11, 40),
    ),
    Repair(
        name="mlflow-with-gluon",
        reason="MLflow 2.20 no longer has the module that loads this model",
        when=LoadedBy(modules=("mlflow.gluon",)),
        change=Limit(packages=tuple(f"{name}<2.20" for name in _MLFLOW)),
        minors=range(9, 40),
    ),
    Repair(
        name="mlflow-with-fastai",
        reason="MLflow 3 no longer has the module that loads this model",
        when=LoadedBy(modules=("mlflow.fastai",)),
        change=Limit(packages=tuple(f"{name}<3" for name in _MLFLOW)),
        minors=range(9, 40),
    ),
    Repair(
        name="mlflow-with-diviner-and-promptflow",
        reason="MLflow 3.7 no longer has the module that loads this model",
        when=LoadedBy(modules=("mlflow.diviner", "mlflow.promptflow")),
        change=Limit(packages=tuple(f"{name}<3.7" for name in _MLFLOW)),
        minors=range(10, 40),
    ),
    Repair(
        name="mlflow-with-optional-columns",
        reason="MLflow 2.18 and newer cannot read the optional columns of a signature of MLflow 2.9 or older",
        when=OptionalColumns(mlflow="<2.10"),
        change=Limit(packages=tuple(f"{name}<2.18" for name in _MLFLOW)),
        minors=range(9, 40),
    ),
)
"""All rules. Where two limit one package, the narrower comes first."""


def repaired(spec: EnvironmentSpec, mlmodel: MLmodel, *, switched_off: frozenset[str]) -> EnvironmentSpec:
    """Return the spec with every rule applied that it needs, but for those that are switched off by name.

    What a rule adds has the rule's own `source`, and what it replaces is kept as overridden. Repairing again changes
    nothing, and a spec that needs no rule is returned as it is.
    """
    found = spec
    for repair in REPAIRS:
        if repair.name not in switched_off:
            found = _applied(found, mlmodel, repair)
    # What one rule limits may be what another one is about.
    return spec if found is spec else repaired(found, mlmodel, switched_off=switched_off)


def repairs_of(spec: EnvironmentSpec) -> tuple[Repair, ...]:
    """Return the rules that were applied to a spec."""
    sources = {one.source for one in (*spec.requirements, *spec.constraints)}
    sources |= {one.by for one in spec.overridden if one.by is not None}
    return tuple(one for one in REPAIRS if one.source in sources)


def _applied(spec: EnvironmentSpec, mlmodel: MLmodel, repair: Repair) -> EnvironmentSpec:
    if not any(spec.python.value.allows_minor(f"3.{minor}") for minor in repair.minors):
        return spec
    change = repair.change
    if isinstance(change, Limit):
        return _limited(spec, change, _markers(spec, mlmodel, repair.when), repair.source)
    for one in spec.requirements:
        if one in spec.requirements and _is_meant(spec, one, repair.when):
            new = _renamed(one, change, repair) if isinstance(change, Rename) else _on_windows(one, repair)
            spec = _put(spec, one, new, repair)
    return spec


def _markers(spec: EnvironmentSpec, mlmodel: MLmodel, when: When) -> set[str | None]:
    """Return the markers under which the rule applies: none at all where it does not."""
    if isinstance(when, AskedFor):
        return {one.marker for one in spec.requirements if _is_meant(spec, one, when)}
    if isinstance(when, LoadedBy):
        return {None} if mlmodel.python_function.loader_module in when.modules else set()
    return {None} if _has_optional_columns(mlmodel, SpecifierSet(when.mlflow)) else set()


def _has_optional_columns(mlmodel: MLmodel, versions: SpecifierSet) -> bool:
    signature = mlmodel.signature
    if signature is None or not _contains(versions, mlmodel.mlflow_version or ""):
        return False
    columns = (*(signature.inputs or ()), *(signature.outputs or ()))
    return any(isinstance(one, ColumnSpec) and not one.required for one in columns)


def _contains(versions: SpecifierSet, version: str) -> bool:
    try:
        return versions.contains(Version(version), prereleases=True)
    except ValueError:  # also of a number with thousands of digits
        return False


def _is_meant(spec: EnvironmentSpec, one: Requirement, when: When) -> bool:
    """Whether a rule is about this requirement: it, and its constraints, allow no version that the rule is not for."""
    packages = when.packages if isinstance(when, AskedFor) else ()
    meant = [parsed for parsed in map(ParsedRequirement, packages) if parsed.name == one.name]
    if not meant or one.is_direct or _comes_from_conda(spec, one.name):
        return False
    asked = _together(one, *(other for other in spec.constraints if other.name == one.name))
    inside, outside = _sides(asked, meant[0].specifier)
    return inside and not outside


def _comes_from_conda(spec: EnvironmentSpec, name: str) -> bool:
    return any(canonicalize_name(one.name) == name for one in spec.match_specs)


def _limited(spec: EnvironmentSpec, change: Limit, markers: set[str | None], source: Source) -> EnvironmentSpec:
    """Return the spec with the limits, where nothing is said about any of them yet."""
    limits = [Requirement.parse(package, source=source) for package in change.packages]
    if not markers or not all(_is_open(spec, limit) for limit in limits):
        return spec
    # One without a marker holds everywhere.
    needed = [None] if None in markers else sorted(one for one in markers if one is not None)
    asked = {one.name for one in spec.requirements}
    new = [
        replace(limit, marker=marker, written=_with_marker(limit.written, marker))
        for limit in limits
        for marker in needed
    ]
    added = tuple(one for one in new if change.added and one.name not in asked)
    return replace(
        spec,
        requirements=(*spec.requirements, *added),
        constraints=(*spec.constraints, *(one for one in new if one not in added)),
    )


def _is_open(spec: EnvironmentSpec, limit: Requirement) -> bool:
    """Whether what is asked for allows versions inside the limit, and others as well."""
    said = [one for one in (*spec.requirements, *spec.constraints) if one.name == limit.name]
    if _comes_from_conda(spec, limit.name) or any(one.is_direct for one in said):
        return False
    inside, outside = _sides(_together(*said), SpecifierSet(limit.specifier))
    return inside and outside


def _with_marker(text: str, marker: str | None) -> str:
    return f"{text}; {marker}" if marker is not None else text


def _renamed(one: Requirement, change: Rename, repair: Repair) -> Requirement:
    """Return the same wish under another name, with the version unless that is one of the empty package itself."""
    own = any(version < _FIRST_OF_SCIKIT_LEARN for version in _versions(SpecifierSet(one.specifier)))
    extras = f"[{','.join(one.extras)}]" if one.extras else ""
    text = f"{change.to}{extras}{'' if own else one.specifier}"
    return Requirement.parse(_with_marker(text, one.marker), source=repair.source)


def _on_windows(one: Requirement, repair: Repair) -> Requirement:
    if one.marker is not None and _SAYS_WINDOWS.search(one.marker):
        return one
    marker = f"({one.marker}) and {_WINDOWS}" if one.marker is not None else _WINDOWS
    written = _with_marker(one.written.partition(";")[0].rstrip(), marker)
    return replace(one, marker=marker, written=written, source=repair.source)


def _put(spec: EnvironmentSpec, old: Requirement, new: Requirement, repair: Repair) -> EnvironmentSpec:
    """Return the spec with `new` in the place of `old`; without either where the new package is asked for already."""
    if new == old or _comes_from_conda(spec, new.name):
        return spec
    known = any(one.name == new.name and one != old for one in spec.requirements)
    instead = () if known and new.name != old.name else (new,)
    requirements = tuple(item for one in spec.requirements for item in (instead if one == old else (one,)))
    lost = Overridden(field="requirements", value=old.text, source=old.source, reason=repair.reason, by=repair.source)
    return replace(spec, requirements=requirements, overridden=(*spec.overridden, lost))


def _together(*requirements: Requirement) -> SpecifierSet:
    return SpecifierSet(",".join(one.specifier for one in requirements if one.specifier))


def _sides(asked: SpecifierSet, limit: SpecifierSet) -> tuple[bool, bool]:
    """Say whether `asked` allows versions inside `limit`, and outside it.

    The answer can only change at a version that one of them names, so those and their neighbours are tried.
    """
    named = (Version("1"), *_versions(asked), *_versions(limit))
    tried = [neighbour for version in named for neighbour in _around(version)]
    allowed = [version for version in tried if asked.contains(version, prereleases=True)]
    return any(limit.contains(one, prereleases=True) for one in allowed), any(
        not limit.contains(one, prereleases=True) for one in allowed
    )


def _versions(specifier: SpecifierSet) -> tuple[Version, ...]:
    found = []
    for clause in specifier:
        try:
            found.append(Version(clause.version.removesuffix(".*")))
        except InvalidVersion:
            continue
    return tuple(found)


def _around(version: Version) -> tuple[Version, ...]:
    """Return a version just before, the version, and one just after it."""
    release = list(version.release)
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    before = [*release[:-1], max(release[-1] - 1, 0), 9999]
    return Version(".".join(map(str, before))), version, Version(f"{version.base_version}.0.0.1")
