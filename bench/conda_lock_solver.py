"""Runs the solver for pip packages that conda-lock brings, and nothing else of it: a child process of `lock.py`.

    python bench/conda_lock_solver.py INDEX_URL PYTHON REQUIREMENT…

No conda is needed, as its answer for conda packages would be empty. conda-lock 4.0.3 knows seven names of manylinux and
takes no other; without the rest of them it fails on wheels of 2026, so they are added.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from conda_lock import pypi_solver
from conda_lock.models.lock_spec import VersionedDependency
from conda_lock.models.pip_repository import PipRepository


def main() -> None:
    index, python, *names = sys.argv[1:]
    pypi_solver.MANYLINUX_TAGS = ["1", "2010", "2014", *(f"_2_{minor}" for minor in range(17, 29))]
    with tempfile.TemporaryDirectory() as folder:
        # Which conda package is which pip package, asked of a server otherwise: there is no conda package here.
        mapping = Path(folder) / "mapping.json"
        mapping.write_text("{}")
        found = pypi_solver.solve_pypi(
            pip_specs={name: VersionedDependency(name=name, manager="pip", version="*") for name in names},
            use_latest=[],
            pip_locked={},
            conda_locked={},
            python_version=python,
            platform="linux-64",
            pip_repositories=[PipRepository(url=index)],
            allow_pypi_requests=False,
            mapping_url=mapping.as_uri(),
        )
    print("\n".join(f"{one.name}=={one.version}" for one in found.values()))


if __name__ == "__main__":
    main()
