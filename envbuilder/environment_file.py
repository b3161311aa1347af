"""An environment file of the workspace, or one that is given for one build, with the files that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envbuilder.conda_yaml import CondaYaml
from envbuilder.environment_yaml import Environment, Replacement
from envbuilder.errors import InvalidFileError, ModelError, Source
from envbuilder.model_files import ModelFiles
from envbuilder.problems import shown
from envbuilder.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def read(file: Path, *, source: Source | None = None) -> Environment:
    """Read an environment file with its conda file and the digest of its build context."""
    if not is_file(file):
        raise InvalidFileError(
            f"`{shown(str(file))}` does not exist",
            where=source,
            fix="give the path of an environment file, or `NAME:VERSION` of a registered one",
        )
    return complete(Environment.parse(read_text(file), file=str(file)), file.parent)


def complete(environment: Environment, folder: Path) -> Environment:
    """Return the environment with what it only names; paths are relative to `folder`."""
    content = environment.content
    found = environment
    if isinstance(content, Replacement) and content.conda_file is not None:
        path = folder / content.conda_file.value
        if not is_file(path):
            raise InvalidFileError(
                f"`{shown(content.conda_file.value)}` does not exist",
                where=content.conda_file.source,
                fix="give a path relative to the environment's file",
            )
        conda = CondaYaml.parse(read_text(path), file=str(path))
        found = replace(found, content=replace(content, conda=conda, conda_file=None))
    base = content.base
    if base is not None and base.context is not None and "://" not in base.context:
        context = folder / base.context
        if not is_file(context / base.dockerfile):
            raise InvalidFileError(
                f"`{shown(base.context)}` has no `{shown(base.dockerfile)}`",
                where=base.source,
                fix="give a directory relative to the environment's file, and `dockerfile_path` in it",
            )
        try:
            digest = ModelFiles.read(context).digest
        except ModelError as error:
            raise InvalidFileError(error.problems) from error
        found = found.with_base(replace(base, digest=digest))
    return found


def is_file(path: Path) -> bool:
    """Whether there is a file; there is none where the system refuses to look, as at a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_text(file: Path) -> bytes:
    """Read no more than a reader accepts, so that it can tell that there is too much."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidFileError(
            f"cannot be read: {error.strerror}", where=Source(file=str(file)), fix="check its permissions"
        ) from error
