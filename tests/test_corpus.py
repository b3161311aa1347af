"""Real model directories, where they are at hand: each gives a spec or an error that says where and how to fix it.

What comes of them is kept in `snapshots/real_models.tsv`; `ENVBUILDER_UPDATE_SNAPSHOTS=1` writes it anew.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from bench import corpus_locks
from envbuilder.conda_yaml import CondaYaml
from envbuilder.errors import EnvBuilderError, Source
from envbuilder.model import Model
from envbuilder.pip_line import PipOption, classify
from envbuilder.resolution import resolve
from envbuilder.yaml_text import load
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.machine import Machine

SHARED = Path(os.environ.get("ENVBUILDER_SHARED", REPOSITORY.parent / "shared"))
SNAPSHOT = Path(__file__).with_name("snapshots") / "real_models.tsv"
COLUMNS = ("model", "files", "mlflow", "env", "python", "pip", "conda", "not used", "lost", "outcome")


def directories(name: str) -> list[Path]:
    found = {path.parent for path in (SHARED / name).rglob("MLmodel")}
    return sorted(path for path in found if "metadata" not in path.relative_to(SHARED).parts)


def outcome(directory: Path) -> EnvironmentSpec | EnvBuilderError:
    try:
        return resolve(Model.read(directory))
    except EnvBuilderError as error:
        return error


def row(directory: Path, found: EnvironmentSpec | EnvBuilderError) -> tuple[str, ...]:
    """Say in one line what a model is like and what came of it."""
    files = [name for name in ("conda.yaml", "python_env.yaml", "requirements.txt") if (directory / name).is_file()]
    try:
        node = load((directory / "MLmodel").read_bytes(), source_file="MLmodel")
    except EnvBuilderError:
        node = {}
    document = node if isinstance(node, Mapping) else {}
    flavors = document.get("flavors")
    flavor = flavors.get("python_function") if isinstance(flavors, Mapping) else None
    env = flavor.get("env") if isinstance(flavor, Mapping) else None
    shape = "mapping" if isinstance(env, Mapping) else "text" if isinstance(env, str) else "absent"
    traits = (
        directory.relative_to(SHARED).as_posix(),
        " ".join(files) or "-",
        str(document.get("mlflow_version") or "-"),
        shape,
    )
    if isinstance(found, EnvBuilderError):
        problems = "; ".join(
            f"{one.what} [{Path(one.where.file).name}: {one.where.key}]" for one in found.problems if one.where
        )
        return (*traits, *("-",) * 5, f"{found.kind}: {problems}")
    lost = Counter(one.field for one in found.overridden)
    return (
        *traits,
        f"{found.python.value.text} [{Path(found.python.source.file).name}]",
        str(len(found.requirements)),
        str(len(found.match_specs)),
        " ".join(sorted({one.name for one in found.unused})) or "-",
        " ".join(f"{count} {field}" for field, count in sorted(lost.items())) or "-",
        f"{'conda and pip' if found.needs_conda else 'pip'}{f', on {found.base.text}' if found.base else ''}",
    )


def test_real_models_give_a_spec_or_a_helpful_error() -> None:
    rows = []
    for name in ("corpus", "models"):
        for directory in directories(name):
            found = outcome(directory)
            rows.append(row(directory, found))
            if isinstance(found, EnvBuilderError):
                assert all(problem.where and problem.fix for problem in found.problems)
            else:
                assert found.python.value.minor is not None
                assert yaml.safe_load(found.to_text())["python"]
    if not rows:
        pytest.skip(f"no real models in {SHARED}")
    text = "".join("\t".join(cells) + "\n" for cells in [COLUMNS, *rows])
    if os.environ.get("ENVBUILDER_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text()


def dependency_lines(file: Path) -> Iterable[tuple[str, Source]]:
    """Every line of a conda.yaml that asks for something, found without envbuilder's own reader."""
    document = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506 plain text
    for index, item in enumerate(document.get("dependencies") or ()):
        where = Source(file=str(file), key=f"dependencies[{index}]")
        if isinstance(item, str):
            yield item, where
            continue
        for key, lines in item.items():
            for number, line in enumerate(lines or ()):
                yield line, where.child(key).child(number)


