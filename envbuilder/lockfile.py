"""The lock: exact packages with URL and sha256, kept as `conda-lock.yml`.

Written through conda-lock's own models, so that conda-lock and micromamba read it; what envbuilder adds stands in
`metadata.custom_metadata`. Read with a small reader of the same format (lockfile version 1), because importing
conda-lock takes longer than a whole build that only changes the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml

from envbuilder import digest
from envbuilder.conda_package import CondaPackage
from envbuilder.digest import Digest
from envbuilder.errors import InvalidFileError, LockMismatchError, Problem, Source

SUBDIRS: Final = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
"""OCI platform → conda subdir."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FILENAME: Final = re.compile(r"[A-Za-z0-9._+!-]+\.whl\Z")
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_VERSION: Final = re.compile(r"[A-Za-z0-9._+!-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One exact wheel."""

    name: str
    """Normalized."""

    version: str
    url: str
    """Without credentials."""

    sha256: Digest
    dependencies: tuple[str, ...] = ()
    """Normalized names of the locked packages it needs."""

    @property
    def filename(self) -> str:
        """The wheel's file name, which carries its tags."""
        return unquote(PurePosixPath(urlsplit(self.url).path).name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything that goes into an environment, for one platform and one base image."""

    packages: tuple[LockedPackage, ...]
    """The wheels, sorted by name."""

    conda_packages: tuple[CondaPackage, ...] = ()
    """Sorted by name; where there are any, Python is one of them."""

    channels: tuple[str, ...] = ()
    """Where the conda packages come from, without credentials."""

    subdir: str
    packages_digest: Digest
    base_reference: str
    base_digest: Digest
    python_version: str
    """In full: that of the base image, or of the conda packages."""

    tool_version: str
    """Of the envbuilder that made the lock."""

    @property
    def digest(self) -> Digest:
        """The digest of what is locked; the version of the tool that locked it does not count."""
        locked: dict[str, object] = {
            "subdir": self.subdir,
            "base": self.base_digest,
            "python": self.python_version,
            "packages": [[package.name, package.version, package.sha256] for package in self.packages],
        }
        if self.conda_packages:
            locked["conda"] = [[one.name, one.version, one.build, one.sha256] for one in self.conda_packages]
        return digest.of_json(locked)

    def to_text(self) -> str:
        """Return the lock as the text of a `conda-lock.yml`; the same lock gives the same bytes."""
        from conda_lock.lockfile.v1.models import (  # noqa: PLC0415 - half a second to import
            Channel,
            HashModel,
            LockedDependency,
            Lockfile,
            LockMeta,
        )

        lockfile = Lockfile(
            package=[
                *(
                    LockedDependency(
                        name=one.name,
                        version=one.version,
                        build=one.build,
                        manager="conda",
                        platform=self.subdir,
                        dependencies=dict(_dependency(text) for text in one.depends),
                        url=one.url,
                        hash=HashModel(md5=one.md5, sha256=digest.hex_of(one.sha256)),
                        category="main",
                        optional=False,
                    )
                    for one in self.conda_packages
                ),
                *(
                    LockedDependency(
                        name=package.name,
                        version=package.version,
                        manager="pip",
                        platform=self.subdir,
                        dependencies=dict.fromkeys(package.dependencies, "*"),
                        url=package.url,
                        hash=HashModel(sha256=digest.hex_of(package.sha256)),
                        category="main",
                        optional=False,
                    )
                    for package in self.packages
                ),
            ],
            metadata=LockMeta(
                content_hash={self.subdir: digest.hex_of(self.packages_digest)},
                channels=[Channel(url=url, used_env_vars=frozenset()) for url in self.channels],
                platforms=[self.subdir],
                sources=["conda.yaml"],
                custom_metadata={
                    "envbuilder_version": self.tool_version,
                    "packages_digest": self.packages_digest,
                    "base_reference": self.base_reference,
                    "base_digest": self.base_digest,
                    "python_version": self.python_version,
                    "lock_digest": self.digest,
                },
            ),
        )
        body = yaml.safe_dump(lockfile.dict_for_output(), sort_keys=False, allow_unicode=True, width=120)
        return (
            "# Locked by envbuilder; edit the model's conda.yaml and run `envbuilder lock` instead of editing this.\n"
            f"{body}"
        )

    @classmethod
    def parse(cls, text: str, *, file: str) -> Lock:
        """Read a `conda-lock.yml` that envbuilder wrote; raises InvalidFileError with every problem found."""
        reader = _Reader(file)
        value = reader.load(text)
        metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
        custom = (metadata or {}).get("custom_metadata")
        if not isinstance(custom, dict):
            reader.report("there is no `custom_metadata`: the lock was not made by envbuilder", "metadata")
            custom = {}
        packages = value.get("package")
        if not isinstance(packages, list):
            reader.report("expected a list", "package")
            packages = []
        platforms = (metadata or {}).get("platforms")
        if not (isinstance(platforms, list) and len(platforms) == 1 and isinstance(platforms[0], str)):
            reader.report("expected exactly one platform", "metadata.platforms")
            platforms = [""]
        read = [reader.package(item, f"package[{i}]") for i, item in enumerate(packages)]
        lock = cls(
            packages=tuple(one for one in read if isinstance(one, LockedPackage)),
            conda_packages=tuple(one for one in read if isinstance(one, CondaPackage)),
            channels=reader.channels((metadata or {}).get("channels")),
            subdir=platforms[0],
            packages_digest=reader.digest(custom.get("packages_digest"), "metadata.custom_metadata.packages_digest"),
            base_reference=reader.text(custom.get("base_reference"), "metadata.custom_metadata.base_reference"),
            base_digest=reader.digest(custom.get("base_digest"), "metadata.custom_metadata.base_digest"),
            python_version=reader.text(custom.get("python_version"), "metadata.custom_metadata.python_version"),
            tool_version=reader.text(custom.get("envbuilder_version"), "metadata.custom_metadata.envbuilder_version"),
        )
        stated = reader.digest(custom.get("lock_digest"), "metadata.custom_metadata.lock_digest")
        reader.finish()
        if stated != lock.digest:
            raise LockMismatchError(
                "the packages are not those that were locked: the file was edited or damaged",
                where=Source(file=file, key="package"),
                fix="restore the file, or remove it and lock again with `envbuilder lock`",
            )
        return lock

    @property
    def pins(self) -> tuple[str, ...]:
        """The packages as lines of a requirements file."""
        return tuple(f"{package.name}=={package.version}" for package in self.packages)


class _Reader:
    """Reads members of a lockfile and keeps every problem it meets."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def report(self, what: str, key: str) -> None:
        self.problems.append(
            Problem(
                what=what,
                where=Source(file=self.file, key=key),
                fix="make the lock again with `envbuilder lock`",
            )
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

    def channels(self, value: object) -> tuple[str, ...]:
        found = value if isinstance(value, list) else []
        return tuple(str(one["url"]) for one in found if isinstance(one, dict) and "url" in one)

    def conda_package(self, item: dict[str, Any], key: str) -> CondaPackage | None:
        hashes = item.get("hash") if isinstance(item.get("hash"), dict) else {}
        depends = item.get("dependencies")
        url = str(item.get("url"))
        record = {
            "name": item.get("name"),
            "version": item.get("version"),
            "build": item.get("build"),
            "subdir": PurePosixPath(url).parent.name,
            "url": url,
            **(hashes or {}),
            "depends": [f"{name} {spec}".strip() for name, spec in depends.items()]
            if isinstance(depends, dict)
            else [],
        }
        try:
            return CondaPackage.from_record(record)
        except ValueError as cause:
            self.report(f"not a conda package: {cause}", key)
            return None

    def package(self, item: object, key: str) -> LockedPackage | CondaPackage | None:
        if not isinstance(item, dict):
            self.report("expected a mapping", key)
            return None
        if item.get("manager") == "conda":
            return self.conda_package(item, key)
        if item.get("manager") != "pip":
            self.report("expected `conda` or `pip`", f"{key}.manager")
            return None
        hashes = item.get("hash")
        dependencies = item.get("dependencies") or {}
        if not isinstance(dependencies, dict):
            self.report("expected a mapping", f"{key}.dependencies")
            dependencies = {}
        package = LockedPackage(
            name=self.text(item.get("name"), f"{key}.name"),
            version=self.text(item.get("version"), f"{key}.version"),
            url=self.text(item.get("url"), f"{key}.url"),
            sha256=self.digest(
                f"sha256:{hashes.get('sha256')}" if isinstance(hashes, dict) else None, f"{key}.hash.sha256"
            ),
            dependencies=tuple(sorted(str(name) for name in dependencies)),
        )
        # These become names of files and directories in the caches.
        if package.name and not _NAME.match(package.name):
            self.report("expected a normalized name", f"{key}.name")
        if package.version and not _VERSION.match(package.version):
            self.report("expected a version", f"{key}.version")
        if package.url and not _is_wheel(package):
            self.report("expected the URL of a wheel", f"{key}.url")
        return package


def _dependency(text: str) -> tuple[str, str]:
    name, _, spec = text.partition(" ")
    return name, spec.strip()


def _is_wheel(package: LockedPackage) -> bool:
    try:
        return _FILENAME.match(package.filename) is not None
    except ValueError:
        return False
