"""The environments that are registered in a workspace: found by reference, and added.

`environments/NAME.yaml` holds one version of an environment, `environments/NAME/VERSION.yaml` one of several.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from envbuilder import environment_file
from envbuilder.environment_reference import LATEST, EnvironmentReference
from envbuilder.environment_yaml import NAME, VERSION, Environment, is_conda_file, version_key
from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.fields import Stated
from envbuilder.problems import Problems, shown
from envbuilder.workspace_yaml import FILE, WorkspaceYaml
from envbuilder.yaml_text import load

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_VERSION: Final = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One version of an environment in the workspace."""

    name: str
    version: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What registering came to."""

    environment: Environment
    file: Path
    existed: bool
    """True when the same content was registered already under this name and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentCatalog:
    """The registered environments of one workspace."""

    workspace: Path
    says: WorkspaceYaml

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.workspace / "environments"

    def registered(self) -> tuple[Registered, ...]:
        """Return every registered version, by name, the latest last."""
        folder = self.folder
        if not folder.is_dir():
            return ()
        names = {path.stem for path in folder.glob("*.yaml")} | {
            path.name for path in folder.iterdir() if path.is_dir()
        }
        return tuple(one for name in sorted(names) for one in self._versions(name))

    def labels(self, one: Registered) -> tuple[str, ...]:
        """Return the labels that stand for this version, `default` and `latest` among them."""
        said = self.says.versions_of(one.name)
        latest = self._versions(one.name)[-1].version == one.version
        return (
            *(["default"] if said.default is not None and said.default.value == one.version else []),
            *([LATEST] if latest and LATEST not in dict(said.labels) else []),
            *(label for label, version in said.labels if version.value == one.version),
        )

    def load(self, one: Registered) -> Environment:
        """Read a registered environment."""
        found = environment_file.read(one.file)
        return replace(
            found,
            name=found.name or Stated(value=one.name, source=found.source),
            version=found.version or Stated(value=one.version, source=found.source),
        )

    def find(self, reference: EnvironmentReference) -> Environment:
        """Return the environment that is meant; raise `InvalidFileError` with what there is instead."""
        if reference.path is not None:
            return environment_file.read(Path(reference.path).expanduser(), source=reference.source)
        name = str(reference.name)
        versions = self._versions(name)
        if not versions:
            if environment_file.is_file(self.folder / f"{name}.yaml"):
                # A conda file: the refusal says how an environment names it.
                environment_file.read(self.folder / f"{name}.yaml")
            known = sorted({one.name for one in self.registered()})
            near = difflib.get_close_matches(name, known, n=1)
            listed = ", ".join(f"`{shown(one)}`" for one in known) or "none"
            raise InvalidFileError(
                f"no environment `{name}` in the workspace; there is {listed}",
                where=reference.source,
                fix=f"did you mean `{near[0]}`?" if near else "register it: `envbuilder environment register FILE`",
            )
        return self.load(_chosen(versions, self._version(reference), reference))

    def register(self, file: Path, *, name: str | None = None, version: str | None = None) -> Registration:
        """Write the environment of `file` into the workspace; the same content again changes nothing.

        Without a version, the same content keeps the one it has, other content gets the next whole number. Raises
        `InvalidFileError` where the name and version stand for other content already.
        """
        given = environment_file.read(file)
        chosen = name or (given.name.value if given.name is not None else None)
        source = Source(file=str(file))
        if chosen is None or not NAME.fullmatch(chosen):
            raise InvalidFileError(
                "the environment has no name" if chosen is None else f"`{shown(chosen)}` is not a name",
                where=source,
                fix="write `name: NAME` in it, or pass `--name NAME`",
            )
        if given.secrets:
            raise InvalidFileError(
                tuple(
                    Problem(what="credentials in an environment that is to be registered", where=where, fix=_NO_SECRETS)
                    for where in given.secrets
                )
            )
        given = self._moved(given, file, chosen)
        wanted = version or (given.version.value if given.version is not None else None)
        if wanted is not None and not VERSION.fullmatch(wanted):
            raise InvalidFileError(f"`{shown(wanted)}` is not a version", where=source, fix="write e.g. `1.2`")
        given = replace(given, name=Stated(value=chosen, source=source))
        while True:
            existing = {one.version: one for one in self._versions(chosen)}
            same = [one for one in existing.values() if self.load(one).digest == given.digest]
            number = wanted or (same[-1].version if same else _next_version(existing))
            named = replace(given, version=Stated(value=number, source=source))
            there = existing.get(number)
            if there in same:
                return Registration(environment=named, file=there.file, existed=True)
            if there is not None:
                raise InvalidFileError(
                    f"`{named.reference}` is registered with other content",
                    where=Source(file=str(there.file)),
                    fix="give another version, or none for the next one",
                )
            file = self.folder / chosen / f"{number}.yaml"
            if _write(named, file):
                return Registration(environment=named, file=file, existed=False)
            # Somebody else registered this version meanwhile; anything else that lies there is refused.
            environment_file.read(file)

    def _moved(self, environment: Environment, file: Path, name: str) -> Environment:
        """Return the environment as its new place must say it: a build context is named from there."""
        content = environment.content
        base = content.base
        if base is None or base.context is None or "://" in base.context:
            return environment
        context = (file.parent / base.context).resolve()
        if not context.is_relative_to(self.workspace.resolve()):
            raise InvalidFileError(
                "the build context lies outside the workspace", where=base.source, fix="move it into the workspace"
            )
        moved = os.path.relpath(context, self.folder.resolve() / name)
        return environment.with_base(replace(base, context=moved))

    def _version(self, reference: EnvironmentReference) -> str | None:
        """Return the version that is meant, None for the latest."""
        if reference.version is not None:
            return reference.version
        said = self.says.versions_of(str(reference.name))
        if reference.label is None:
            return said.default.value if said.default is not None else None
        labels = dict(said.labels)
        if reference.label in labels:
            return labels[reference.label].value
        if reference.label == LATEST:
            return None
        listed = ", ".join(f"`{shown(one)}`" for one in [LATEST, *labels])
        raise InvalidFileError(
            f"`{reference.name}` has no label `{reference.label}`; there is {listed}",
            where=reference.source,
            fix=f"write it below `environments.{reference.name}.labels` in {FILE}",
        )

    def _versions(self, name: str) -> list[Registered]:
        """Return the versions of one environment, the latest last."""
        single = self.folder / f"{name}.yaml"
        found = []
        if environment_file.is_file(single) and not _holds_conda(single):
            stated = environment_file.read(single).version
            version = stated.value if stated is not None else _FIRST_VERSION
            found.append(Registered(name=name, version=version, file=single))
        paths = (path for path in (self.folder / name).glob("*.yaml") if not _holds_conda(path))
        found += [Registered(name=name, version=path.stem, file=path) for path in paths]
        problems = Problems()
        _check_files(found, problems)
        problems.finish()
        return sorted(found, key=lambda one: version_key(one.version))