def test_no_line_of_a_real_conda_yaml_is_lost() -> None:
    """Each ends up as a match spec, a requirement, an option or a refusal, under its own place."""
    files = [*SHARED.glob("corpus/**/conda.yaml"), *SHARED.glob("models/**/conda.yaml")]
    if not files:
        pytest.skip(f"no conda.yaml in {SHARED}")
    kinds: Counter[str] = Counter()
    for file in files:
        conda = CondaYaml.parse(file.read_bytes(), file=str(file))
        found: dict[Source, list[str]] = {}
        for spec in conda.match_specs:
            found.setdefault(spec.source, []).append("MatchSpec")
        for line in conda.pip_lines:
            for item in classify(line):
                found.setdefault(line.source, []).append(type(item).__name__)
        for text, source in dependency_lines(file):
            assert source in found or text.lstrip().startswith("#"), (text, source)
            kinds.update(found.get(source, ["comment"]))
    assert kinds["MatchSpec"] > 100
    assert kinds["Requirement"] > 300


def test_every_line_that_was_read_is_in_the_spec_or_reported() -> None:
    """From what is read to what is resolved: nothing falls between."""
    seen = 0
    for name in ("corpus", "models"):
        for directory in directories(name):
            spec = outcome(directory)
            if isinstance(spec, EnvBuilderError):
                continue
            conda = Model.read(directory).conda
            told = {one.source for one in spec.entries()}
            told |= {one.source for one in spec.overridden} | {one.source for one in spec.unused}
            specs = [one.source for one in (conda.match_specs if conda is not None else ())]
            lines = [one.source for one in (conda.pip_lines if conda is not None else ())]
            for source in (*specs, *lines):
                seen += 1
                assert source in told or _is_python_or_tool(conda, source) or _includes_a_file(conda, source), source
    if not seen:
        pytest.skip(f"no real models in {SHARED}")


def _is_python_or_tool(conda: CondaYaml | None, source: Source) -> bool:
    """Python's match spec is the spec's Python; pip is asked for by name alone in two files."""
    names = {one.name for one in (conda.match_specs if conda else ()) if one.source == source}
    return bool(names & {"python", "pip", "setuptools", "wheel"})


def _includes_a_file(conda: CondaYaml | None, source: Source) -> bool:
    lines = [one for one in (conda.pip_lines if conda else ()) if one.source == source]
    items = [item for line in lines for item in classify(line)]
    return all(isinstance(item, PipOption) and item.name in {"--requirement", "--constraint"} for item in items)


FEW = (
    "CalaW__sjtu-summer/model",
    "DESMOND135__mlflow-daghub-pipeline",
    "VNBcoding__Ontario-US-Trade-Dashboard",
    "YasaminAbbaszadegan__LeafDoctor/model",
    "jithsg__Azure-Databricks-MLflow-AWS_Apprunner-App/model",
    "magheya__sentiment-analysis-mlops/backend/mlflow_model",
)
"""Models that lock, or fail, in a second or two each and each in another way."""


def written_rows() -> dict[str, str]:
    header, *lines = corpus_locks.TABLE.read_text().splitlines()
    assert tuple(header.split("\t")) == corpus_locks.COLUMNS
    return {line.partition("\t")[0]: line for line in lines}


@pytest.mark.network
@pytest.mark.process
@pytest.mark.parametrize("model", FEW)
def test_a_real_model_locks_or_fails_as_it_did(model: str, machine: Machine) -> None:
    directory = SHARED / "corpus" / model
    if not directory.is_dir():
        pytest.skip(f"no real models in {SHARED}")
    assert "\t".join(corpus_locks.row(directory, machine)) == written_rows()[model]


def test_the_table_of_locks_has_every_model_and_every_failure_its_place() -> None:
    rows = {model: line.split("\t") for model, line in written_rows().items()}
    here = [path.relative_to(SHARED / "corpus").as_posix() for path in directories("corpus")]
    assert not here or here == list(rows)
    assert len(rows) > 50
    for _, _, _, outcome, reason, places, _ in rows.values():
        assert outcome.startswith(("locked: ", "needs channel ", "failed: "))
        assert (reason != "-") == (places != "-") == outcome.startswith("failed: ")
