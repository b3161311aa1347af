"""Models saved by MLflow 1.10 to 3.17, asked in environments of the versions that saved them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kept_environment import kept_python
from tests.server.served import ROOT, run_cases

pytestmark = [pytest.mark.process, pytest.mark.network]

MODELS = Path(os.environ.get("ENVBUILDER_SHARED") or ROOT.parent / "shared") / "models"
INTERPRETERS = Path("~/.pyenv/versions").expanduser()

BARE = "1.10.0 without MLflow"
VERSIONS = {
    "1.10.0": (
        "3.7.16",
        ("mlflow==1.10.0", "scikit-learn==1.0.2", "pandas==1.3.5", "cloudpickle==2.2.1", "protobuf<4"),
    ),
    BARE: ("3.7.16", ("scikit-learn==1.0.2", "pandas==1.3.5", "cloudpickle==2.2.1")),
    "1.30.1": ("3.8.18", ("mlflow-skinny==1.30.1", "scikit-learn==1.3.2", "pandas<2", "cloudpickle==2.2.1")),
    "2.9.2": (
        "3.10.13",
        ("mlflow-skinny==2.9.2", "scikit-learn==1.7.2", "pandas==2.3.3", "numpy==1.26.4", "cloudpickle==3.1.2"),
    ),
    "2.22.5": (
        "3.10.13",
        ("mlflow-skinny==2.22.5", "scikit-learn==1.7.2", "pandas==2.3.3", "numpy==2.2.6", "cloudpickle==3.1.2"),
    ),
    "3.17.2": (
        "3.11.7",
        ("mlflow-skinny==3.17.2", "scikit-learn==1.9.1", "pandas==3.1.1", "numpy==2.4.6", "cloudpickle", "skops"),
    ),
}  # fmt: skip

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
COLUMNS = ["sl", "sw", "pl", "pw"]


def interpreter(version: str) -> Path:
    found = INTERPRETERS / version / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no interpreter {found}")
    return found


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models at {MODELS}")
@pytest.mark.parametrize("version", VERSIONS)
def test_models_of_every_age_answer(version: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    number, requirements = VERSIONS[version]
    # MLflow before 2.10 imports `pkg_resources`, and a new environment has no setuptools.
    needed = (*requirements, "setuptools<60")
    python = kept_python(request, "server-old-environment", needed, interpreter=interpreter(number))
    asked = []
    for model in ("sklearn_sig", "sklearn_nosig"):
        records = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
        asked += [
            case(model, {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}),
            case(model, {"dataframe_records": records}),
            case(model, {"dataframe_split": {"columns": COLUMNS, "data": ROWS[1:]}}),
        ]
    asked.append(case("pyfunc_code", {"dataframe_records": [{"a": 1, "b": 2}]}))
    asked.append(case("sklearn_sig", {"dataframe_split": {"columns": COLUMNS[1:], "data": [ROWS[0][1:]]}}))
    *answers, (refused, error) = run_cases(str(python), MODELS / version.split(maxsplit=1)[0], asked, tmp_path)
    wanted: list[list[Any]] = [[0, 2], [0, 2], [2]] * 2 + [[{"a": 1, "b": 2}]]
    assert answers == [(200, {"predictions": one}) for one in wanted]
    assert (refused, "['sl']" in error["message"]) == (400, True)


def test_a_workers_modules_are_imported_by_python_3_6() -> None:
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]); import worker;"
        "importlib.import_module(worker.make_package() + '.loop')"
    )
    subprocess.run((interpreter("3.6.15"), "-c", code, ROOT / "envbuilder" / "server"), check=True)


def case(model: str, request: object) -> dict[str, Any]:
    return {"model": model, "content_type": "application/json", "body": json.dumps(request).encode().hex()}