def _write(environment: Environment, file: Path) -> bool:
    """Write a new file; False where it exists."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".tmp-")
    except OSError as error:
        raise InvalidFileError(
            f"cannot be written: {error.strerror}", where=Source(file=str(file)), fix="check the folder's permissions"
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(environment.to_text().encode())
            os.fchmod(stream.fileno(), 0o644)
        # Unlike a rename, a link fails where somebody else registers the same version at this moment.
        os.link(temporary, file)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink()
    return True


def _holds_conda(file: Path) -> bool:
    """Whether it is the conda file of an environment that lies beside it."""
    document = load(environment_file.read_text(file), source_file=str(file))
    return isinstance(document, Mapping) and is_conda_file(document)


_NO_SECRETS: Final = "remove them; they are read from `.netrc`, or from ENVBUILDER_INDEX_URL"


def _chosen(versions: list[Registered], version: str | None, reference: EnvironmentReference) -> Registered:
    if version is None:
        return versions[-1]
    exact = [one for one in versions if one.version == version]
    if exact:
        return exact[0]
    same = [one.version for one in versions if _equal(one.version, version)]
    listed = ", ".join(f"`{one.version}`" for one in versions)
    raise InvalidFileError(
        f"`{reference.name}` has no version `{version}`; there is {listed}",
        where=reference.source,
        fix=f"did you mean `{reference.name}:{same[0]}`?"
        if same
        else f"write one of them, or `{reference.name}@latest`",
    )


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one.lower() == other.lower()


def _next_version(existing: Iterable[str]) -> str:
    numbers = [int(one) for one in existing if one.isdecimal()]
    return str(max(numbers, default=0) + 1)


def _check_files(found: list[Registered], problems: Problems) -> None:
    """Add a problem for every file that says another name or version than its own, and for a version given twice."""
    for one in found:
        environment = environment_file.read(one.file)
        for key, said, own in (
            ("name", environment.name, one.name),
            ("version", environment.version, one.version),
        ):
            if said is not None and said.value != own:
                problems.add(
                    f"the file's place says `{shown(own)}`, its `{key}` says `{shown(said.value)}`",
                    where=said.source,
                    fix="rename the file, or correct the key",
                )
    versions = [one.version for one in found]
    for one in found[1:]:
        if versions.count(one.version) > 1:
            problems.add(
                f"version `{shown(one.version)}` stands in two files",
                where=Source(file=str(one.file)),
                fix="remove one",
            )
