from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder.environment_yaml import Replacement
from envbuilder.errors import InvalidFileError, Source
from envbuilder.model import Model
from envbuilder.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.override import Override

CHOICE = Source(file="--environment")
RULES = """
rules:
- {name: "churn-*", python: 3.9, environment: foo:1}
- {flavor: sklearn, environment: ./beside/other.yaml}
- {python: ">=3.8", environment: {image: inline:1, conda_file: conda.yaml}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with two versions of an environment, another file and a conda file."""
    there = tmp_path / "workspace"
    for name, text in {
        "environments/foo/1.yaml": "image: a",
        "environments/foo/2.yaml": "amend: {pip: {add: [six]}}",
        "beside/other.yaml": "image: other:1",
        "conda.yaml": "dependencies: [numpy]",
        "ca.pem": "certificate",
        "envbuilder.yaml": RULES,
    }.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(text)
    return there


def model(folder: Path, *, python: str = "3.9", flavor: str = "m", name: str = "churn-1") -> Model:
    directory = folder.parent / "model"
    directory.mkdir(exist_ok=True)
    flavors = f"{{python_function: {{loader_module: m, python_version: '{python}'}}, {flavor}: {{}}}}"
    (directory / "MLmodel").write_text(f"flavors: {flavors}")
    (directory / "requirements.txt").write_text("numpy")
    return Model.read(directory, name=name)


def override(folder: Path, read: Model, chosen: str | None = None) -> Override:
    found = Workspace.read(folder).override(read, chosen, source=CHOICE)
    assert found is not None
    return found


def test_the_first_rule_that_matches_gives_the_environment(folder: Path) -> None:
    found = override(folder, model(folder, flavor="sklearn"))
    assert (found.reference, str(found.source)) == ("foo:1", f"{folder}/envbuilder.yaml: rules[0]")
    assert found.overridden == ()
    found = override(folder, model(folder, flavor="sklearn", name="fraud"))
    assert found.reference == f"{folder}/beside/other.yaml"
    found = override(folder, model(folder, python="3.10"))
    assert found.reference == f"{folder}/envbuilder.yaml: rules[2].environment"
    assert isinstance(found.environment.content, Replacement)
    assert found.environment.content.conda is not None


def test_a_model_that_no_rule_is_for_keeps_its_own(folder: Path) -> None:
    workspace = Workspace.read(folder)
    assert workspace.override(model(folder, python="3.7"), None, source=CHOICE) is None
    (folder / "envbuilder.yaml").unlink()
    assert Workspace.read(folder).override(model(folder), None, source=CHOICE) is None


def test_an_environment_chosen_for_this_build_wins_and_the_rule_is_kept(folder: Path) -> None:
    found = override(folder, model(folder), "foo@latest")
    assert (found.reference, found.source) == ("foo:2", CHOICE)
    (lost,) = found.overridden
    assert (lost.field, lost.value, lost.source.key, lost.by) == ("environment", "foo:1", "rules[0]", CHOICE)
    assert lost.reason == "another environment was chosen for this build"
    (lost,) = override(folder, model(folder, python="3.10"), "foo").overridden
    assert lost.value == "an inline one"
    assert override(folder, model(folder, python="3.7"), "foo").overridden == ()


def test_an_environment_may_be_given_in_braces_or_as_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = override(folder, model(folder), " {conda_file: conda.yaml}")
    assert (found.reference, found.environment.kind) == ("--environment", "replacement")
    assert override(folder, model(folder), "beside/other.yaml").reference == "beside/other.yaml"
    with pytest.raises(InvalidFileError, match="did you mean `amend`"):
        override(folder, model(folder), "{amends: {}}")


@pytest.mark.parametrize(
    ("rule", "what", "where"),
    [
        ("environment: gone", "no environment `gone` in the workspace; there is `foo`", "rules[0].environment"),
        ("environment: ./gone.yaml", "gone.yaml` does not exist", "rules[0].environment"),
        ("environment: {conda_file: gone.yaml}", "`gone.yaml` does not exist", "rules[0].environment.conda_file"),
    ],
)
def test_what_a_rule_names_must_be_there(folder: Path, rule: str, what: str, where: str) -> None:
    (folder / "envbuilder.yaml").write_text(f"rules: [{{{rule}}}]")
    with pytest.raises(InvalidFileError) as caught:
        override(folder, model(folder))
    (problem,) = caught.value.problems
    assert what in problem.what
    assert str(problem.where) == f"{folder}/envbuilder.yaml: {where}"


def test_the_defaults_are_settings(folder: Path) -> None:
    text = """
defaults:
  index_url: https://u:s3cret@i/s
  extra_index_urls: [https://e, https://f]
  find_links: [https://g, https://h]
  keyring: subprocess
  proxy: http://u:s3cret@p:1
  no_proxy: [a, .b]
  ca_file: ca.pem
"""
    (folder / "envbuilder.yaml").write_text(text)
    workspace = Workspace.read(folder)
    assert workspace.variables == {
        "ENVBUILDER_INDEX_URL": "https://u:s3cret@i/s",
        "ENVBUILDER_EXTRA_INDEX_URLS": "https://e https://f",
        "ENVBUILDER_FIND_LINKS": "https://g https://h",
        "ENVBUILDER_KEYRING": "subprocess",
        "ENVBUILDER_PROXY": "http://u:s3cret@p:1",
        "ENVBUILDER_NO_PROXY": "a,.b",
        "ENVBUILDER_CA_FILE": str(folder / "ca.pem"),
    }
    assert "s3cret" not in repr(workspace)
    (folder / "envbuilder.yaml").write_text("")
    assert Workspace.read(folder).variables == {}


@pytest.mark.parametrize("name", ["gone.pem", "a" * 300, "."])
def test_a_ca_file_must_be_there(folder: Path, name: str) -> None:
    (folder / "envbuilder.yaml").write_text(f"defaults: {{ca_file: {name}}}")
    with pytest.raises(InvalidFileError, match="does not exist") as caught:
        _ = Workspace.read(folder).variables
    assert str(caught.value.problems[0].where) == f"{folder}/envbuilder.yaml: defaults.ca_file"


def test_a_workspace_is_a_folder(folder: Path) -> None:
    with pytest.raises(InvalidFileError, match="no such workspace") as caught:
        Workspace.read(folder / "conda.yaml")
    assert caught.value.problems[0].fix == "give a folder, with `envbuilder.yaml` in it"
    (folder / "envbuilder.yaml").write_text("rule: x")
    with pytest.raises(InvalidFileError, match="did you mean `rules`"):
        Workspace.read(folder)


def test_the_catalog_is_of_the_folder(folder: Path) -> None:
    assert [one.version for one in Workspace.read(folder).catalog.registered()] == ["1", "2"]


def test_templates_of_a_workspace_are_those_of_its_folder(tmp_path: Path) -> None:
    assert Workspace.read(tmp_path).templates.texts == ()
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "_config.j2").write_text("CMD []\n")
    (folder / "README.md").write_text("not one")
    found = Workspace.read(tmp_path).templates
    assert (found.names, found.folder) == (("_config.j2",), str(folder))
    (folder / "_confg.j2").write_bytes(b"")
    with pytest.raises(InvalidFileError, match=r"`_confg\.j2` is no template"):
        _ = Workspace.read(tmp_path).templates
    (folder / "_confg.j2").rename(folder / "_server.j2")
    (folder / "_server.j2").write_bytes(b"\xff")
    with pytest.raises(InvalidFileError, match="not UTF-8 text") as caught:
        _ = Workspace.read(tmp_path).templates
    assert str(caught.value.problems[0].where) == str(folder / "_server.j2")
