"""envbuilder.yaml as a value: what holds for all models of a workspace, and who gets which environment. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from envbuilder import package_index, python_request
from envbuilder.amendment import check_keys
from envbuilder.base_request import BaseRequest, read_image
from envbuilder.channel import Address
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.environment_yaml import NAME, Environment
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated, describe, get_document, get_mapping, get_sequence, get_text, get_texts
from envbuilder.package_index import PackageIndex, normal_url
from envbuilder.pip_line import Line
from envbuilder.problems import Problems, shown
from envbuilder.repair import REPAIRS
from envbuilder.yaml_text import EMPTY, Node, load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.package_index import IndexKind
    from envbuilder.python_request import PythonRequest

FILE: Final = "envbuilder.yaml"

_KEYS: Final = ("defaults", "allowed_indexes", "environments", "rules", "repairs")
_DEFAULTS: Final = (
    "base_image",
    "engine",
    "platform",
    "index_url",
    "extra_index_urls",
    "find_links",
    "keyring",
    "channel_alias",
    "channel_mirrors",
    "proxy",
    "no_proxy",
    "ca_file",
)
_ENGINES: Final = ("auto", "docker", "oci")
_PLATFORMS: Final = ("linux/amd64", "linux/arm64")
_KEYRING: Final = ("disabled", "subprocess")
_PROXY: Final = re.compile(r"(https?|socks5h?)://([^\s/@]+@)?[^\s/@:]+(:\d{1,5})?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where neither the command line nor an environment says something else."""

    base: BaseRequest | None = None
    bases: tuple[tuple[str, BaseRequest], ...] = ()
    """A base for each minor version of Python."""
    engine: Stated[str] | None = None
    platform: Stated[str] | None = None
    index_url: PackageIndex | None = None
    extra_index_urls: tuple[PackageIndex, ...] = ()
    find_links: tuple[PackageIndex, ...] = ()
    """Pages with links to wheels."""
    keyring: Stated[str] | None = None
    """How passwords of indexes are looked up in a keyring, in pip's and uv's words."""
    channel_alias: Line | None = None
    """What the names of conda channels are below."""
    channel_mirrors: tuple[tuple[Line, Line], ...] = ()
    """Who is asked instead of an address; the lock keeps the address."""
    proxy: Line | None = None
    """What everything over http(s) goes through."""
    no_proxy: tuple[str, ...] = ()
    """Hosts, domains and networks that are reached without it."""
    ca_file: Stated[str] | None = None
    """The path of a PEM file, relative to the workspace."""

    def base_for(self, python: PythonRequest) -> BaseRequest | None:
        """Return the base for the Python that is asked for, None where none is stated."""
        fitting = (base for minor, base in self.bases if python.allows_minor(minor))
        return next(fitting, self.base)


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

    defaults: Defaults = Defaults()
    allowed_indexes: tuple[str, ...] = ()
    """The places that models may name, in the spelling of `normal_url`."""
    versions: tuple[Versions, ...] = ()
    rules: tuple[Rule, ...] = ()
    repairs_off: tuple[Stated[str], ...] = ()
    """The names of the repairs that are not made."""

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> WorkspaceYaml:
        """Read the text of an envbuilder.yaml; raise `InvalidFileError` with all its problems."""
        source = Source(file=file)
        problems = Problems()
        node = load(text, source_file=file)
        document = EMPTY if node is None else get_document(node, source, "an envbuilder.yaml")
        check_keys(document, _KEYS, source, problems)
        defaults = _defaults(
            get_mapping(document, "defaults", source, problems) or EMPTY, source.child("defaults"), problems
        )
        allowed = [
            package_index.read("extra_index_url", one, problems)
            for one in get_texts(document, "allowed_indexes", source, problems)
        ]
        versions = tuple(_versions(document, source, problems))
        rules = tuple(_rules(document, source, problems))
        repairs_off = _repairs_off(document, source, problems)
        problems.finish()
        return cls(
            defaults=defaults,
            allowed_indexes=tuple(normal_url(one.url) for one in allowed if one is not None),
            versions=versions,
            rules=rules,
            repairs_off=repairs_off,
        )

    def versions_of(self, name: str) -> Versions:
        """Return what is said of the versions of the environment `name`."""
        return next((one for one in self.versions if one.name == name), Versions(name=name))


