from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from envbuilder.environment_catalog import EnvironmentCatalog, Registration
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.errors import EnvBuilderError, InvalidFileError, Problem, Source
from envbuilder.workspace_yaml import WorkspaceYaml

if TYPE_CHECKING:
    from pathlib import Path

CHOICE = Source(file="--environment")
SAID = "environments: {foo: {default: '1.9', labels: {prod: '1.0', gone: '7'}}}"


def catalog(folder: Path, said: str = "", **files: str) -> EnvironmentCatalog:
    """A workspace with registered environments: `foo__1_10` is `environments/foo/1.10.yaml`."""
    for name, content in files.items():
        path = folder / "environments" / f"{name.replace('__', '/').replace('_', '.')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return EnvironmentCatalog(workspace=folder, says=WorkspaceYaml.parse(said, file="envbuilder.yaml"))


def find(there: EnvironmentCatalog, text: str) -> str:
    return there.find(EnvironmentReference.parse(text, source=CHOICE)).reference


def refused(there: EnvironmentCatalog, text: str) -> Problem:
    with pytest.raises(InvalidFileError) as caught:
        find(there, text)
    (problem,) = caught.value.problems
    assert problem.where
    assert problem.fix
    return problem


FOO = {"foo__1_9": "{image: a}", "foo__1_10": "{image: b}", "foo__1_0": "{image: c}", "foo__zzz": "{image: d}"}


@pytest.mark.parametrize(
    ("reference", "said", "expected"),
    [
        ("foo:1.9", "", "foo:1.9"),
        ("azureml:foo:1.9", "", "foo:1.9"),
        ("foo:zzz", "", "foo:zzz"),
        ("foo", "", "foo:1.10"),
        ("foo@latest", "", "foo:1.10"),
        ("azureml:foo:latest", SAID, "foo:1.10"),
        ("foo", SAID, "foo:1.9"),
        ("foo@prod", SAID, "foo:1.0"),
        ("foo@latest", "environments: {foo: {labels: {latest: '1.0'}}}", "foo:1.0"),
        ("bar", "", "bar:1"),
        ("bar:1", "", "bar:1"),
        ("baz:2.0", "", "baz:2.0"),
    ],
)
def test_an_environment_is_found(tmp_path: Path, reference: str, said: str, expected: str) -> None:
    there = catalog(tmp_path, said, bar="{image: a}", baz="{image: a, version: 2.0, name: baz}", **FOO)
    assert find(there, reference) == expected


