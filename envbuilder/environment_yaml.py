"""An environment of the workspace: a replacement in Azure ML's words (CLI v2), or an amendment. Pure.

A replacement's schema is https://azuremlschemas.azureedge.net/latest/environment.schema.json; an amendment has the key
`amend` in the place of `image`, `build` and `conda_file`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from envbuilder import digest, route
from envbuilder.amendment import Amendment, check_keys
from envbuilder.base_request import BaseRequest, read_image
from envbuilder.conda_yaml import CondaYaml
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, get_document, get_mapping, get_text
from envbuilder.pip_line import PipOption, classify
from envbuilder.problems import Problems, shown
from envbuilder.requirement import Requirement
from envbuilder.secret import redact
from envbuilder.yaml_text import EMPTY, Node, dump, load, plain, redacted

if TYPE_CHECKING:
    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.digest import Digest
    from envbuilder.pip_line import Line, PipLine
    from envbuilder.route import Route

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

_IGNORED: Final = ("$schema", "id", "creation_context", "resourceGroup", "latest_version", "datastore")
_KEYS: Final = (
    "name",
    "version",
    "description",
    "tags",
    "properties",
    "image",
    "build",
    "conda_file",
    "inference_config",
    "os_type",
    "amend",
)
_URL: Final = re.compile(r"(https?|git)://[A-Za-z0-9._~:/#@%+,=-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What takes the place of a model's environment."""

    base: BaseRequest | None = None
    conda: CondaYaml | None = None
    conda_file: Stated[str] | None = None
    """The path of a conda.yaml that is not read yet, relative to the environment's file."""
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment: registered when it has a name and a version, anonymous otherwise."""

    name: Stated[str] | None = None
    version: Stated[str] | None = None
    description: str | None = None
    tags: Mapping[str, Node] = field(default_factory=lambda: EMPTY)
    properties: Mapping[str, Node] = field(default_factory=lambda: EMPTY)
    content: Replacement | Amendment
    source: Source

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> Environment:
        """Read the text of an environment file; raise `InvalidFileError` with all its problems."""
        source = Source(file=file)
        problems = Problems()
        document = get_document(load(text, source_file=file), source, "an environment")
        found = cls.read(document, source, problems)
        problems.finish()
        return found

    @classmethod
    def read(cls, document: Mapping[str, Node], source: Source, problems: Problems) -> Environment:
        """Read an environment that is part of another document; what is wrong is added to `problems`."""
        if is_conda_file(document):
            _refuse_conda_file(source)
        check_keys({key: value for key, value in document.items() if key not in _IGNORED}, _KEYS, source, problems)
        description = get_text(document, "description", source, problems)
        content: Replacement | Amendment
        if "amend" in document:
            for key in ("image", "build", "conda_file", "inference_config", "os_type"):
                if key in document:
                    problems.add(
                        f"`{key}` replaces the model's environment and `amend` keeps it",
                        where=source.child(key),
                        fix="write two environments" if key != "image" else "write `image` below `amend`",
                    )
            content = Amendment.read(
                get_mapping(document, "amend", source, problems) or EMPTY, source.child("amend"), problems
            )
        else:
            content = _replacement(document, source, problems)
        return cls(
            name=_matching(document, "name", NAME, source, problems),
            version=_matching(document, "version", VERSION, source, problems),
            description=redact(description.value) if description is not None else None,
            tags=_notes(document, "tags", source, problems),
            properties=_notes(document, "properties", source, problems),
            content=content,
            source=source,
        )

    @property
    def kind(self) -> str:
        """`amendment` or `replacement`."""
        return "amendment" if isinstance(self.content, Amendment) else "replacement"

    @property
    def digest(self) -> Digest:
        """The digest of what it does: the same whatever its name, version, description, order and comments."""
        content = self.content
        if isinstance(content, Amendment):
            return digest.of_json({"amend": content.meaning})
        return digest.of_json(
            {
                "base": content.base.meaning if content.base is not None else None,
                "conda": _meaning(content.conda) if content.conda is not None else None,
                "conda_file": content.conda_file.value if content.conda_file is not None else None,
                "routes": sorted(one.text for one in content.routes),
            }
        )

    @property
    def reference(self) -> str:
        """How people name it: `NAME:VERSION`, or its file where it is not registered."""
        if self.name is None:
            return str(self.source)
        return f"{self.name.value}:{self.version.value}" if self.version is not None else self.name.value

    @property
    def secrets(self) -> tuple[Source, ...]:
        """Where credentials are written."""
        content = self.content
        if isinstance(content, Amendment):
            return content.secrets
        conda = content.conda
        holders: tuple[Line | MatchSpec, ...] = (
            (*conda.channels, *conda.match_specs, *conda.pip_lines) if conda is not None else ()
        )
        return tuple(one.source for one in holders if one.secret is not None)

    def with_base(self, base: BaseRequest) -> Environment:
        """Return the environment on another base."""
        return replace(self, content=replace(self.content, base=base))

    def to_plain(self) -> dict[str, object]:
        """Return what an environment file of the same meaning holds; credentials are not in it."""
        content = self.content
        if isinstance(content, Amendment):
            members: dict[str, object] = {"amend": content.to_plain()}
        else:
            base = content.base
            build = {"path": base.context, "dockerfile_path": base.dockerfile} if base and base.context else None
            conda_file = content.conda_file.value if content.conda_file is not None else None
            members = {
                "image": base.image if base is not None else None,
                "build": build,
                "conda_file": content.conda.to_plain() if content.conda is not None else conda_file,
                "inference_config": {
                    f"{one.name}_route": {"port": one.port, "path": one.path} for one in content.routes
                }
                or None,
            }
        named: dict[str, object] = {
            "name": self.name.value if self.name is not None else None,
            "version": self.version.value if self.version is not None else None,
            "description": self.description,
            "tags": plain(self.tags) or None,
            "properties": plain(self.properties) or None,
        }
        return {key: value for key, value in (named | members).items() if value is not None}

    def to_text(self) -> str:
        """Return an environment file of the same meaning."""
        return dump(self.to_plain())


def version_key(version: str) -> tuple[int, Version, str]:
    """Return what versions are ordered by: those of PEP 440 by its rules, and above all others."""
    try:
        return 1, Version(version), version
    except InvalidVersion:
        return 0, Version("0"), version


def is_conda_file(document: Mapping[str, Node]) -> bool:
    """Whether this is what an environment's `conda_file` names, and not an environment."""
    return "dependencies" in document or "channels" in document


