"""A logged model on disk: what its files ask for, and a request to try it with."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from envbuilder import example_request, server_contract
from envbuilder.conda_yaml import CondaYaml
from envbuilder.errors import InvalidFileError, ModelError, Problem, Source
from envbuilder.mlmodel import MLmodel
from envbuilder.model_files import ModelFile, read_file, walk
from envbuilder.pip_line import PipOption, classify
from envbuilder.problems import Problems, shown
from envbuilder.python_env_yaml import PythonEnvYaml
from envbuilder.requirement import Requirement
from envbuilder.requirements_txt import INCLUDES, RequirementsTxt, included_path
from envbuilder.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from envbuilder.fields import Stated
    from envbuilder.pip_line import Line

T = TypeVar("T")

_SEARCH_DEPTH: Final = 4
_SEARCH_DIRECTORIES: Final = 2000
_MAX_INCLUDES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model directory as it was read."""

    name: str
    """The name of its directory, or the one it is registered under."""
    directory: Path
    mlmodel: MLmodel
    conda: CondaYaml | None
    python_env: PythonEnvYaml | None
    requirements: RequirementsTxt | None
    included: tuple[RequirementsTxt, ...]
    """Files that are reached through `-r` and `-c`."""
    missing: tuple[Stated[str], ...]
    """Environment files that MLmodel names and that do not exist."""
    problems: tuple[Problem, ...]
    """What is wrong with the environment files: nothing, where something else takes their place."""
    wheels: tuple[ModelFile, ...]
    """The wheels that the pip lists name by path."""
    example_request: bytes | None = field(repr=False)
    """A body for `POST /invocations`."""
    example_reason: str
    """Where the request comes from, or why there is none."""
    contract: bytes = field(repr=False)
    """What the image's server knows of MLmodel."""

    @classmethod
    def read(cls, directory: Path, *, name: str | None = None, shown_as: str | None = None) -> Model:
        """Read a model directory, given itself or by its MLmodel file; its artifacts are not opened.

        A model that was fetched has the `name` it is registered under, and is `shown_as` the URI that was given.

        Raises `ModelError` where there is no model that can be served, `InvalidFileError` where its MLmodel cannot be
        read. Environment files that cannot be read are among its `problems`.
        """
        root = _find(directory)
        paths = walk(root)
        reader = _Reader(root=root, shown_as=shown_as or str(root), paths=frozenset(paths), problems=Problems())
        text = reader.text("MLmodel")
        mlmodel = MLmodel.parse(text, file=reader.name("MLmodel"))
        named = mlmodel.python_function
        unsafe = Problems()
        for path in (named.data, named.code):
            if path is not None and path.value.strip("./"):
                _inside(path, unsafe)
        unsafe.finish()
        conda = reader.environment(named.conda_env, "conda.yaml", CondaYaml.parse)
        python_env = reader.environment(named.virtual_env, "python_env.yaml", PythonEnvYaml.parse)
        requirements = reader.environment(None, "requirements.txt", reader.parse_requirements)
        included = reader.included(conda, python_env, requirements)
        lists = (
            conda.pip_lines if conda is not None else (),
            python_env.dependencies if python_env is not None else (),
            *(one.lines for one in (requirements, *included) if one is not None),
        )
        wheels = _wheels(line for lines in lists for line in lines)
        example = mlmodel.input_example
        texts = reader.texts(example_request.candidates(example))
        body, reason = example_request.make(example, mlmodel.signature, texts)
        return cls(
            name=name or root.resolve().name,
            directory=root,
            mlmodel=mlmodel,
            conda=conda,
            python_env=python_env,
            requirements=requirements,
            included=included,
            missing=reader.missing((named.conda_env, named.virtual_env)),
            problems=reader.problems.found,
            wheels=tuple(read_file(paths, path, root=root) for path in sorted(wheels & paths.keys())),
            example_request=body,
            example_reason=reason,
            contract=server_contract.make(text, file=reader.name("MLmodel")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the text files of one model directory, each at most once and bounded in size."""

    root: Path
    shown_as: str
    paths: frozenset[str]
    problems: Problems

    def name(self, path: str) -> str:
        return f"{self.shown_as}/{path}"

    def text(self, path: str) -> bytes:
        try:
            with (self.root / path).open("rb") as stream:
                # One byte more than allowed, so that the reader can tell that there is too much.
                return stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise ModelError(
                f"cannot be read: {error.strerror}", where=Source(file=self.name(path)), fix="check its permissions"
            ) from error

    def texts(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self.text(path) for path in paths if path in self.paths}

    def environment(self, named: Stated[str] | None, default: str, parse: Callable[..., T]) -> T | None:
        path = default if named is None else _inside(named, self.problems)
        if path is None:
            return None
        if path not in self.paths:
            path = default
        if path not in self.paths:
            return None
        try:
            return parse(self.text(path), file=self.name(path))
        except InvalidFileError as error:
            self.problems.extend(error.problems)
            return None

    def missing(self, named: Iterable[Stated[str] | None]) -> tuple[Stated[str], ...]:
        return tuple(one for one in named if one is not None and _inside(one, Problems()) not in self.paths)

    def parse_requirements(self, text: bytes, *, file: str) -> RequirementsTxt:
        return RequirementsTxt.parse(text, file=file, path=file.removeprefix(f"{self.shown_as}/"))

    def included(
        self, conda: CondaYaml | None, python_env: PythonEnvYaml | None, requirements: RequirementsTxt | None
    ) -> tuple[RequirementsTxt, ...]:
        """Read what `-r` and `-c` name, also inside files that were read this way."""
        found: dict[str, RequirementsTxt] = {}
        if requirements is not None:
            found[requirements.path] = requirements
        waiting = [
            *((line, "conda.yaml") for line in (conda.pip_lines if conda is not None else ())),
            *((line, "python_env.yaml") for line in (python_env.dependencies if python_env is not None else ())),
            *((line, "requirements.txt") for line in (requirements.lines if requirements is not None else ())),
        ]
        while waiting and len(found) < _MAX_INCLUDES:
            line, beside = waiting.pop(0)
            for option in classify(line):
                if not isinstance(option, PipOption) or option.name not in INCLUDES:
                    continue
                path = included_path(option, beside=beside)
                if path is None or path in found or path not in self.paths:
                    continue
                try:
                    found[path] = self.parse_requirements(self.text(path), file=self.name(path))
                except InvalidFileError as error:
                    self.problems.extend(error.problems)
                    return ()
                waiting.extend((inner, path) for inner in found[path].lines)
        return tuple(found[path] for path in sorted(found))


def _wheels(lines: Iterable[Line]) -> set[str]:
    items = (item for line in lines for item in classify(line))
    return {item.path for item in items if isinstance(item, Requirement) and item.path is not None}


def _find(given: Path) -> Path:
    """Return the model directory; raise `ModelError` with the most helpful hint where there is none."""
    source = Source(file=str(given))
    try:
        mode = given.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ModelError(f"no such model: {reason}", where=source, fix=_missing_hint(given)) from error
    if stat.S_ISREG(mode):
        if given.name == "MLmodel":
            return given.parent
        raise ModelError("this file is no `MLmodel`", where=source, fix="give a model directory or its MLmodel file")
    if not stat.S_ISDIR(mode):
        raise ModelError("neither a directory nor a file", where=source, fix="give a model directory")
    if _is_file(given / "MLmodel"):
        return given
    try:
        empty = not any(given.iterdir())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=source, fix="check its permissions") from error
    if empty:
        raise ModelError("the directory is empty", where=source, fix="give the directory that holds `MLmodel`")
    raise ModelError("no `MLmodel` in this directory", where=source, fix=_below_hint(given))


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - pathlib raises where a name is too long, or a folder closed


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path) and not path.is_symlink()  # noqa: PTH112 - as in `_is_file`


def _missing_hint(given: Path) -> str:
    text = str(given)
    if text != text.strip() and os.path.exists(text.strip()):  # noqa: PTH110 - as in `_is_file`
        return f"remove the spaces around `{shown(text.strip())}`"
    return "give a model directory or the path of its MLmodel file"


def _below_hint(given: Path) -> str:
    below = sorted(path.parent.as_posix() for path in _search(given))
    if len(below) == 1:
        return f"there is one model below; give `{shown(below[0])}`"
    if below:
        names = ", ".join(f"`{shown(path)}`" for path in below[:5])
        return f"there are {len(below)} models below; give one of them: {names}"
    return "give the directory that MLflow saved or logged the model to"


def _search(root: Path) -> Iterator[Path]:
    waiting = [(root, 0)]
    seen = 0
    while waiting and seen < _SEARCH_DIRECTORIES:
        directory, depth = waiting.pop(0)
        seen += 1
        try:
            entries = sorted(directory.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.name == "MLmodel" and _is_file(entry):
                yield entry
            # `metadata` holds copies for a catalog.
            elif depth < _SEARCH_DEPTH and entry.name != "metadata" and _is_directory(entry):
                waiting.append((entry, depth + 1))


def _inside(named: Stated[str], problems: Problems) -> str | None:
    """Return the path as it is in `files`; None, and a problem, where it leads out of the model directory."""
    parts = [part for part in named.value.split("/") if part not in {"", "."}]
    if named.value.startswith("/") or ".." in parts or not parts or not named.value.isprintable():
        problems.add(
            f"`{shown(named.value)}` leads out of the model directory",
            where=named.source,
            fix="name a file inside the model directory",
        )
        return None
    return "/".join(parts)
