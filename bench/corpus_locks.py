"""Locks every model of the corpus and writes down what came of it: `tests/snapshots/corpus_locks.tsv`.

    python bench/corpus_locks.py

For linux-64, with the Python that each model asks for, and as if nothing had been uploaded after one date: the same
table every time, as long as the index takes nothing back. Needs an index that says when its files were uploaded, and
the models in the folder that ENVBUILDER_SHARED names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from envbuilder import locking, model_environment, repair  # noqa: E402 - the repository is not a package
from envbuilder.choices import Choices  # noqa: E402
from envbuilder.errors import EnvBuilderError  # noqa: E402
from envbuilder.kept_lock import Preferences  # noqa: E402
from envbuilder.locking import Place  # noqa: E402
from envbuilder.machine import Machine  # noqa: E402
from envbuilder.reporter import Reporter  # noqa: E402
from envbuilder.settings import Settings  # noqa: E402
from envbuilder.target import Target  # noqa: E402

if TYPE_CHECKING:
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.errors import Source

SHARED: Final = Path(os.environ.get("ENVBUILDER_SHARED", REPOSITORY.parent / "shared"))
TABLE: Final = REPOSITORY / "tests" / "snapshots" / "corpus_locks.tsv"
DATE: Final = "2026-11-01"
COLUMNS: Final = ("model", "python", "lines", "outcome", "reason", "places", "repairs")
TARGET: Final = Target(subdir="linux-64")


def models() -> list[Path]:
    """Return the folders of the models, sorted."""
    found = {path.parent for path in (SHARED / "corpus").rglob("MLmodel")}
    return sorted(path for path in found if "metadata" not in path.relative_to(SHARED).parts)


def row(directory: Path, machine: Machine) -> tuple[str, ...]:
    """Lock a model, and say in one line what came of it."""
    name = directory.relative_to(SHARED / "corpus").as_posix()
    try:
        spec = model_environment.resolve(directory, Choices(), machine=machine)
    except EnvBuilderError as error:
        return (name, "-", "-", *failed(error), "-")
    about = (name, spec.python.value.text, str(len(spec.requirements)))
    repairs = " ".join(one.name for one in repair.repairs_of(spec)) or "-"
    if spec.needs_conda:
        channels = ", ".join(dict.fromkeys(one.value for one in spec.channels)) or "defaults"
        return (*about, f"needs channel {channels}", "-", "-", repairs)
    return (*about, *locked(spec, machine), repairs)


def locked(spec: EnvironmentSpec, machine: Machine) -> tuple[str, str, str]:
    preferences = Preferences(exclude_newer=DATE)
    try:
        place = Place.without_base(spec, TARGET)
        lock = locking.lock(spec, place, machine=machine, tool_version="corpus", preferences=preferences)
    except EnvBuilderError as error:
        return failed(error)
    return f"locked: {len(lock.packages)} packages, {lock.digest[7:19]}", "-", "-"


def failed(error: EnvBuilderError) -> tuple[str, str, str]:
    """Return the outcome, the first line of the reason, and the places that the error names."""
    first = error.problems[0].what.splitlines()[0]
    places = dict.fromkeys(place(one.where) for one in error.problems if one.where is not None)
    return f"failed: {error.exit_code}", first, ", ".join(places) or "-"


def place(where: Source) -> str:
    return f"{Path(where.file).name}: {where.key}" if where.key else Path(where.file).name


def text(rows: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(cells) + "\n" for cells in [COLUMNS, *rows])


def main() -> None:
    found = models()
    if not found:
        sys.exit(f"no models in {SHARED / 'corpus'}")
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        settings = replace(Settings.from_environ(os.environ), cache_dir=Path(cache))
        for directory in found:
            rows.append(row(directory, Machine(settings=settings, reporter=Reporter())))
            print(" | ".join(rows[-1]), file=sys.stderr)
    TABLE.write_text(text(rows))


if __name__ == "__main__":
    main()
