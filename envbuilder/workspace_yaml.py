"""envbuilder.yaml as a value: what holds for all models of a workspace, and who gets which environment. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name, is_normalized_name

from envbuilder import package_index, python_request, workspace_defaults
from envbuilder.amendment import check_keys
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.environment_yaml import NAME, Environment
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, describe, get_document, get_mapping, get_sequence, get_text, get_texts
from envbuilder.package_index import normal_url
from envbuilder.policy import Policy
from envbuilder.problems import Problems, shown
from envbuilder.repair import REPAIRS
from envbuilder.secret import redact
from envbuilder.workspace_defaults import Defaults
from envbuilder.yaml_text import EMPTY, Node, load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from envbuilder.python_request import PythonRequest

FILE: Final = "envbuilder.yaml"

_KEYS: Final = ("defaults", "allowed_indexes", "allow_source", "environments", "rules", "repairs", "policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What is said of the versions of one registered environment."""

    name: str
    default: Stated[str] | None = None
    """The version of a reference that names none."""
    labels: tuple[tuple[str, Stated[str]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Gives an environment to the models that all its conditions hold for."""

    name: str | None = None
    """A pattern such as `churn-*`."""
    flavor: str | None = None
    python: Stated[PythonRequest] | None = None
    environment: EnvironmentReference | Environment
    source: Source

    def matches(self, *, name: str, flavors: tuple[str, ...], python: PythonRequest | None) -> bool:
        """Whether the rule is for a model of this name, these flavors and this Python."""
        return (
            (self.name is None or fnmatchcase(name, self.name))
            and (self.flavor is None or self.flavor in flavors)
            and (self.python is None or (python is not None and _within(python, self.python.value)))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceYaml:
    """What an envbuilder.yaml says."""

    defaults: Defaults = field(default_factory=Defaults)
    allowed_indexes: tuple[str, ...] = ()
    """The places that models may name, in the spelling of `normal_url`."""
    allow_source: tuple[NormalizedName, ...] = ()
    """The packages that may be built from source."""
    versions: tuple[Versions, ...] = ()
    rules: tuple[Rule, ...] = ()
    repairs_off: tuple[Stated[str], ...] = ()
    """The names of the repairs that are not made."""
    policy: Policy = field(default_factory=Policy)
    """What may be shipped."""

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> WorkspaceYaml:
        """Read the text of an envbuilder.yaml; raise `InvalidFileError` with all its problems."""
        source = Source(file=file)
        problems = Problems()
        node = load(text, source_file=file)
        document = EMPTY if node is None else get_document(node, source, "an envbuilder.yaml")
        check_keys(document, _KEYS, source, problems)
        defaults = workspace_defaults.read(
            get_mapping(document, "defaults", source, problems) or EMPTY, source.child("defaults"), problems
        )
        allowed = [
            package_index.read("extra_index_url", one, problems)
            for one in get_texts(document, "allowed_indexes", source, problems)
        ]
        allow_source = _allow_source(document, source, problems)
        versions = tuple(_versions(document, source, problems))
        rules = tuple(_rules(document, source, problems))
        repairs_off = _repairs_off(document, source, problems)
        policy = Policy.read(
            get_mapping(document, "policy", source, problems) or EMPTY, source.child("policy"), problems
        )
        problems.finish()
        return cls(
            defaults=defaults,
            allowed_indexes=tuple(normal_url(one.url) for one in allowed if one is not None),
            allow_source=allow_source,
            versions=versions,
            rules=rules,
            repairs_off=repairs_off,
            policy=policy,
        )

    def versions_of(self, name: str) -> Versions:
        """Return what is said of the versions of the environment `name`."""
        return next((one for one in self.versions if one.name == name), Versions(name=name))


def _within(python: PythonRequest, wanted: PythonRequest) -> bool:
    if python.exact is not None:
        return wanted.allows(python.exact)
    return python.minor is not None and wanted.allows_minor(python.minor)


def _versions(document: Mapping[str, Node], source: Source, problems: Problems) -> Iterable[Versions]:
    where = source.child("environments")
    environments = get_mapping(document, "environments", source, problems) or EMPTY
    for name in environments:
        here = where.child(shown(name))
        if not NAME.fullmatch(name):
            problems.add(f"`{shown(name)}` is not the name of an environment", where=here, fix="write `NAME:`")
            continue
        members = get_mapping(environments, name, where, problems) or EMPTY
        check_keys(members, ("default", "labels"), here, problems)
        labels = get_mapping(members, "labels", here, problems) or EMPTY
        stated = ((label, get_text(labels, label, here.child("labels"), problems)) for label in labels)
        yield Versions(
            name=name,
            default=get_text(members, "default", here, problems),
            labels=tuple((label, version) for label, version in stated if version is not None),
        )


def _rules(document: Mapping[str, Node], source: Source, problems: Problems) -> Iterable[Rule]:
    for index, item in enumerate(get_sequence(document, "rules", source, problems)):
        where = source.child("rules").child(index)
        if not isinstance(item, Mapping):
            problems.add(
                f"expected a rule, got {describe(item)}", where=where, fix="write `- name: …` and `environment:`"
            )
            continue
        check_keys(item, ("name", "flavor", "python", "environment"), where, problems)
        name, flavor, python = (get_text(item, key, where, problems) for key in ("name", "flavor", "python"))
        environment = _environment(item, where, problems)
        request = python_request.read(python, problems)
        if environment is not None:
            yield Rule(
                name=name.value if name is not None else None,
                flavor=flavor.value if flavor is not None else None,
                python=request,
                environment=environment,
                source=where,
            )


def _allow_source(document: Mapping[str, Node], source: Source, problems: Problems) -> tuple[NormalizedName, ...]:
    found = []
    for one in get_texts(document, "allow_source", source, problems):
        name = canonicalize_name(one.value)
        if is_normalized_name(name):
            found.append(name)
        else:
            problems.add(
                f"`{shown(redact(one.value))}` is not the name of a package",
                where=one.source,
                fix="write e.g. `psutil`",
            )
    return tuple(found)


def _repairs_off(document: Mapping[str, Node], source: Source, problems: Problems) -> tuple[Stated[str], ...]:
    members = get_mapping(document, "repairs", source, problems) or EMPTY
    check_keys(members, ("off",), source.child("repairs"), problems)
    known = [one.name for one in REPAIRS]
    found = get_texts(members, "off", source.child("repairs"), problems)
    for stated in found:
        if stated.value not in known:
            near = difflib.get_close_matches(stated.value, known, n=1)
            problems.add(
                f"there is no repair `{shown(stated.value)}`",
                where=stated.source,
                fix=f"did you mean `{near[0]}`?" if near else "`envbuilder resolve` names those it makes",
            )
    return found


def _environment(
    item: Mapping[str, Node], source: Source, problems: Problems
) -> EnvironmentReference | Environment | None:
    given = item.get("environment")
    where = source.child("environment")
    try:
        if isinstance(given, Mapping):
            return Environment.read(given, where, problems)
        stated = get_text(item, "environment", source, problems)
        if stated is not None:
            return EnvironmentReference.parse(stated.value, source=where)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None
    if given is None:
        problems.add("no `environment`", where=source, fix="name the environment that the rule gives")
    return None
