"""What is fuzzed: for each reader, one function that reads any bytes and fails where a promise is broken.

The promises are those of every reader:

- nothing is raised but `EnvBuilderError`, and each of its problems says what, where and the fix, fit for a terminal;
- no file is opened, nothing is executed, nobody is asked: see `fence`;
- what is written reads back as the same;
- no password is shown. In most inputs a canary comes after every `://`, and in every query and after every `/t/` of a
  URL, which no value may show and no message may hold.

An input may hold several files: `%% NAME` on a line of its own begins the next one, `%% NAME -> TARGET` is a link,
`%% NAME |` a pipe, and names with `@` are for the target itself.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from envbuilder import condarc, digest, example_request, resolution
from envbuilder.amendment import Amendment
from envbuilder.channel import Address
from envbuilder.conda_yaml import CondaYaml, MatchSpec
from envbuilder.condarc import Condarc
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.environment_yaml import Environment, Replacement
from envbuilder.errors import EnvBuilderError, Problem, Source
from envbuilder.mlmodel import MLmodel
from envbuilder.model import Model
from envbuilder.model_uri import ModelUri, is_uri
from envbuilder.override import Override
from envbuilder.pip_line import Line, PipOption, classify
from envbuilder.python_env_yaml import PythonEnvYaml
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import Requirement
from envbuilder.requirements_txt import RequirementsTxt, included_path
from envbuilder.workspace_yaml import WorkspaceYaml
from envbuilder.yaml_text import dump, load, plain
from tests.fuzz.fence import fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from envbuilder.environment_spec import EnvironmentSpec

T = TypeVar("T")

CANARY: Final = "canary7f3a"

_SOURCE: Final = Source(file="given", key="text")
_AUTHORITIES: Final = dict(enumerate((f"u:{CANARY}@", f"u:{CANARY}/x@", f"u:x#{CANARY}@", f"{CANARY}@")))
_LENGTHS: Final = 7
"""A remainder without authority stands for inputs that are read as they are."""
_NAMES: Final = frozenset(
    {
        *("loader_module", "python_version", "mlflow_version", "model_uuid", "run_id", "flavors", "flavor_versions"),
        *("conda_env", "virtual_env", "data", "code", "model_code_path", "signature", "type", "orient"),
        *("name", "path", "serving_path", "dockerfile", "conda_file", "ca_file", "missing", "python", "label"),
    }
)
"""Fields that hold names, versions, and paths of files."""
_URL: Final = rb"://[A-Za-z0-9._~:/@!$&*+;=%#-]*?"
_ANCHOR: Final = re.compile(rb"([&*][^\s,\[\]{}]*)")
"""YAML takes `&https:` for a name, and leaves no URL."""
_SECTION: Final = re.compile(rb"^%% (.*)$", re.MULTILINE)
_MAX_FILES: Final = 24
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_SCRATCH: Final = _MEMORY if _MEMORY.is_dir() else None


def planted(data: bytes) -> bytes:
    """Return `data` with a password, a token and a query in every URL, or, of some lengths, as it is."""
    data, authority = _without_canary(data), _AUTHORITIES.get(len(data) % _LENGTHS)
    if authority is None:
        return data
    parts = _ANCHOR.split(data)
    for index in range(0, len(parts), 2):
        part = parts[index].replace(b"://", b"://" + authority.encode())
        parts[index] = _with_query(re.sub(_URL + rb"/t/", rb"\g<0>" + CANARY.encode() + b"/", part))
    return b"".join(parts)


def planted_uri(data: bytes) -> bytes:
    """Return `data`, one URI, with a password and a query; its user alone may be a bucket, which is none."""
    data, authority = _without_canary(data), _AUTHORITIES.get(len(data) % _LENGTHS)
    if authority is None or ":" not in authority:
        return data
    return _with_query(re.sub(rb"\A(\s*[A-Za-z][A-Za-z0-9+.-]*://)(?!/)", rb"\1" + authority.encode(), data))


def _with_query(data: bytes) -> bytes:
    return re.sub(_URL + rb"\?", rb"\g<0>token=" + CANARY.encode() + b"&", data)


def _without_canary(data: bytes) -> bytes:
    """Return `data` without what a mutation copied to where it may be no password."""
    while CANARY.encode() in data.lower():
        data = re.sub(CANARY.encode(), b"", data, flags=re.IGNORECASE)
    return data


def read_mlmodel(data: bytes) -> None:
    """An MLmodel file, its signature, and the request that is made of both with the examples that follow it."""
    first, *others = _files(data)
    model = _read(lambda: MLmodel.parse(first[1], file="model/MLmodel"))
    if model is None:
        return
    _hidden_in(model)
    given = {os.fsdecode(name): text for name, text in others}
    for texts in ({}, given):
        with fenced():
            body, reason = example_request.make(model.input_example, model.signature, texts)
        _plain(reason)
        if body is not None:
            json.loads(body)
    assert all(example_request.candidates(model.input_example))


def read_conda_yaml(data: bytes) -> None:
    """A conda.yaml; what it is written as means the same."""
    conda = _read(lambda: CondaYaml.parse(planted(data), file="model/conda.yaml"))
    if conda is None:
        return
    text = conda.to_text()
    again = CondaYaml.parse(text, file="again")
    assert _meaning(again) == _meaning(conda)
    assert again.to_text() == text
    _hidden_in(conda)
    _hides(text)
    _check_lines((*conda.pip_lines, *conda.channels))


def read_python_env_yaml(data: bytes) -> None:
    """A python_env.yaml, and its lines."""
    python_env = _read(lambda: PythonEnvYaml.parse(planted(data), file="model/python_env.yaml"))
    if python_env is not None:
        _hidden_in(python_env)
        _check_lines((*python_env.build_dependencies, *python_env.dependencies))


def read_requirements(data: bytes) -> None:
    """A requirements file: each line told apart, and each read as one requirement."""
    given = planted(data)
    found = _read(lambda: RequirementsTxt.parse(given, file="model/requirements.txt", path="requirements.txt"))
    if found is not None:
        _hidden_in(found)
        _check_lines(found.lines)
    for line in given.decode(errors="surrogateescape").split("\n"):
        requirement = _read(partial(Requirement.parse, line, source=_SOURCE))
        if requirement is not None:
            _check_requirement(requirement)


def read_environment(data: bytes) -> None:
    """An environment of the workspace; what it is written as does the same."""
    environment = _read(lambda: Environment.parse(planted(data), file="workspace/environment.yaml"))
    if environment is None:
        return
    text = environment.to_text()
    again = Environment.parse(text, file="again")
    # A line whose password keeps it from being read at all can be read without.
    assert again.digest == environment.digest or environment.secrets
    assert again.kind == environment.kind
    assert again.to_text() == text
    _hidden_in(environment)
    _hides(text, repr(environment.secrets))


def read_workspace(data: bytes) -> None:
    """An envbuilder.yaml, and what its rules say."""
    workspace = _read(lambda: WorkspaceYaml.parse(planted(data), file="workspace/envbuilder.yaml"))
    if workspace is None:
        return
    _hidden_in(workspace)
    python = PythonRequest.parse("3.11")
    workspace.defaults.base_for(python)
    for rule in workspace.rules:
        rule.matches(name="churn", flavors=("sklearn",), python=python)
        assert str(rule.environment)


def read_condarc(data: bytes) -> None:
    """A .condarc, and where the channels are that it names."""
    found = _read(lambda: Condarc.parse(planted(data), file="home/.condarc", environ={"HOST": "conda.example"}))
    if found is None:
        return
    _hides(repr(found))
    alias = found.channel_alias or Address.parse("https://conda.example", where=_SOURCE)
    named = _read(lambda: condarc.channels([found], alias=alias))
    _hides(repr(named))


def read_environment_reference(data: bytes) -> None:
    """How an environment is named; its text names the same one."""
    reference = _read(lambda: EnvironmentReference.parse(_text(planted(data)), source=_SOURCE))
    if reference is not None:
        assert EnvironmentReference.parse(str(reference), source=_SOURCE) == reference


def read_model_uri(data: bytes) -> None:
    """Where a model is; its text is the same place."""
    text = _text(planted_uri(data))
    is_uri(text)
    uri = _read(lambda: ModelUri.parse(text))
    if uri is not None:
        assert ModelUri.parse(str(uri)) == uri
        assert uri.needs_server == (uri.kind != "storage")
        _hides(repr(uri), str(uri))


def read_python_request(data: bytes) -> None:
    """Which Python is asked for; its text asks for the same."""
    request = _read(lambda: PythonRequest.parse(_text(data), source=_SOURCE))
    if request is None:
        return
    again = PythonRequest.parse(request.text)
    assert again.meaning == request.meaning
    assert again.text == request.text
    assert request.exact is None or request.allows(request.exact)
    assert request.minor is None or request.allows_minor(request.minor)


def read_match_spec(data: bytes) -> None:
    """A conda package; its text asks for the same."""
    spec = _read(lambda: MatchSpec.parse(_text(planted(data)), source=_SOURCE))
    if spec is not None:
        _hidden_in(spec)
        _hides(spec.meaning)
        assert MatchSpec.parse(spec.text, source=_SOURCE).meaning == spec.meaning


def read_yaml(data: bytes) -> None:
    """Plain data; what it is written as is the same data."""
    node = _read(lambda: (load(planted(data), source_file="given"),))
    if node is not None:
        assert plain(load(dump(plain(node[0])), source_file="again")) == plain(node[0])


def read_model(data: bytes) -> None:
    """A model directory, read and resolved: as it is, with the override `@override`, with the Python `@python`."""
    files = _files(data)
    with tempfile.TemporaryDirectory(dir=_SCRATCH) as folder:
        root = Path(folder) / "model"
        root.mkdir()
        _write(files, root)
        model = _read(lambda: Model.read(root), root=root)
    if model is None:
        return
    _check_problems(model.problems)
    _hidden_in(model)
    texts = {name: text for name, text in files if name.startswith(b"@")}
    allowed = tuple(_text(texts.get(b"@allow", b"")).split())
    spec = _read(lambda: resolution.resolve(model, allowed_indexes=allowed))
    overrides = [Environment(content=Amendment(), source=_SOURCE)]
    if b"@override" in texts:
        environment = _read(lambda: _environment(texts))
        overrides += [environment] if environment is not None else []
    for environment in overrides:
        override = Override(environment=environment, reference="slim:1", source=_SOURCE)
        found = _read(partial(resolution.resolve, model, override, allowed_indexes=allowed))
        if found is not None:
            _check_spec(found)
        if environment is overrides[0]:
            assert (found.digest if found is not None else None) == (spec.digest if spec is not None else None)
    if spec is not None:
        _check_spec(spec)
        python = _text(texts.get(b"@python", b"3.12"))
        chosen = _read(lambda: resolution.with_python(spec, python, source=_SOURCE))
        if chosen is not None:
            _check_spec(chosen)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "mlmodel": read_mlmodel,
    "conda_yaml": read_conda_yaml,
    "python_env_yaml": read_python_env_yaml,
    "requirements": read_requirements,
    "environment": read_environment,
    "condarc": read_condarc,
    "workspace": read_workspace,
    "environment_reference": read_environment_reference,
    "model_uri": read_model_uri,
    "python_request": read_python_request,
    "match_spec": read_match_spec,
    "yaml_text": read_yaml,
    "model": read_model,
}


def _read(read: Callable[[], T], *, root: Path | None = None) -> T | None:
    """Return what is read; None where it is refused as it should be."""
    try:
        with fenced(root):
            return read()
    except EnvBuilderError as error:
        if not error.problems:
            raise
        _check_problems(error.problems)
        _hides(str(error), repr(error))
        return None


def _check_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        assert problem.what.strip(), problem
        assert problem.fix is not None, problem
        assert problem.fix.strip(), problem
        assert problem.where is not None, problem
        for text in (problem.what, problem.fix, str(problem.where)):
            _plain(text)


def _plain(text: str) -> None:
    """A message holds no control characters, and no password."""
    assert text.isprintable(), ascii(text)
    _hides(text)


def _hides(*texts: str) -> None:
    for text in texts:
        place = text.lower().find(CANARY)
        assert place < 0, f"a password is shown: {text[max(0, place - 80) : place + 80]!a}"


def _hidden_in(value: object) -> None:
    """No password is in what `repr` shows of a value, except where a name was mutated into something like a URL."""
    match value:
        case str():
            _hides(value)
        case tuple() | list():
            for one in value:
                _hidden_in(one)
        case Mapping():
            _hidden_in((*value.keys(), *value.values()))
        case _ if is_dataclass(value):
            for one in fields(value):
                if one.repr and one.name not in _NAMES:
                    _hidden_in(getattr(value, one.name))
        case _:
            _hides(repr(value))


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _meaning(conda: CondaYaml) -> object:
    return (
        conda.name,
        [one.value for one in conda.channels],
        [one.meaning for one in conda.match_specs],
        [[line.value for line in block] for block in conda.pip_blocks],
        {one.name: one.value for one in conda.variables},
        {key: value for key, value in conda.other.items() if value not in (None, (), {})},
    )


def _check_lines(lines: Iterable[Line]) -> None:
    for line in lines:
        with fenced():
            items = classify(line)
        for item in items:
            _hidden_in(item)
            match item:
                case Problem():
                    _check_problems((item,))
                case Requirement():
                    _check_requirement(item)
                case PipOption():
                    path = included_path(item, beside="below/requirements.txt")
                    assert path is None or not ({"", ".", ".."} & set(path.split("/"))), path


def _check_requirement(requirement: Requirement) -> None:
    _hidden_in(requirement)
    _hides(requirement.text, requirement.meaning)
    text = " ".join((requirement.text, *(f"--hash={one}" for one in requirement.hashes)))
    again = Requirement.parse(text, source=_SOURCE)
    assert again.meaning == requirement.meaning, f"{again.meaning} != {requirement.meaning}"
    assert again.text == requirement.text
    assert requirement.path is None or ".." not in requirement.path.split("/")


def _check_spec(spec: EnvironmentSpec) -> None:
    text = spec.to_text()
    assert text.replace("\n", "").isprintable(), ascii(text)
    load(text, source_file="spec")
    members = json.dumps(spec.to_dict())
    _hidden_in(spec)
    _hides(text, members)
    digest.parse(spec.digest)
    for line in (*spec.requirement_lines(), *spec.constraint_lines()):
        Requirement.parse(line, source=_SOURCE)


def _environment(texts: dict[bytes, bytes]) -> Environment:
    """Read `@override`, with `@conda` for the conda file that it names."""
    found = Environment.parse(texts[b"@override"], file="workspace/slim.yaml")
    if isinstance(found.content, Replacement) and found.content.conda_file is not None:
        conda = CondaYaml.parse(texts.get(b"@conda", b"{}"), file="workspace/conda.yaml")
        return replace(found, content=replace(found.content, conda=conda, conda_file=None))
    return found


def _files(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the name and the text, with passwords planted, of every file in an input; the first has no name."""
    first, *rest = _SECTION.split(data)
    named = [
        (b"", first),
        *((name, text.removeprefix(b"\n")) for name, text in zip(rest[::2], rest[1::2], strict=True)),
    ]
    return [(name, planted(text)) for name, text in named]


def _write(files: list[tuple[bytes, bytes]], root: Path) -> None:
    """Write files, links and pipes below `root`; what no file system takes is left out."""
    for name, text in files[:_MAX_FILES]:
        path, is_link, target = name.partition(b" -> ")
        is_pipe = path.endswith(b" |")
        parts = list(_parts(path.removesuffix(b" |")))
        if name.startswith(b"@") or not parts:
            continue
        place = os.path.join(os.fsencode(root), *parts)  # noqa: PTH118 - bytes
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
            # What is written must not be written through a link that an earlier file of the input made.
            if os.path.realpath(os.path.dirname(place)) != os.path.dirname(place):  # noqa: PTH120
                continue
            if is_link:
                os.symlink(target, place)  # noqa: PTH211
            elif is_pipe:
                os.mkfifo(place)
            else:
                with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW), "wb") as stream:  # noqa: PTH123
                    stream.write(text)
        except (OSError, ValueError):
            continue


def _parts(path: bytes) -> Iterator[bytes]:
    return (part for part in path.split(b"/") if part not in {b"", b".", b".."})