@pytest.mark.parametrize(
    ("reference", "what", "fix"),
    [
        (
            "foo:1",
            "`foo` has no version `1`; there is `zzz`, `1.0`, `1.9`, `1.10`",
            "did you mean `foo:1.0`?",
        ),
        ("foo:ZZZ", "`foo` has no version `ZZZ`; there is `zzz`, `1.0`, `1.9`, `1.10`", "did you mean `foo:zzz`?"),
        (
            "foo:3",
            "`foo` has no version `3`; there is `zzz`, `1.0`, `1.9`, `1.10`",
            "write one of them, or `foo@latest`",
        ),
        (
            "foo@prd",
            "`foo` has no label `prd`; there is `latest`, `prod`, `gone`",
            "write it below `environments.foo.labels` in envbuilder.yaml",
        ),
        (
            "foo@gone",
            "`foo` has no version `7`; there is `zzz`, `1.0`, `1.9`, `1.10`",
            "write one of them, or `foo@latest`",
        ),
        ("fo", "no environment `fo` in the workspace; there is `foo`", "did you mean `foo`?"),
        (
            "xyz",
            "no environment `xyz` in the workspace; there is `foo`",
            "register it: `envbuilder environment register FILE`",
        ),
        ("a" * 255, f"no environment `{'a' * 255}` in the workspace; there is `foo`", None),
        ("./gone.yaml", "`gone.yaml` does not exist", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_there_is_instead_is_told(tmp_path: Path, reference: str, what: str, fix: str | None) -> None:
    problem = refused(catalog(tmp_path, SAID, **FOO), reference)
    assert problem.what == what
    assert problem.where == CHOICE
    assert fix is None or problem.fix == fix


def test_an_empty_workspace_has_no_environment(tmp_path: Path) -> None:
    assert catalog(tmp_path).registered() == ()
    assert refused(catalog(tmp_path), "foo").what == "no environment `foo` in the workspace; there is none"


def test_the_registered_versions_are_listed_with_their_labels(tmp_path: Path) -> None:
    there = catalog(tmp_path, SAID, bar="{image: a}", **FOO)
    assert [(f"{one.name}:{one.version}", there.labels(one)) for one in there.registered()] == [
        ("bar:1", ("latest",)),
        ("foo:zzz", ()),
        ("foo:1.0", ("prod",)),
        ("foo:1.9", ("default",)),
        ("foo:1.10", ("latest",)),
    ]
    moved = catalog(tmp_path, "environments: {bar: {labels: {latest: '0'}}}")
    assert moved.labels(moved.registered()[0]) == ()


def test_conda_files_lie_beside_their_environments(tmp_path: Path) -> None:
    conda = "dependencies: [numpy]"
    there = catalog(tmp_path, foo__1="conda_file: conda.yaml", foo__conda=conda, bar="conda_file: c.yaml", c=conda)
    assert [f"{one.name}:{one.version}" for one in there.registered()] == ["bar:1", "foo:1"]
    assert find(there, "foo") == "foo:1"
    problem = refused(there, "c")
    assert problem.what == "this is a conda file, not an environment"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"foo__1": "{image: a, version: 2}"}, "the file's place says `1`, its `version` says `2`"),
        ({"foo__1": "{image: a, name: bar}"}, "the file's place says `foo`, its `name` says `bar`"),
        ({"foo": "{image: a}", "foo__1": "{image: a}"}, "version `1` stands in two files"),
        ({"foo": "image: ["}, "broken YAML"),
    ],
    ids=["version", "name", "twice", "broken"],
)
def test_files_that_contradict_their_place_are_refused(tmp_path: Path, files: dict[str, str], what: str) -> None:
    assert what in refused(catalog(tmp_path, **files), "foo").what


def register(there: EnvironmentCatalog, text: str, **options: str) -> Registration:
    file = there.workspace / "given.yaml"
    file.write_text(text)
    return there.register(file, **options)


def test_an_environment_is_registered_and_found(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.10, {pip: [six]}]")
    there = catalog(tmp_path)
    made = register(there, "{name: foo, version: 1.10, image: a, conda_file: conda.yaml, tags: {t: 1.0}}")
    assert (made.environment.reference, made.existed) == ("foo:1.10", False)
    assert made.file == tmp_path / "environments" / "foo" / "1.10.yaml"
    assert oct(made.file.stat().st_mode)[-3:] == "644"
    found = there.find(EnvironmentReference.parse("foo:1.10", source=CHOICE))
    assert (found.digest, found.tags) == (made.environment.digest, {"t": "1.0"})
    assert [path.name for path in made.file.parent.iterdir()] == ["1.10.yaml"]


def test_registering_the_same_again_changes_nothing(tmp_path: Path) -> None:
    there = catalog(tmp_path)
    first = register(there, "{name: foo, version: 1, amend: {pip: {add: [NumPy==1.0, six]}}}")
    text = first.file.read_text()
    again = register(there, "{amend: {pip: {add: ['six', 'numpy==1']}}, version: 1, description: d}", name="foo")
    assert (again.existed, again.file) == (True, first.file)
    unnamed = register(there, "{name: foo, amend: {pip: {add: [six, numpy==1]}}}")
    assert (unnamed.existed, unnamed.environment.reference) == (True, "foo:1")
    assert first.file.read_text() == text


def test_other_content_under_the_same_version_is_refused(tmp_path: Path) -> None:
    there = catalog(tmp_path)
    first = register(there, "{name: foo, version: 1, image: a}")
    with pytest.raises(InvalidFileError) as caught:
        register(there, "{name: foo, image: b}", version="1")
    assert str(caught.value) == (
        f"`foo:1` is registered with other content\n  at {first.file}\n"
        "  fix: give another version, or none for the next one"
    )
    assert there.load(there.registered()[0]).digest == first.environment.digest


