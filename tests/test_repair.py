"""Rules for old pins: when they apply, what they leave alone, and that each is true.

Beside each case stands what was seen (uv 0.11, November 2026, Linux x86-64, wheels only): what was asked for, the
Python, the error without the rule, and what was installed with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from envbuilder.conda_yaml import MatchSpec
from envbuilder.environment_spec import EnvironmentSpec, Stated
from envbuilder.errors import Source
from envbuilder.mlmodel import MLmodel
from envbuilder.python_request import PythonRequest
from envbuilder.repair import REPAIRS, AskedFor, Limit, Rename, repaired, repairs_of
from envbuilder.requirement import Requirement
from tests.strategies import REQUIREMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Source(file="conda.yaml", key="dependencies[2].pip[0]")
NAMES: Final = tuple(one.name for one in REPAIRS)
NOTHING: Final[frozenset[str]] = frozenset()


def mlmodel(loader: str = "mlflow.sklearn", *, saved_by: str | None = "2.9.2", inputs: str | None = None) -> MLmodel:
    signature = f"signature:\n  inputs: '{inputs}'\n" if inputs is not None else ""
    version = f"mlflow_version: {saved_by}\n" if saved_by is not None else ""
    text = f"flavors:\n  python_function:\n    loader_module: {loader}\n{version}{signature}"
    return MLmodel.parse(text, file="MLmodel")


def spec(
    *lines: str, python: str = "3.10", constraints: tuple[str, ...] = (), conda: tuple[str, ...] = ()
) -> EnvironmentSpec:
    return EnvironmentSpec(
        python=Stated(value=PythonRequest.parse(python), source=SOURCE),
        requirements=tuple(Requirement.parse(line, source=SOURCE) for line in lines),
        constraints=tuple(Requirement.parse(line, source=SOURCE) for line in constraints),
        match_specs=tuple(MatchSpec.parse(text, source=SOURCE) for text in conda),
    )


def mended(found: EnvironmentSpec, model: MLmodel | None = None, *off: str) -> EnvironmentSpec:
    return repaired(found, model or mlmodel(), switched_off=frozenset(off))


def names(found: EnvironmentSpec) -> list[str]:
    return [one.name for one in repairs_of(found)]


def test_every_rule_has_a_name_of_its_own_and_one_sentence() -> None:
    assert len(set(NAMES)) == len(REPAIRS)
    for one in REPAIRS:
        assert re.fullmatch(r"[a-z0-9.-]+", one.name)
        assert one.reason
        assert not one.reason.endswith(".")
        assert one.source == Source(file="envbuilder", key=f"repairs.{one.name}")
        assert one.minors


@pytest.mark.parametrize(
    ("asked", "requirements", "constraints"),
    [
        (spec("mlflow==2.9.2"), ("mlflow==2.9.2", "setuptools<81"), ()),
        (spec("mlflow==2.9.2", "setuptools"), ("mlflow==2.9.2", "setuptools"), ("setuptools<81",)),
        (spec("mlflow==2.9.2", python="3.13"), ("mlflow==2.9.2", "setuptools<81"), ()),
        (spec("mlflow==2.9.*"), ("mlflow==2.9.*", "setuptools<81"), ()),
        (spec("mlflow~=2.9.0"), ("mlflow~=2.9.0", "setuptools<81"), ()),
        (spec("mlflow===2.9.2"), ("mlflow===2.9.2", "setuptools<81"), ()),
        (spec("mlflow<2.16"), ("mlflow<2.16", "setuptools<81"), ()),
        (spec("mlflow", constraints=("mlflow<2.10",)), ("mlflow", "setuptools<81"), ("mlflow<2.10",)),
        (spec("pandas==2.0.3"), ("pandas==2.0.3",), ("numpy<2",)),
        (spec("pandas==2.0.3", "numpy>=1.20,!=1.25"), ("numpy!=1.25,>=1.20", "pandas==2.0.3"), ("numpy<2",)),
        (spec("pandas==2.0.3", "numpy<3"), ("numpy<3", "pandas==2.0.3"), ("numpy<2",)),
        (spec("pandas==1.0.5", python="3.8"), ("pandas==1.0.5",), ("numpy<1.24",)),
        (spec("torch==2.2.2+cpu"), ("torch==2.2.2+cpu",), ("numpy<2",)),
        (spec("scikit-learn==0.24.2", python="3.9"), ("scikit-learn==0.24.2",), ("numpy<2", "scipy<1.9")),
        (spec("pandas==2.0.3", python=">=3.8,<3.10"), ("pandas==2.0.3",), ("numpy<2",)),
    ],
    ids=lambda one: " ".join(one.requirement_lines()) if isinstance(one, EnvironmentSpec) else None,
)
def test_a_rule_limits_what_is_left_open(
    asked: EnvironmentSpec, requirements: tuple[str, ...], constraints: tuple[str, ...]
) -> None:
    found = mended(asked)
    assert found.requirement_lines() == requirements
    assert found.constraint_lines() == constraints
    assert found.digest != asked.digest
    added = {*found.requirements, *found.constraints} - {*asked.requirements, *asked.constraints}
    assert {one.source for one in added} == {one.source for one in repairs_of(found)}


@pytest.mark.parametrize(
    "asked",
    [
        spec("mlflow"),
        spec("mlflow>=2.1,<3"),
        spec("mlflow~=2.9"),
        spec("mlflow==2.16.0"),
        spec("mlflow==2.9.2", "setuptools==65.5.0"),
        spec("mlflow==2.9.2", constraints=("setuptools<70",)),
        spec("mlflow==2.9.2", "setuptools>=82"),
        spec("mlflow==2.9.2", "setuptools @ https://files.example.com/setuptools-82.0.0-py3-none-any.whl"),
        spec("mlflow @ https://files.example.com/mlflow-2.9.2-py3-none-any.whl"),
        spec("mlflow===odd"),
        spec("mlflow<2", constraints=("mlflow>2",)),
        spec("mlflow==2.9.2", conda=("setuptools=65",)),
        spec("mlflow", conda=("mlflow=2.9.2",)),
        spec("mlflow==2.9.2", conda=("mlflow=2.9.2",)),
        spec("pandas==2.0.3", "numpy==1.26.4"),
        spec("pandas==2.0.3", "numpy==2.1.0"),
        spec("pandas==2.0.3", conda=("numpy",)),
        spec("pandas==2.0.3", python="3.8"),
        spec("pandas==2.0.3", python="3.13"),
        spec("xgboost==1.3.3", "pandas==1.5.3", "numpy==1.22.4"),
        spec("six==1.16.0", "sktime"),
        spec(),
        spec("sklearn", conda=("scikit-learn=1.0",)),
        spec("sklearn @ https://files.example.com/sklearn-0.0-py3-none-any.whl"),
        spec("pywin32==306; sys_platform == 'win32'"),
        spec("tensorflow-intel==2.14.0; platform_system == 'Windows'"),
    ],
    ids=lambda one: " ".join((*one.requirement_lines(), *one.constraint_lines())) or "nothing",
)
def test_what_is_pinned_or_from_conda_or_not_broken_is_left_alone(asked: EnvironmentSpec) -> None:
    assert mended(asked) is asked
    assert repairs_of(asked) == ()


def test_a_limit_holds_under_the_marker_of_what_breaks() -> None:
    old = 'python_version < "3.11"'
    found = mended(spec(f"pandas==2.0.3; {old}", 'pandas==2.2.3; python_version >= "3.11"'))
    assert found.constraint_lines() == (f"numpy<2; {old}",)
    found = mended(spec(f"pandas==2.0.3; {old}", "shap==0.45.1"))
    assert found.constraint_lines() == ("numpy<2",)
    found = mended(spec(f"mlflow==2.9.2; {old}", 'mlflow-skinny==2.9.2; extra == "x"'))
    assert found.requirement_lines()[2:] == ('setuptools<81; extra == "x"', f"setuptools<81; {old}")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("sklearn==0.24.1",), ("scikit-learn==0.24.1",)),
        (("sklearn",), ("scikit-learn",)),
        (("sklearn==0.0",), ("scikit-learn",)),
        (("sklearn==0.0.post5; python_version > '3.0'",), ('scikit-learn; python_version > "3.0"',)),
        (("sklearn[docs]==1.2.2",), ("scikit-learn[docs]==1.2.2",)),
        (("sklearn==0.0", "scikit-learn==1.5.2"), ("scikit-learn==1.5.2",)),
        (("sklearn", "sklearn"), ("scikit-learn",)),
        (("tensorflow-intel==2.14.0",), ('tensorflow-intel==2.14.0; sys_platform == "win32"',)),
        (
            ("pywin32==306; python_version > '3.0' or extra == 'x'",),
            ('pywin32==306; (python_version > "3.0" or extra == "x") and sys_platform == "win32"',),
        ),
    ],
)
def test_what_is_replaced_is_kept_with_the_reason(lines: tuple[str, ...], expected: tuple[str, ...]) -> None:
    asked = spec(*lines, python="3.13")
    found = mended(asked)
    assert found.requirement_lines() == expected
    (rule,) = repairs_of(found)
    (lost,) = found.overridden
    assert (lost.field, lost.value, lost.source) == ("requirements", asked.requirements[0].text, SOURCE)
    assert (lost.reason, lost.by) == (rule.reason, rule.source)
    assert mended(asked, None, rule.name) is asked


def test_a_package_that_was_renamed_is_mended_as_what_it_is() -> None:
    found = mended(spec("sklearn==0.24.1", python="3.9"))
    assert names(found) == ["sklearn-is-scikit-learn", "numpy-before-2", "scipy-before-1.9"]


@pytest.mark.parametrize(
    ("model", "bound"),
    [
        (mlmodel("mlflow.gluon"), "2.20"),
        (mlmodel("mlflow.fastai", saved_by=None), "3"),
        (mlmodel("mlflow.diviner"), "3.7"),
        (mlmodel("mlflow.promptflow"), "3.7"),
        (mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]'), "2.18"),
    ],
)
def test_an_unpinned_mlflow_is_one_that_can_read_the_model(model: MLmodel, bound: str) -> None:
    limits = (f"mlflow-skinny<{bound}", f"mlflow<{bound}")
    assert mended(spec("mlflow"), model).constraint_lines() == limits
    assert mended(spec("mlflow-skinny>=2.1"), model).constraint_lines() == limits
    for pinned in (spec("mlflow==3.8.1"), spec("mlflow", "mlflow-skinny==3.8.1"), spec("mlflow", conda=("mlflow",))):
        assert mended(pinned, model) is pinned
    old = spec("mlflow", python="3.7")
    assert mended(old, model) is old


@pytest.mark.parametrize(
    "model",
    [
        mlmodel("mlflow.fastai_of_ours"),
        mlmodel(),
        mlmodel(inputs='[{"name": "a", "type": "double"}]'),
        mlmodel(inputs='[{"name": "a", "type": "double", "required": false}]', saved_by="2.10.0"),
        mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]', saved_by=None),
        mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]', saved_by="unknown"),
        mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]', saved_by="9" * 5000),
        mlmodel(inputs='[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]'),
    ],
)
def test_an_mlflow_that_reads_the_model_is_left_alone(model: MLmodel) -> None:
    asked = spec("mlflow")
    assert mended(asked, model) is asked


def test_optional_columns_of_the_answer_count_as_well() -> None:
    column = '[{"name": "a", "type": "double", "optional": true}]'
    text = (
        f"flavors: {{python_function: {{loader_module: m}}}}\nmlflow_version: 2.4.1\nsignature: {{outputs: '{column}'}}"
    )
    assert names(mended(spec("mlflow"), MLmodel.parse(text, file="MLmodel"))) == ["mlflow-with-optional-columns"]


_ABOUT: Final = tuple(line for one in REPAIRS if isinstance(one.when, AskedFor) for line in one.when.packages)
_LIMITED: Final = tuple(line for one in REPAIRS if isinstance(one.change, Limit) for line in one.change.packages)
_PACKAGES: Final = sorted({ParsedRequirement(line).name for line in (*_ABOUT, *_LIMITED)})
_PINS: Final = st.tuples(st.sampled_from(_PACKAGES), st.integers(0, 3), st.integers(0, 30)).map(
    lambda parts: f"{parts[0]}=={parts[1]}.{parts[2]}"
)
_OLD: Final = st.sampled_from(_ABOUT) | st.sampled_from(_LIMITED) | st.sampled_from(_PACKAGES)
_LINES: Final = st.lists(_OLD | _PINS | REQUIREMENTS, max_size=5, unique_by=lambda one: ParsedRequirement(one).name)
_PYTHONS: Final = st.sampled_from(["3.7", "3.8.18", "3.9", "3.10", "3.11", "3.12", "3.13", ">=3.8"])
_MODELS: Final = st.sampled_from(
    [
        mlmodel(),
        mlmodel("mlflow.fastai"),
        mlmodel("mlflow.gluon"),
        mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]'),
    ]
)
_OFF: Final = st.frozensets(st.sampled_from(NAMES))


@given(_LINES, _PYTHONS, _MODELS, _OFF)
def test_repairing_again_changes_nothing(lines: list[str], python: str, model: MLmodel, off: frozenset[str]) -> None:
    found = repaired(spec(*lines, python=python), model, switched_off=off)
    assert repaired(found, model, switched_off=off) is found


@given(_LINES, _PYTHONS, _MODELS)
def test_what_is_asked_for_stays_and_what_is_pinned_is_not_limited(
    lines: list[str], python: str, model: MLmodel
) -> None:
    asked = spec(*lines, python=python)
    found = mended(asked, model)
    replaced = {one.value for one in found.overridden}
    assert {one.text for one in asked.requirements} - replaced <= {one.text for one in found.requirements}
    pinned = {one.name for one in asked.requirements if one.specifier.startswith("==")}
    ours = {one.source for one in repairs_of(found) if isinstance(one.change, Limit)}
    assert not pinned & {one.name for one in (*found.requirements, *found.constraints) if one.source in ours}


@given(_LINES, _PYTHONS, _MODELS, st.sampled_from(NAMES))
def test_switching_a_rule_off_takes_away_what_it_did_and_nothing_else(
    lines: list[str], python: str, model: MLmodel, name: str
) -> None:
    asked = spec(*lines, python=python)
    with_it, without = mended(asked, model), mended(asked, model, name)
    assert name not in names(without)
    if name not in names(with_it):
        assert without == with_it
    others = [one for one in names(with_it) if one != name]
    # The wider limit of the same package takes the place of the narrower, and a name that stays wrong mends nothing.
    renames = isinstance(next(one for one in REPAIRS if one.name == name).change, Rename)
    assert renames or set(others) <= set(names(without))


@given(_LINES, _PYTHONS, _MODELS)
def test_all_rules_can_be_switched_off(lines: list[str], python: str, model: MLmodel) -> None:
    asked = spec(*lines, python=python)
    assert repaired(asked, model, switched_off=frozenset(NAMES)) is asked


@given(st.lists(REQUIREMENTS, max_size=5))
def test_packages_of_no_rule_are_left_alone(lines: list[str]) -> None:
    known = {canonicalize_name(name) for name in _PACKAGES}
    asked = spec(*(line for line in lines if canonicalize_name(ParsedRequirement(line).name) not in known))
    assert mended(asked) is asked


OPTIONAL = mlmodel(inputs='[{"name": "a", "type": "double", "optional": true}]')


@dataclass(frozen=True, kw_only=True)
class Case:
    """An environment that a rule mends: what is asked for, what is run, and what is said where it breaks."""

    rule: str
    python: str
    asked: tuple[str, ...]
    code: str
    breakage: str
    model: MLmodel = mlmodel()  # noqa: RUF009 a frozen value


_READ_OPTIONAL = """
import pathlib, tempfile
from mlflow.models import Model
text = '''flavors: {python_function: {loader_module: m}}
mlflow_version: 2.9.2
signature: {inputs: '[{"name": "a", "type": "double", "optional": true}]', outputs: null}
'''
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "MLmodel").write_text(text)
    assert Model.load(folder).signature is not None
