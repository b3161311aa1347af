"""A logged model on disk: its files by digest, what they ask for, and a request to try it with."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from envbuilder import example_request
from envbuilder.conda_yaml import CondaYaml
from envbuilder.errors import InvalidFileError, ModelError, Source
from envbuilder.mlmodel import MLmodel
from envbuilder.problems import Problems, shown
from envbuilder.python_env_yaml import PythonEnvYaml
from envbuilder.requirement import PipOption, classify
from envbuilder.requirements_txt import INCLUDES, RequirementsTxt, included_path
from envbuilder.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from envbuilder.fields import Stated

T = TypeVar("T")

MAX_FILES: Final = 200_000

_CHUNK: Final = 1024 * 1024
_SEARCH_DEPTH: Final = 4
_SEARCH_DIRECTORIES: Final = 2000
_MAX_INCLUDES: Final = 32
_URI_SCHEMES: Final = ("runs:", "models:", "mlflow-artifacts:", "s3:", "gs:", "dbfs:", "azureml:", "wasbs:", "abfss:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model."""

    path: str
    """Relative to the model directory, with `/`."""
    size: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model directory as it was read."""

    directory: Path
    mlmodel: MLmodel
    conda: CondaYaml | None
    python_env: PythonEnvYaml | None
    requirements: RequirementsTxt | None
    included: tuple[RequirementsTxt, ...]
    """Files that are reached through `-r` and `-c`."""
    missing: tuple[Stated[str], ...]
    """Environment files that MLmodel names and that do not exist."""
    files: tuple[ModelFile, ...]
    """Sorted by path."""
    digest: str
    example_request: bytes | None
    """A body for `POST /invocations`."""
    example_reason: str
    """Where the request comes from, or why there is none."""

    @classmethod
    def read(cls, directory: Path) -> Model:
        """Read a model directory, given itself or by its MLmodel file.

        Raises `ModelError` where there is no model that can be served, `InvalidFileError` with all problems of all
        its environment files where one of them cannot be read.
        """
        root = _find(directory)
        paths = _walk(root)
        reader = _Reader(root=root, paths=frozenset(paths), problems=Problems())
        mlmodel = MLmodel.parse(reader.text("MLmodel"), file=reader.name("MLmodel"))
        named = mlmodel.python_function
        conda = reader.environment(named.conda_env, "conda.yaml", CondaYaml.parse)
        python_env = reader.environment(named.virtual_env, "python_env.yaml", PythonEnvYaml.parse)
        requirements = reader.environment(None, "requirements.txt", reader.parse_requirements)
        included = reader.included(conda, python_env, requirements)
        reader.problems.finish()
        example = mlmodel.input_example
        texts = reader.texts(example_request.candidates(example))
        body, reason = example_request.make(example, mlmodel.signature, texts)
        # Hashing comes last: what is wrong with a model of many gigabytes is said at once.
        files = tuple(_file(paths[path], path, root / path) for path in sorted(paths))
        return cls(
            directory=root,
            mlmodel=mlmodel,
            conda=conda,
            python_env=python_env,
            requirements=requirements,
            included=included,
            missing=reader.missing((named.conda_env, named.virtual_env)),
            files=files,
            digest=_digest_of(files),
            example_request=body,
            example_reason=reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the text files of one model directory, each at most once and bounded in size."""

    root: Path
    paths: frozenset[str]
    problems: Problems

    def name(self, path: str) -> str:
        return str(self.root / path)

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
        path = Path(file).relative_to(self.root).as_posix()
        return RequirementsTxt.parse(text, file=file, path=path)

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
            for option in classify(line.value, source=line.source):
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
    if (given / "MLmodel").is_file():
        return given
    try:
        empty = not any(given.iterdir())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=source, fix="check its permissions") from error
    if empty:
        raise ModelError("the directory is empty", where=source, fix="give the directory that holds `MLmodel`")
    raise ModelError("no `MLmodel` in this directory", where=source, fix=_below_hint(given))


def _missing_hint(given: Path) -> str:
    text = str(given)
    if text.startswith(_URI_SCHEMES):
        return "model URIs are not read; download the model with `mlflow artifacts download` and give the directory"
    if text != text.strip() and Path(text.strip()).exists():
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
            if entry.name == "MLmodel" and entry.is_file():
                yield entry
            # `metadata` holds copies for a catalog.
            elif depth < _SEARCH_DEPTH and entry.name != "metadata" and entry.is_dir() and not entry.is_symlink():
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


def _walk(root: Path) -> dict[str, Path]:
    """Find every file below `root`; symbolic links are followed as long as they stay inside."""
    found: dict[str, Path] = {}
    seen = 0
    real_root = Path(os.path.realpath(root))
    waiting: list[tuple[Path, str, tuple[Path, ...]]] = [(real_root, "", (real_root,))]
    while waiting:
        directory, prefix, above = waiting.pop()
        for entry in _entries(directory, root / prefix):
            seen += 1
            if seen > MAX_FILES:
                # Links to directories can multiply without end.
                _refuse(root, f"more than {MAX_FILES} files, links followed")
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            real = _real(entry, root / path, real_root)
            mode = real.stat().st_mode
            if stat.S_ISDIR(mode):
                if real in above:
                    _refuse(root / path, "a link that leads back into itself")
                waiting.append((real, path, (*above, real)))
            elif stat.S_ISREG(mode):
                found[path] = real
            else:
                _refuse(root / path, "neither a file nor a directory")
    return found


def _entries(directory: Path, shown_as: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", where=Source(file=str(shown_as)), fix="check its permissions"
        ) from error


def _real(entry: os.DirEntry[str], shown_as: Path, real_root: Path) -> Path:
    if not entry.name.isprintable():
        _refuse(shown_as, "a file name that is not plain UTF-8 text")
    if not entry.is_symlink():
        return Path(entry.path)
    real = Path(os.path.realpath(entry.path))
    if not real.is_relative_to(real_root):
        _refuse(shown_as, "a link that leaves the model directory")
    if not real.exists():
        _refuse(shown_as, "a link to nothing")
    return real


def _refuse(path: Path, what: str) -> NoReturn:
    raise ModelError(
        what, where=Source(file=shown(str(path), limit=500)), fix="remove it, or put the file itself there"
    )


def _file(real: Path, path: str, shown_as: Path) -> ModelFile:
    digest = hashlib.sha256()
    size = 0
    try:
        with real.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", where=Source(file=str(shown_as)), fix="check its permissions"
        ) from error
    return ModelFile(path=path, size=size, digest=f"sha256:{digest.hexdigest()}")


def _digest_of(files: tuple[ModelFile, ...]) -> str:
    lines = "".join(f"{file.path}\0{file.digest}\n" for file in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