def _refuse_conda_file(source: Source) -> None:
    name = PurePosixPath(source.file).name if not source.key else "PATH"
    raise InvalidFileError(
        "this is a conda file, not an environment",
        where=source,
        fix=f"write an environment file with `image: NAME` and `conda_file: {shown(name)}`",
    )


def _replacement(document: Mapping[str, Node], source: Source, problems: Problems) -> Replacement:
    base = read_image(document, "image", source, problems)
    build = get_mapping(document, "build", source, problems)
    os_type = get_text(document, "os_type", source, problems)
    if os_type is not None and os_type.value.lower() != "linux":
        problems.add(f"no images are made for `{shown(os_type.value)}`", where=os_type.source, fix="write `linux`")
    conda, conda_file = None, None
    given = document.get("conda_file")
    if isinstance(given, Mapping):
        conda = CondaYaml.read(given, source.child("conda_file"), problems)
    else:
        conda_file = get_text(document, "conda_file", source, problems)
        if conda_file is not None and "://" in conda_file.value:
            problems.add(
                f"`{shown(conda_file.value)}` is a URL, which conda files are not read from",
                where=conda_file.source,
                fix="give a path relative to the environment's file, or the content itself",
            )
    if build is not None and document.get("image") is not None:
        problems.add(
            "`image` and `build` are given together",
            where=source.child("build"),
            fix="keep `image`, or write `FROM` that image in the Dockerfile",
        )
    elif build is not None:
        base = _build(build, source.child("build"), problems)
    if not any(document.get(key) is not None for key in ("image", "build", "conda_file")):
        problems.add(
            "nothing says what the environment is",
            where=source,
            fix="give `image`, `build` or `conda_file`, or `amend` to change the model's own",
        )
    return Replacement(
        base=base, conda=conda, conda_file=conda_file, routes=route.read(document, "inference_config", source, problems)
    )


def _build(build: Mapping[str, Node], source: Source, problems: Problems) -> BaseRequest | None:
    check_keys(build, ("path", "dockerfile_path"), source, problems)
    path = get_text(build, "path", source, problems)
    dockerfile = get_text(build, "dockerfile_path", source, problems)
    name = dockerfile.value if dockerfile is not None else "Dockerfile"
    if path is None:
        problems.add("no `path`", where=source, fix="give the directory of the build context")
        return None
    is_place = "://" in path.value
    place = redact(path.value)
    if place != path.value or not place.isprintable() or (is_place and not _URL.fullmatch(place)):
        problems.add(
            f"`{shown(place)}` is not a build context",
            where=path.source,
            fix="give a directory, or an https URL without credentials",
        )
    is_outside = name.startswith(("/", "~")) or ".." in PurePosixPath(name).parts or "://" in name
    if is_outside or not name.isprintable():
        problems.add(
            f"`{shown(name)}` leads out of the build context",
            where=source.child("dockerfile_path"),
            fix="give a path inside the context",
        )
    return BaseRequest(context=path.value, dockerfile=name, source=path.source)


def _notes(document: Mapping[str, Node], key: str, source: Source, problems: Problems) -> Mapping[str, Node]:
    """Return the mapping at `key`, which is for people, without credentials."""
    members = get_mapping(document, key, source, problems) or EMPTY
    return {redact(name): redacted(value) for name, value in members.items()}


def _matching(
    document: Mapping[str, Node], key: str, grammar: re.Pattern[str], source: Source, problems: Problems
) -> Stated[str] | None:
    stated = get_text(document, key, source, problems)
    if stated is not None and not grammar.fullmatch(stated.value):
        problems.add(
            f"`{shown(redact(stated.value))}` is not the {key} of an environment",
            where=stated.source,
            fix="use letters, digits, `.`, `_` and `-`, the first a letter or digit, "
            "at most 255 for a name and 100 for a version",
        )
        return None
    return stated


def _meaning(conda: CondaYaml) -> dict[str, object]:
    """Return what is compared of a conda.yaml: its name says nothing, the order of its channels does."""
    items = (item for line in conda.pip_lines for item in classify(line))
    return {
        "channels": [one.value for one in conda.channels],
        "match_specs": sorted({one.meaning for one in conda.match_specs}),
        "pip": sorted({_line_meaning(item) for item in items}),
        "variables": {one.name: one.value for one in conda.variables},
    }


def _line_meaning(item: PipLine) -> str:
    match item:
        case Requirement():
            return item.meaning
        case PipOption():
            return f"{item.name} {item.value}"
        case _:
            return item.what