"""
_LOADER = """
import importlib.machinery, importlib.util
# Looked for before MLflow itself is imported, which takes seconds.
folders = importlib.util.find_spec("mlflow").submodule_search_locations
assert importlib.machinery.PathFinder.find_spec("mlflow.{0}", folders), "no mlflow.{0}"
importlib.import_module("mlflow.{0}")._load_pyfunc
"""
_PREDICT_FRAME = """
import pandas, xgboost
frame = xgboost.DMatrix(pandas.DataFrame({"a": [0.0, 1.0] * 9}), label=[0, 1] * 9)
xgboost.train({}, frame, 1).predict(frame)
"""
_PREDICT_ARRAY = """
import lightgbm, numpy
x = numpy.arange(80.0).reshape(40, 2)
lightgbm.LGBMClassifier(n_estimators=1, verbose=-1).fit(x, [0, 1] * 20).predict(x)
"""

CASES: Final = (
    # mlflow 1.28.0 to 2.15.1, 3.9 to 3.12; with it setuptools 80.9.0. 2.16.0 and newer import without it.
    # 2.15.1 on 3.12 as well; 1.28.0 to 2.5.0 on 3.7 and 3.8 get setuptools through another package.
    # xgboost 1.4.2, 1.5.2, 1.6.2 (NameError in compat.py); not 1.3.3, 1.7.4. pmdarima 2.0.1, 2.0.3; not 2.0.4.
    Case(
        rule="setuptools-for-pkg-resources",
        python="3.10",
        asked=("mlflow-skinny==2.9.2",),
        code="import mlflow",
        breakage="No module named 'pkg_resources'",
    ),
    # mlflow 1.0.0, 1.12.1, 1.14.1, 1.17.0, 1.20.2, 1.22.0 to 1.26.0 on 3.7, 3.8 and 3.10; not 1.26.1.
    # onnx 1.7.0, 1.10.0, 1.11.0 on 3.8; not 1.12.0. With it protobuf 3.20.3.
    Case(
        rule="protobuf-before-4",
        python="3.10",
        asked=("mlflow-skinny==1.26.0",),
        code="import mlflow",
        breakage="cannot import name 'service'|Descriptors cannot",
    ),
    # mlflow and mlflow-skinny 1.26.1 and 1.27.0 on 3.10 with protobuf 6.30 to 7.34; with it 5.29. 1.28.0 limits it.
    Case(
        rule="protobuf-before-6",
        python="3.10",
        asked=("mlflow-skinny==1.27.0",),
        code="import mlflow",
        breakage="cannot import name 'service'",
    ),
    # On 3.8 with numpy 1.24.4, with it 1.23.5: pandas 0.25.3, 1.0.5 (not 1.1.5); scikit-learn 0.22.1, 0.22.2, 0.23.2
    # (not 0.24.1); onnx 1.7.0, 1.10.0 (not 1.11.0); mlflow 1.12.1 to 1.24.0 on 3.8 and 3.10 (not 1.25.0).
    Case(
        rule="numpy-before-1.24",
        python="3.8",
        asked=("pandas==1.0.5",),
        code="import pandas",
        breakage="module 'numpy' has no attribute",
    ),
    # On 3.10 with numpy 2.2.6, with it 1.26.4: each package of the rule but lightgbm and xgboost in at least one
    # version, the newest of those that break and the oldest that does not, e.g. pandas 1.3.5 to 2.1.1 (not 2.1.2),
    # scikit-learn 1.0.2 to 1.3.0 (not 1.3.1), torch 1.12.1 and 2.2.2 (`Tensor.numpy()`; not 2.3.0), onnxruntime 1.17.3
    # (1.16.3 dies with a segmentation fault in the first prediction).
    # lightgbm 3.2.1 to 4.3.0 on 3.11 with numpy 2.4.6 (training and predicting with a data frame; not 4.4.0),
    # xgboost 1.4.2 on 3.11 (`np.array(copy=False)`; not 1.6.2).
    Case(
        rule="numpy-before-2",
        python="3.10",
        asked=("numexpr==2.9.0",),
        code="import numexpr",
        breakage="numpy.core.multiarray failed to import",
    ),
    # On 3.8 with scipy 1.10.1, with it 1.8.1: scikit-learn 0.22.2, 0.23.2, 0.24.2 (not 1.0); 0.24.2 on 3.9.
    Case(
        rule="scipy-before-1.9",
        python="3.8",
        asked=("scikit-learn==0.24.2",),
        code="import sklearn.cross_decomposition",
        breakage="cannot import name 'pinv2'",
    ),
    # On 3.8 with pandas 2.0.3, with it 1.5.3: xgboost 1.2.1, 1.3.3, 1.4.2, 1.5.2 (not 1.6.2); 1.5.2 on 3.10.
    Case(
        rule="pandas-before-2",
        python="3.8",
        asked=("xgboost==1.3.3", "pandas"),
        code=_PREDICT_FRAME,
        breakage="Int64Index",
    ),
    # On 3.11 with scikit-learn 1.9.1, with it 1.7.2: lightgbm 3.2.1, 3.3.5, 4.0.0, 4.3.0, 4.4.0, 4.5.0 (not 4.6.0).
    Case(
        rule="scikit-learn-before-1.8",
        python="3.11",
        asked=("lightgbm==4.5.0", "scikit-learn"),
        code=_PREDICT_ARRAY,
        breakage="unexpected keyword argument 'force_all_finite'",
    ),
    # The wheels of mlflow-skinny: mlflow.gluon is in 2.19.0, not in 2.20.0; mlflow.fastai in 2.22.5, not in 3.0.0;
    # mlflow.diviner and mlflow.promptflow in 3.6.0, not in 3.7.0.
    Case(
        rule="mlflow-with-gluon",
        python="3.10",
        asked=("mlflow-skinny", "pandas"),
        code=_LOADER.format("gluon"),
        breakage="no mlflow.gluon",
        model=mlmodel("mlflow.gluon"),
    ),
    Case(
        rule="mlflow-with-fastai",
        python="3.10",
        asked=("mlflow-skinny", "pandas"),
        code=_LOADER.format("fastai"),
        breakage="no mlflow.fastai",
        model=mlmodel("mlflow.fastai"),
    ),
    Case(
        rule="mlflow-with-diviner-and-promptflow",
        python="3.10",
        asked=("mlflow-skinny", "pandas"),
        code=_LOADER.format("diviner"),
        breakage="no mlflow.diviner",
        model=mlmodel("mlflow.diviner"),
    ),
    # A 2.9.2 model with an optional column on 3.10: read by 2.4.2 to 2.17.2, not by 2.18.0 to 2.22.5 and 3.17.2.
    Case(
        rule="mlflow-with-optional-columns",
        python="3.10",
        asked=("mlflow-skinny", "pandas"),
        code=_READ_OPTIONAL,
        breakage="unexpected keyword argument 'optional'",
        model=OPTIONAL,
    ),
    # `sklearn==0.24.1` never existed, 0.0 and its post-releases have no wheels; scikit-learn 0.24.1 has one for 3.8.
    Case(
        rule="sklearn-is-scikit-learn",
        python="3.8",
        asked=("sklearn==0.24.2",),
        code="import sklearn.cross_decomposition",
        breakage="no version of sklearn==0.24.2",
    ),
    # tensorflow-intel 2.14.0 has wheels for win_amd64 only, as have pywin32 306 and pywinpty 2.0.12.
    Case(
        rule="packages-of-windows",
        python="3.10",
        asked=("tensorflow-intel==2.14.0", "pywin32==306", "pywinpty==2.0.12"),
        code="",
        breakage="no wheels|no usable wheels",
    ),
)


def _interpreter(minor: str) -> Path:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(versions.glob(f"{minor}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {minor} under pyenv")
    return found[0]


@pytest.fixture(scope="session")
def said(request: pytest.FixtureRequest) -> Callable[[EnvironmentSpec, str], str]:
    """What uv, or the code in the environment that it made, says against it; nothing where all is well."""
    folder = request.config.cache.mkdir("repair-environments")

    def run(found: EnvironmentSpec, code: str) -> str:
        interpreter = _interpreter(found.python.value.text)
        lines, limits = (
            "".join(f"{line}\n" for line in some) for some in (found.requirement_lines(), found.constraint_lines())
        )
        key = hashlib.sha256(f"{interpreter}\n{lines}\n{limits}".encode()).hexdigest()[:12]
        home = folder / key
        if not (home / "complete").exists():  # no other test asks for the same
            shutil.rmtree(home, ignore_errors=True)
            uv, environ = find_uv_bin(), {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
            subprocess.run((uv, "venv", "-q", "--python", interpreter, home), check=True, env=environ)
            (home / "requirements.txt").write_text(lines)
            (home / "constraints.txt").write_text(limits)
            install = (uv, "pip", "install", "-q", "--no-build", "--python", home / "bin" / "python")
            files = ("-r", home / "requirements.txt", "-c", home / "constraints.txt")
            installed = subprocess.run((*install, *files), check=False, capture_output=True, text=True, env=environ)
            if installed.returncode != 0:
                return installed.stderr
            (home / "complete").touch()
        command = (home / "bin" / "python", "-W", "ignore", "-c", code)
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        return ran.stderr if ran.returncode != 0 else ""

    return run


def test_every_rule_is_tried() -> None:
    assert sorted(case.rule for case in CASES) == sorted(NAMES)


@pytest.mark.network
@pytest.mark.process
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_it_breaks_without_the_rule_and_works_with_it(case: Case, said: Callable[[EnvironmentSpec, str], str]) -> None:
    asked = spec(*case.asked, python=case.python)
    assert re.search(case.breakage, said(mended(asked, case.model, case.rule), case.code))
    found = mended(asked, case.model)
    assert case.rule in names(found)
    assert said(found, case.code) == ""
