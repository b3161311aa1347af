"""What the archives in the caches say about themselves: licence, size, what they hold, bills of materials inside.

Nothing in an archive is run or unpacked; members are read by name, and only as far as an honest one is long.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from envbuilder import license_expression, zip_directory
from envbuilder.audit.nested_bill import Part, read_parts
from envbuilder.installer import conda_packages, wheels

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine

_LONGEST: Final = 16 << 20
_DAMAGE: Final = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError)
_DIST_INFO: Final = re.compile(r"(?:^|/)site-packages/([^/]+?)-([^/-]+)\.(?:dist-info|egg-info)(?:/|$)")
_SBOM: Final = re.compile(r"[^/]+\.dist-info/sboms/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """What one archive says."""

    size: int
    license: str | None = None
    license_text: str | None = None
    distributions: tuple[tuple[str, str], ...] = ()
    """The projects of the index that a conda package holds, with their versions; sorted."""

    parts: tuple[Part, ...] = ()
    """What the bills of materials inside it list."""

    unreadable: tuple[str, ...] = ()
    """Bills of materials inside it that cannot be read."""


def read(lock: Lock, machine: Machine) -> dict[Digest, ArchiveFacts]:
    """Return the facts of the lock's archives that are in the caches, by digest; damaged ones count as not there."""
    found: dict[Digest, ArchiveFacts] = {}
    for wheel in lock.packages:
        facts = _read(_of_wheel, wheels.wheel_path(wheel, machine.wheels))
        if facts is not None:
            found[wheel.sha256] = facts
    for package in lock.conda_packages:
        facts = _read(_of_conda, conda_packages.archive_path(package, machine))
        if facts is not None:
            found[package.sha256] = facts
    return found


def _read(reader: Any, path: Path) -> ArchiveFacts | None:  # noqa: ANN401 - one of the two below
    try:
        result: ArchiveFacts = reader(path)
    except (*_DAMAGE, zipfile.BadZipFile, tarfile.TarError):
        return None
    return result


def _of_wheel(path: Path) -> ArchiveFacts:
    zip_directory.check(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = next((name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)), "")
        raw, _ = parse_email(_member(archive, metadata))
        expression = str(raw.get("license_expression") or "")
        text = str(raw.get("license") or "")
        classifiers = raw.get("classifiers") or []
        parts: list[Part] = []
        unreadable = []
        for name in sorted(names):
            if _SBOM.fullmatch(name) and not name.endswith("/"):
                inside = name.partition("/")[2]
                listed = read_parts(_member(archive, name), stated_by=inside)
                parts += listed or ()
                unreadable += [inside] if listed is None else []
    known = license_expression.of_metadata(expression, text, classifiers)
    return ArchiveFacts(
        size=path.stat().st_size,
        license=known,
        license_text=_short(text) if known is None else None,
        parts=tuple(parts),
        unreadable=tuple(unreadable),
    )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as stream:
        data = stream.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        message = "it is longer than any honest one"
        raise ValueError(message)
    return data


def _short(text: str) -> str | None:
    first = text.strip().splitlines()[0][:80] if text.strip() else ""
    return first or None


def _of_conda(path: Path) -> ArchiveFacts:
    wanted = {"info/index.json", "info/paths.json", "info/files"}
    found: dict[str, bytes] = {}
    if path.name.endswith(".conda"):
        zip_directory.check(path)
        with zipfile.ZipFile(path) as archive:
            name = next((one for one in archive.namelist() if re.fullmatch(r"info-.+\.tar\.zst", one)), "")
            with archive.open(name) as stream, _zstd(stream) as opened, tarfile.open(fileobj=opened, mode="r|") as tar:
                _collect(tar, wanted, found)
    else:
        with tarfile.open(path, "r|bz2") as tar:
            _collect(tar, wanted, found)
    index = json.loads(found["info/index.json"])
    text = str(index.get("license") or "")
    known = license_expression.parse(text)
    if "info/paths.json" in found:
        paths = [str(one["_path"]) for one in json.loads(found["info/paths.json"])["paths"]]
    else:
        paths = found.get("info/files", b"").decode().splitlines()
    distributions = {
        (str(canonicalize_name(match[1])), match[2]) for match in map(_DIST_INFO.search, paths) if match is not None
    }
    return ArchiveFacts(
        size=path.stat().st_size,
        license=known,
        license_text=_short(text) if known is None else None,
        distributions=tuple(sorted(distributions)),
    )


def _collect(tar: tarfile.TarFile, wanted: set[str], found: dict[str, bytes]) -> None:
    for member in tar:
        if member.name in wanted and member.isfile() and member.size <= _LONGEST:
            content = tar.extractfile(member)
            found[member.name] = content.read() if content is not None else b""
            if wanted <= found.keys():
                return


def _zstd(stream: Any) -> BinaryIO:  # noqa: ANN401 - a file of a zip
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - Python 3.14
    except ImportError:
        from backports import zstd  # noqa: PLC0415
    opened: BinaryIO = zstd.ZstdFile(io.BytesIO(stream.read()))
    return opened