def test_without_a_version_other_content_gets_the_next_number(tmp_path: Path) -> None:
    there = catalog(tmp_path, foo="{image: a}")
    versions = [
        register(there, f"{{name: foo, image: {image}}}", **options).environment.reference
        for image, options in (("b", {}), ("c", {"version": "1.5"}), ("d", {"version": "9"}), ("e", {}), ("a", {}))
    ]
    assert versions == ["foo:2", "foo:1.5", "foo:9", "foo:10", "foo:1"]


@pytest.mark.parametrize(
    ("text", "options", "what"),
    [
        ("image: a", {}, "the environment has no name"),
        ("image: a", {"name": "a/../b"}, "`a/../b` is not a name"),
        ("{image: a, name: foo}", {"version": "../1"}, "`../1` is not a version"),
        ("{image: a b, name: foo}", {}, "`a b` is not the name of an image"),
        ("{name: foo, build: {path: ../ctx}}", {}, "the build context lies outside the workspace"),
        ("{name: taken, image: a}", {}, "cannot be written"),
        ("{name: kept, image: a}", {"version": "conda"}, "this is a conda file, not an environment"),
    ],
    ids=["no name", "bad name", "bad version", "bad content", "outside", "in the way", "a conda file"],
)
def test_what_cannot_be_registered_is_refused(tmp_path: Path, text: str, options: dict[str, str], what: str) -> None:
    there = catalog(tmp_path / "workspace", kept__conda="dependencies: []")
    (tmp_path / "workspace" / "environments" / "taken").touch()
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "Dockerfile").touch()
    with pytest.raises(InvalidFileError) as caught:
        register(there, text, **options)
    assert caught.value.problems[0].what.startswith(what)
    assert all(problem.where and problem.fix for problem in caught.value.problems)
    assert there.registered() == ()


@pytest.mark.parametrize(
    "text",
    [
        "{name: foo, image: a, conda_file: {dependencies: [{pip: ['x @ https://u:s3cret@h/x.whl']}]}}",
        "{name: foo, amend: {index_url: 'https://u:s3cret@h'}}",
        "{name: foo, image: 'u:s3cret@h/a'}",
        "{name: foo, build: {path: 'https://u:s3cret@h/r.git'}}",
        "{name: 'https://u:s3cret@h', image: a}",
    ],
)
def test_credentials_are_not_registered_and_not_shown(tmp_path: Path, text: str) -> None:
    there = catalog(tmp_path)
    with pytest.raises(InvalidFileError) as caught:
        register(there, text)
    assert "s3cret" not in str(caught.value) + repr(caught.value.problems)
    assert not there.folder.exists()


def test_a_build_context_is_named_from_its_new_place(tmp_path: Path) -> None:
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "Dockerfile").write_text("FROM a")
    there = catalog(tmp_path)
    made = register(there, "{name: foo, build: {path: ctx}}")
    assert made.environment.content.base is not None
    assert made.environment.content.base.context == "../../ctx"
    assert there.load(there.registered()[0]).digest == made.environment.digest
    assert register(there, "{name: foo, build: {path: ./ctx/}}").existed
    assert not register(there, "{name: foo, build: {path: https://h/r.git}}").existed


@pytest.mark.parametrize("version", [None, "1"], ids=["next number", "one number"])
def test_registrations_at_the_same_moment_never_overwrite_each_other(tmp_path: Path, version: str | None) -> None:
    there = catalog(tmp_path)
    files = [tmp_path / f"{n}.yaml" for n in range(8)]
    for n, file in enumerate(files):
        file.write_text(f"{{name: foo, image: 'image:{n % 4}'}}")
    start, made, failed = threading.Barrier(len(files)), [], []

    def work(file: Path) -> None:
        start.wait()
        try:
            made.append(there.register(file, version=version))
        except EnvBuilderError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=work, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registered = {one.version: there.load(one).digest for one in there.registered()}
    for one in made:
        assert one.environment.version is not None
        assert registered[one.environment.version.value] == one.environment.digest
    assert sorted(one.existed for one in made).count(False) == len(registered)
    assert (sorted(registered), len(failed)) == ((["1", "2", "3", "4"], 0) if version is None else (["1"], 6))
    assert all("`foo:1` is registered with other content" in text for text in failed)
    assert not list(there.folder.rglob(".tmp-*"))
