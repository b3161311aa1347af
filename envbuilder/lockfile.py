"""The lockfile: locks for one or several platforms as the text of a `conda-lock.yml`.

conda-lock and micromamba read it, and conda-lock's own models write the same bytes (the tests hold it to that); what
envbuilder adds stands in `metadata.custom_metadata`. Both written and read here (lockfile version 1), because importing
conda-lock takes longer than a whole build that only changes the model, and as long as uv takes to find the packages.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import yaml

from envbuilder import digest
from envbuilder.conda_package import CondaPackage
from envbuilder.digest import Digest
from envbuilder.errors import InvalidFileError, LockMismatchError, Problem, Source
from envbuilder.locked import Lock, LockedBase, LockedPackage, WheelSource
from envbuilder.target import SUBDIRS, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FILENAME: Final = re.compile(r"[A-Za-z0-9._+!-]+\.whl\Z")
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_VERSION: Final = re.compile(r"[A-Za-z0-9._+!-]+\Z")
_IN_MODEL: Final = re.compile(r"\./(?!(?:.*/)?\.\.?(?:/|$))[^\\\0]+\Z")
_CUSTOM: Final = "metadata.custom_metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """Locks of what is asked for in one place, at most one for each platform."""

    locks: tuple[Lock, ...]
    """At least one; sorted by subdir."""

    @classmethod
    def of(cls, locks: Iterable[Lock]) -> Lockfile:
        """Put locks into one file."""
        return cls(locks=tuple(sorted(locks, key=lambda lock: lock.subdir)))

    def lock_for(self, subdir: str) -> Lock | None:
        """Return the lock for a platform."""
        return next((lock for lock in self.locks if lock.subdir == subdir), None)

    def to_text(self) -> str:
        """Return the text of a `conda-lock.yml`; the same locks give the same bytes."""
        first = self.locks[0]
        channels = dict.fromkeys(channel for lock in self.locks for channel in lock.channels)
        document = {
            "version": 1,
            "metadata": {
                "content_hash": {lock.subdir: digest.hex_of(lock.packages_digest) for lock in self.locks},
                "channels": [{"url": url, "used_env_vars": []} for url in channels],
                "platforms": [lock.subdir for lock in self.locks],
                "sources": ["conda.yaml"],
                "custom_metadata": {
                    "envbuilder_version": first.tool_version,
                    "packages_digest": first.packages_digest,
                    **{f"{lock.subdir}.{key}": value for lock in self.locks for key, value in _custom(lock).items()},
                },
            },
            "package": [item for lock in self.locks for item in _items(lock)],
        }
        body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
        return (
            "# Locked by envbuilder; edit the model's conda.yaml and run `envbuilder lock` instead of editing this.\n"
            f"{body}"
        )

    @classmethod
    def parse(cls, text: str, *, file: str) -> Lockfile:
        """Read a `conda-lock.yml` that envbuilder wrote.

        Raises InvalidFileError with every problem found, LockMismatchError where it was edited.
        """
        reader = _Reader(file)
        found = reader.lockfile(reader.load(text))
        reader.finish()
        for lock in found.locks:
            if reader.stated.get(lock.subdir) != lock.digest:
                raise LockMismatchError(
                    "the packages are not those that were locked: the file was edited or damaged",
                    where=Source(file=file, key="package"),
                    fix="restore the file, or remove it and lock again with `envbuilder lock`",
                )
        return found


def _items(lock: Lock) -> list[dict[str, Any]]:
    conda = [
        {
            **_item(lock, one.name, one.version, "conda", dict(_dependency(text) for text in one.depends)),
            "url": one.url,
            "hash": {"md5": one.md5, "sha256": digest.hex_of(one.sha256)},
            "build": one.build,
        }
        for one in lock.conda_packages
    ]
    wheels = [
        {
            **_item(lock, one.name, one.version, "pip", dict.fromkeys(one.dependencies, "*")),
            "url": _source_url(one.source) if one.source is not None else one.url,
            "hash": {"sha256": digest.hex_of(one.source.digest if one.source is not None else one.sha256)},
            **({"source": {"type": "url", "url": one.url}} if one.is_direct else {}),
        }
        for one in lock.packages
    ]
    return [{**one, "category": "main", "optional": False} for one in (*conda, *wheels)]


def _item(lock: Lock, name: str, version: str, manager: str, dependencies: dict[str, str]) -> dict[str, Any]:
    """Return how every package begins, in the order that conda-lock writes."""
    return {
        "name": name,
        "version": version,
        "manager": manager,
        "platform": lock.subdir,
        "dependencies": dependencies,
    }


def _custom(lock: Lock) -> dict[str, str]:
    """Return what conda-lock's format has no place for."""
    target = lock.target
    found = {"lock_digest": str(lock.digest), "python_version": lock.python_version}
    if lock.base is not None:
        found |= {"base_reference": lock.base.reference, "base_digest": lock.base.digest}
    found |= {"glibc": target.glibc} if target.system == "linux" else {}
    found |= {"macos": target.macos} if target.system == "osx" else {}
    if target.cuda is not None:
        found["cuda"] = target.cuda
    built = {
        one.name: {"file": one.filename, "sha256": one.sha256, "tools": [_tool(tool) for tool in one.source.tools]}
        for one in lock.packages
        if one.source is not None
    }
    if built:
        found["built_wheels"] = json.dumps(built)
    return found


