"""The rules that read what a model asks for, one case each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest
from envbuilder.audit import azure, model_content, python_version, reproducibility
from envbuilder.choices import Choices
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.model import Model
from envbuilder.model_environment import resolve_model
from envbuilder.model_files import ModelFiles
from tests.audit.samples import lock_of, pinned
from tests.conftest import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.conda_yaml import CondaYaml
    from envbuilder.environment_spec import EnvironmentSpec


def asked(folder: Path, conda: str, environment: str | None = None) -> tuple[EnvironmentSpec, CondaYaml]:
    """Return what a model with this conda.yaml asks for."""
    folder.mkdir(exist_ok=True)
    text = (EXAMPLES / "scale" / "MLmodel").read_text()
    (folder / "MLmodel").write_text(re.sub(r"python_version: \S+", "python_version: 3.12.4", text))
    (folder / "conda.yaml").write_text(conda)
    model = Model.read(folder)
    assert model.conda is not None
    return resolve_model(model, Choices(environment=environment)), model.conda


CLEAN = "channels: [conda-forge]\ndependencies: [python=3.12.4, pip=24.0, {pip: [numpy==2.0.0]}]\n"


@pytest.mark.parametrize(
    ("conda", "environment", "rules"),
    [
        (CLEAN, None, set()),
        (CLEAN.replace("channels: [conda-forge]\n", ""), None, {"azure-no-channels"}),
        (CLEAN.replace("pip=24.0, ", ""), None, {"azure-no-pip"}),
        (CLEAN.replace("pip=24.0", "pip"), None, {"azure-pip-not-pinned"}),
        ("channels: [conda-forge]\ndependencies: [python=3.12.4]\n", None, set()),
        (CLEAN, "{amend: {image: registry.example/base}}", {"base-not-pinned"}),
        (CLEAN, "{amend: {image: 'registry.example/base:latest'}}", {"base-not-pinned"}),
        (CLEAN, "{amend: {image: 'registry.example/base:1'}}", set()),
    ],
)
def test_azures_rules_speak_where_they_are_broken(
    conda: str, environment: str | None, rules: set[str], tmp_path: Path
) -> None:
    spec, read = asked(tmp_path / "model", conda, environment)
    assert {one.rule for one in azure.check(spec, read)} == rules


def test_azure_has_rules_for_names_too(tmp_path: Path) -> None:
    spec, _ = asked(tmp_path / "model", CLEAN)
    for name, rules in (
        ("AzureML-mine:1", {"azure-curated-prefix"}),
        ("n" * 256, {"azure-name-too-long"}),
        ("mine:1", set()),
    ):
        named = replace(spec, environment=Stated(value=name, source=Source(file="a.yaml")))
        assert {one.rule for one in azure.check(named, None)} == rules


def rules(spec: EnvironmentSpec) -> list[str]:
    lock = lock_of(pinned("numpy", "2.0.0"))
    found = reproducibility.of_spec(
        spec, replace(lock, packages_digest=digest.parse(spec.packages_digest)), lock_file="l"
    )
    return sorted(one.rule for one in found)


@pytest.mark.parametrize(
    ("dependencies", "due"),
    [
        ("python=3.12.4, pip=24.0, {pip: [numpy==2.0.0]}", []),
        ("python=3.12.4, pip=24.0, {pip: [numpy>=2]}", ["unpinned"]),
        ("python=3.12.4, pip=24.0, {pip: [numpy==2.*]}", ["unpinned"]),
        ("python=3.12.4, scipy=1.14.0", []),
        ("python=3.12.4, scipy>=1", ["unpinned"]),
        ("python=3.12.4, pip=24.0, {pip: ['t @ git+https://git.example/t@" + "a" * 40 + "']}", []),
        ("python=3.12.4, pip=24.0, {pip: ['t @ https://files.example/t-1.0-py3-none-any.whl']}", []),
        ("python=3.12, pip=24.0, {pip: [numpy==2.0.0]}", ["python-not-exact"]),
    ],
)
def test_what_is_open_in_what_is_asked_for_is_told(dependencies: str, due: list[str], tmp_path: Path) -> None:
    spec, _ = asked(tmp_path / "model", f"channels: [conda-forge]\ndependencies: [{dependencies}]\n")
    assert rules(spec) == due


def test_a_range_that_is_locked_is_a_note_with_the_amendment_and_else_a_warning(tmp_path: Path) -> None:
    spec, _ = asked(tmp_path / "model", CLEAN.replace("numpy==2.0.0", "numpy"))
    lock = replace(lock_of(pinned("numpy", "2.0.0")), packages_digest=digest.parse(spec.packages_digest))
    (found,) = reproducibility.of_spec(spec, lock, lock_file="l")
    assert (found.severity, found.amendment) == ("note", "amend: {pip: {bump: ['numpy==2.0.0']}}")
    without = {one.rule: one for one in reproducibility.of_spec(spec, None, lock_file="")}
    assert (without["unpinned"].severity, without["unpinned"].amendment) == ("warning", "")


def test_a_stale_lock_extra_indexes_and_two_pythons_are_told(tmp_path: Path) -> None:
    text = "name: amended\namend: {extra_index_urls: {add: ['https://more.example/simple']}, index_url: 'https://main.example/simple'}"
    (tmp_path / "environment.yaml").write_text(text)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "python_env.yaml").write_text("python: 3.11.1\ndependencies: []\n")
    spec, _ = asked(folder, CLEAN, str(tmp_path / "environment.yaml"))
    found = [one.rule for one in reproducibility.of_spec(spec, lock_of(), lock_file="l")]
    assert "stale-lock" in found
    assert "extra-index" in found
    assert "sources-disagree" in found


@pytest.mark.parametrize(("version", "rule"), [("3.9.1", "python-end-of-life"), ("3.12.4", None), ("4.1", None)])
def test_a_python_is_as_old_as_the_table_says(version: str, rule: str | None) -> None:
    found = list(python_version.check(version, where=None, today=date(2026, 3, 1), known=python_version.table()))
    assert [one.rule for one in found] == ([rule] if rule is not None else [])


def test_a_model_without_signature_and_example_and_with_binary_texts_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    asked(folder, CLEAN)
    text = (folder / "MLmodel").read_text()
    head = text.partition("saved_input_example_info")[0].partition("signature:")[0]
    (folder / "MLmodel").write_text(head)
    (folder / "weights.bin").write_bytes(b"\1\2\3" * 100)
    (folder / "notes.txt").write_bytes(b"\0binary /home/anna/x")
    (folder / "cut.pkl").write_bytes(b"\x80\x04\x8c")
    (folder / "hidden.pkl").write_bytes(b"\x80\x04\x8c\x02os\x32\x93.")
    model = Model.read(folder)
    found = {
        (one.rule, one.where.file if one.where is not None else "")
        for one in model_content.check(model, ModelFiles.read(folder))
    }
    named = {(rule, file.rpartition("/")[2]) for rule, file in found}
    assert {("no-signature", "MLmodel"), ("no-input-example", "MLmodel")} <= named
    assert {("unreadable-pickle", "cut.pkl"), ("hidden-import", "hidden.pkl")} <= named
    assert not [file for _, file in named if file in {"weights.bin", "notes.txt"}]