def _within(python: PythonRequest, wanted: PythonRequest) -> bool:
    if python.exact is not None:
        return wanted.allows(python.exact)
    return python.minor is not None and wanted.allows_minor(python.minor)


def _defaults(members: Mapping[str, Node], source: Source, problems: Problems) -> Defaults:
    check_keys(members, _DEFAULTS, source, problems)
    bases = members.get("base_image")
    by_python: list[tuple[str, BaseRequest]] = []
    if isinstance(bases, Mapping):
        where = source.child("base_image")
        for minor in bases:
            base = read_image(bases, minor, where, problems)
            if not re.fullmatch(r"3\.\d{1,2}", minor):
                problems.add(
                    f"`{shown(minor)}` is not a minor version of Python", where=where, fix="write e.g. `3.11: NAME`"
                )
            elif base is not None:
                by_python.append((minor, base))
    index = get_text(members, "index_url", source, problems)
    return Defaults(
        base=read_image(members, "base_image", source, problems) if not isinstance(bases, Mapping) else None,
        bases=tuple(by_python),
        engine=_one_of(members, "engine", _ENGINES, source, problems),
        platform=_one_of(members, "platform", _PLATFORMS, source, problems),
        index_url=package_index.read("index_url", index, problems) if index is not None else None,
        extra_index_urls=_indexes("extra_index_url", members, "extra_index_urls", source, problems),
        find_links=_indexes("find_links", members, "find_links", source, problems),
        keyring=_one_of(members, "keyring", _KEYRING, source, problems),
        channel_alias=_address(get_text(members, "channel_alias", source, problems), problems),
        channel_mirrors=tuple(_mirrors(members, source, problems)),
        proxy=_proxy(get_text(members, "proxy", source, problems), problems),
        no_proxy=tuple(_directs(get_texts(members, "no_proxy", source, problems), problems)),
        ca_file=get_text(members, "ca_file", source, problems),
    )


def _indexes(
    kind: IndexKind, members: Mapping[str, Node], key: str, source: Source, problems: Problems
) -> tuple[PackageIndex, ...]:
    read = [package_index.read(kind, one, problems) for one in get_texts(members, key, source, problems)]
    return tuple(one for one in read if one is not None)


def _proxy(stated: Stated[str] | None, problems: Problems) -> Line | None:
    if stated is None or _PROXY.fullmatch(stated.value):
        return Line.of(stated.value, source=stated.source) if stated is not None else None
    problems.add(
        f"`{shown(stated.value)}` is not the URL of a proxy", where=stated.source, fix="write `http://HOST:PORT`"
    )
    return None


def _directs(stated: Iterable[Stated[str]], problems: Problems) -> Iterable[str]:
    for one in stated:
        if re.fullmatch(r"[A-Za-z0-9._:*/\[\]-]+", one.value):
            yield one.value
        else:
            problems.add(
                f"`{shown(one.value)}` is not a host",
                where=one.source,
                fix="write a host, a domain such as `.example`, or a network such as `10.0.0.0/8`",
            )


def _mirrors(members: Mapping[str, Node], source: Source, problems: Problems) -> Iterable[tuple[Line, Line]]:
    where = source.child("channel_mirrors")
    pairs = get_mapping(members, "channel_mirrors", source, problems) or EMPTY
    for address in pairs:
        of = _address(Stated(value=address, source=where.child(address)), problems)
        by = _address(get_text(pairs, address, where, problems), problems)
        if of is not None and by is not None:
            yield of, by


def _address(stated: Stated[str] | None, problems: Problems) -> Line | None:
    """Read the URL of a conda channel, or of what channels are below."""
    if stated is None:
        return None
    try:
        Address.parse(stated.value, where=stated.source)
    except InvalidFileError as error:
        problems.extend(error.problems)
        return None
    return Line.of(stated.value, source=stated.source)


def _one_of(
    members: Mapping[str, Node], key: str, known: tuple[str, ...], source: Source, problems: Problems
) -> Stated[str] | None:
    stated = get_text(members, key, source, problems)
    if stated is None or stated.value in known:
        return stated
    listed = " or ".join(f"`{one}`" for one in known)
    problems.add(f"`{shown(stated.value)}` is not known here", where=stated.source, fix=f"write {listed}")
    return None


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