def _tool(tool: LockedPackage) -> dict[str, str]:
    return {"name": tool.name, "version": tool.version, "url": tool.url, "sha256": tool.sha256}


def _source_url(source: WheelSource) -> str:
    return f"{source.url}#subdirectory={source.subdirectory}" if source.subdirectory is not None else source.url


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """What a lockfile keeps of a wheel that was built, beside its source."""

    filename: str
    sha256: Digest
    tools: tuple[LockedPackage, ...]


class _Reader:
    """Reads members of a lockfile and keeps every problem it meets."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.stated: dict[str, Digest] = {}
        """The digest that the file states for each platform."""

    def report(self, what: str, key: str) -> None:
        self.problems.append(
            Problem(what=what, where=Source(file=self.file, key=key), fix="make the lock again with `envbuilder lock`")
        )

    def finish(self) -> None:
        if self.problems:
            raise InvalidFileError(tuple(self.problems))

    def load(self, text: str) -> dict[str, Any]:
        value: Any = None
        try:
            value = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, in C where there is one
        except (yaml.YAMLError, ValueError, RecursionError) as cause:
            self.report(f"not YAML ({str(cause).splitlines()[0] if str(cause) else 'nested too deep'})", "")
        else:
            if not isinstance(value, dict) or value.get("version") != 1:
                self.report("not a conda-lock lockfile of version 1", "version")
        self.finish()
        result: dict[str, Any] = value
        return result

    def lockfile(self, value: dict[str, Any]) -> Lockfile:
        metadata = _mapping(value.get("metadata"))
        custom = metadata.get("custom_metadata")
        if not isinstance(custom, dict):
            self.report("there is no `custom_metadata`: the lock was not made by envbuilder", "metadata")
            custom = {}
        subdirs = metadata.get("platforms")
        known = isinstance(subdirs, list) and all(one in SUBDIRS for one in subdirs)
        if not (known and subdirs and len(set(subdirs)) == len(subdirs)):
            self.report(f"expected some of {', '.join(SUBDIRS)}, each once", "metadata.platforms")
            subdirs = []
        packages_digest = self.digest(custom.get("packages_digest"), f"{_CUSTOM}.packages_digest")
        tool_version = self.text(custom.get("envbuilder_version"), f"{_CUSTOM}.envbuilder_version")
        built = {subdir: self.built(custom, subdir) for subdir in subdirs}
        packages = self.packages(value.get("package"), built)
        return Lockfile.of(
            Lock(
                packages=tuple(one for one in packages.get(subdir, ()) if isinstance(one, LockedPackage)),
                conda_packages=tuple(one for one in packages.get(subdir, ()) if isinstance(one, CondaPackage)),
                target=self.target(custom, subdir),
                base=self.base(custom, subdir),
                packages_digest=packages_digest,
                python_version=self.text(custom.get(f"{subdir}.python_version"), f"{_CUSTOM}.{subdir}.python_version"),
                tool_version=tool_version,
            )
            for subdir in subdirs
        )

    def target(self, custom: dict[str, Any], subdir: str) -> Target:
        key = f"{subdir}.lock_digest"
        self.stated[subdir] = self.digest(custom.get(key), f"{_CUSTOM}.{key}")
        given = {name: custom.get(f"{subdir}.{name}") for name in ("glibc", "macos", "cuda")}
        try:
            return Target(subdir=subdir, **{name: str(value) for name, value in given.items() if value is not None})
        except InvalidFileError as cause:
            self.report(cause.problems[0].what, f"{_CUSTOM}.{subdir}")
            return Target(subdir=subdir)

    def base(self, custom: dict[str, Any], subdir: str) -> LockedBase | None:
        reference, digest = f"{subdir}.base_reference", f"{subdir}.base_digest"
        if reference not in custom and digest not in custom:
            return None
        return LockedBase(
            reference=self.text(custom.get(reference), f"{_CUSTOM}.{reference}"),
            digest=self.digest(custom.get(digest), f"{_CUSTOM}.{digest}"),
        )

    def built(self, custom: dict[str, Any], subdir: str) -> dict[str, _Built]:
        """Read what is known of each wheel that was built, by the package's name."""
        key = f"{subdir}.built_wheels"
        if key not in custom:
            return {}
        where = f"{_CUSTOM}.{key}"
        try:
            value = json.loads(custom[key])
            return {
                str(name): _Built(
                    filename=str(one["file"]),
                    sha256=digest.parse(str(one["sha256"])),
                    tools=tuple(self.tool(tool, where) for tool in one["tools"]),
                )
                for name, one in value.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.report("expected a JSON object of files, digests and tools", where)
            return {}

    def tool(self, value: dict[str, str], key: str) -> LockedPackage:
        tool = LockedPackage(
            name=value["name"], version=value["version"], url=value["url"], sha256=digest.parse(value["sha256"])
        )
        self.check(tool, key, key, key)
        return tool

    def text(self, value: object, key: str) -> str:
        if isinstance(value, str) and value:
            return value
        self.report("expected a text", key)
        return ""

    def digest(self, value: object, key: str) -> Digest:
        try:
            return digest.parse(str(value))
        except ValueError:
            self.report("expected `sha256:` and 64 hex digits", key)
            return Digest("")

    def packages(
        self, value: object, built: dict[str, dict[str, _Built]]
    ) -> dict[str, list[LockedPackage | CondaPackage]]:
        """Read the packages by their platform."""
        found: dict[str, list[LockedPackage | CondaPackage]] = {}
        if not isinstance(value, list):
            self.report("expected a list", "package")
            return found
        for index, item in enumerate(value):
            key = f"package[{index}]"
            if not isinstance(item, dict):
                self.report("expected a mapping", key)
                continue
            subdir = item.get("platform")
            if not isinstance(subdir, str) or subdir not in built:
                self.report("expected one of the lock's platforms", f"{key}.platform")
                continue
            package = self.package(item, key, built[subdir])
            if package is not None:
                found.setdefault(subdir, []).append(package)
        return found

    def package(self, item: dict[str, Any], key: str, built: dict[str, _Built]) -> LockedPackage | CondaPackage | None:
        match item.get("manager"):
            case "conda":
                return self.conda_package(item, key)
            case "pip":
                return self.wheel(item, key, built)
            case _:
                self.report("expected `conda` or `pip`", f"{key}.manager")
                return None

    def conda_package(self, item: dict[str, Any], key: str) -> CondaPackage | None:
        url = str(item.get("url"))
        record = {
            "name": item.get("name"),
            "version": item.get("version"),
            "build": item.get("build"),
            "subdir": PurePosixPath(url).parent.name,
            "url": url,
            **_mapping(item.get("hash")),
            "depends": [f"{name} {spec}".strip() for name, spec in _mapping(item.get("dependencies")).items()],
        }
        try:
            return CondaPackage.from_record(record)
        except ValueError as cause:
            self.report(f"not a conda package: {cause}", key)
            return None

    def wheel(self, item: dict[str, Any], key: str, built: dict[str, _Built]) -> LockedPackage:
        dependencies = item.get("dependencies") or {}
        if not isinstance(dependencies, dict):
            self.report("expected a mapping", f"{key}.dependencies")
            dependencies = {}
        name = self.text(item.get("name"), f"{key}.name")
        url = self.text(item.get("url"), f"{key}.url")
        sha256 = self.digest(f"sha256:{_mapping(item.get('hash')).get('sha256')}", f"{key}.hash.sha256")
        source = None
        if name in built:
            place, _, subdirectory = url.partition("#subdirectory=")
            source = WheelSource(url=place, digest=sha256, subdirectory=subdirectory or None, tools=built[name].tools)
            url, sha256 = built[name].filename, built[name].sha256
        package = LockedPackage(
            name=name,
            version=self.text(item.get("version"), f"{key}.version"),
            url=url,
            sha256=sha256,
            dependencies=tuple(sorted(str(one) for one in dependencies)),
            source=source,
            is_direct=item.get("source") is not None,
        )
        self.check(package, f"{key}.name", f"{key}.version", f"{key}.url")
        return package

    def check(self, package: LockedPackage, *keys: str) -> None:
        """Hold name, version and URL to their grammar: they become names of files and directories in the caches."""
        name, version, url = keys
        if package.name and not _NAME.match(package.name):
            self.report("expected a normalized name", name)
        if package.version and not _VERSION.match(package.version):
            self.report("expected a version", version)
        if package.url and not _is_wheel(package):
            self.report("expected the URL of a wheel", url)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dependency(text: str) -> tuple[str, str]:
    name, _, spec = text.partition(" ")
    return name, spec.strip()


def _is_wheel(package: LockedPackage) -> bool:
    try:
        named = _FILENAME.match(package.filename) is not None
    except ValueError:
        return False
    if package.source is not None:
        return named and package.filename == package.url
    return named and (not package.is_of_model or _IN_MODEL.match(package.url) is not None)
