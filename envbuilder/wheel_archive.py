"""Wheel files that nobody vouches for: what they say about themselves, and the one form in which they are kept."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envbuilder import disk, zip_directory
from envbuilder.errors import InvalidFileError, Source
from envbuilder.secret import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.tags import Tag
    from packaging.utils import NormalizedName

_MAX_MEMBERS: Final = 200_000
_MAX_METADATA: Final = 8 << 20
_MAX_BYTES: Final = 8 << 30
"""Unpacked; the largest wheels in use have less than half of it."""

_TIME: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 1 << 20
_SIGNATURES: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
_FILENAME: Final = re.compile(r"[A-Za-z0-9._+!-]+\.whl\Z")
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """What a wheel says about itself."""

    filename: str
    name: NormalizedName
    version: str
    """As its METADATA spells it."""

    tags: frozenset[Tag]
    """What it fits; one of them must be among the target's."""

    requires: tuple[str, ...]
    """The Requires-Dist lines, in the spelling of `packaging`."""

    requires_python: str = ""


def read(path: Path, *, where: Source | None = None) -> WheelMetadata:
    """Read the file name and the METADATA of a wheel, installing nothing.

    Raises InvalidFileError when it is no wheel, or when name and content contradict each other.
    """
    where = where or Source(file=str(path))
    filename_name, filename_version, tags = _parsed_name(path.name, where)
    with _opened(path, where) as (archive, info):
        raw, _ = parse_email(_text(archive, f"{info}/METADATA", where))
        named, versioned = raw.get("name", ""), raw.get("version", "")
        if canonicalize_name(named) != filename_name or _version(versioned) != filename_version:
            raise _refused(f"it says it is `{named} {versioned}`, its file name says otherwise", path.name, where)
        try:
            requires = tuple(str(Requirement(line)) for line in raw.get("requires_dist", ()))
            requires_python = str(SpecifierSet(raw.get("requires_python", "")))
        except (InvalidRequirement, InvalidSpecifier) as cause:
            raise _refused(f"what it requires cannot be read ({cause})", path.name, where) from cause
    return WheelMetadata(
        filename=path.name,
        name=filename_name,
        version=versioned,
        tags=tags,
        requires=requires,
        requires_python=requires_python,
    )


def normalise(path: Path, target: Path, *, where: Source) -> None:
    """Write the wheel to `target` so that the same content is the same bytes, with every zlib.

    Members are sorted (the metadata last), stored, of one time, readable by all; RECORD is made anew, bytecode and
    signatures of the old RECORD are left out.
    """
    with _opened(path, where) as (archive, info), disk.replaced_file(target) as stream:
        members = [member for member in archive.infolist() if not member.is_dir()]
        names = [member.filename for member in members]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise _refused(f"it holds `{twice}` twice", path.name, where)
        kept = [member for member in members if not _is_left_out(member.filename, info)]
        kept.sort(key=lambda member: (member.filename.startswith(f"{info}/"), member.filename))
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as made:
            rows = [_copied(archive, member, made) for member in kept]
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
            made.writestr(_member(f"{info}/RECORD", executable=False), text.getvalue())


def _is_left_out(name: str, info: str) -> bool:
    return "__pycache__" in name.split("/")[:-1] or name in {f"{info}/{signature}" for signature in _SIGNATURES}


def _copied(archive: zipfile.ZipFile, member: zipfile.ZipInfo, made: zipfile.ZipFile) -> tuple[str, str, str]:
    executable = bool((member.external_attr >> 16) & stat.S_IXUSR)
    entry = _member(member.filename, executable=executable)
    entry.file_size = member.file_size
    state = hashlib.sha256()
    with archive.open(member) as source, made.open(entry, "w") as sink:
        while chunk := source.read(_CHUNK):
            state.update(chunk)
            sink.write(chunk)
    checksum = base64.urlsafe_b64encode(state.digest()).decode().rstrip("=")
    return member.filename, f"sha256={checksum}", str(member.file_size)


def _member(name: str, *, executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    return entry


@contextmanager
def _opened(path: Path, where: Source) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Give the open wheel with the name of its `.dist-info`, once nothing about its members is suspicious."""
    try:
        zip_directory.check(path)
        with zipfile.ZipFile(path) as archive:
            yield archive, _checked(archive, path.name, where)
    except (*_DAMAGE, OSError) as cause:
        # A zip file that names places before its own start makes zipfile seek there.
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL):
            raise
        raise _refused(f"it is damaged ({type(cause).__name__}: {cause})", path.name, where) from cause


def _checked(archive: zipfile.ZipFile, filename: str, where: Source) -> str:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_BYTES:
        raise _refused("it is larger than any wheel in use", filename, where)
    folders = set()
    for member in members:
        parts = member.filename.rstrip("/").split("/")
        mode = member.external_attr >> 16
        if any(part in ("", ".", "..") for part in parts) or "\\" in member.filename:
            raise _refused(f"it holds the path {member.filename!r}, which leaves it", filename, where)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(f"its member `{member.filename}` is not a file", filename, where)
        if parts[0].endswith(".dist-info"):
            folders.add(parts[0])
    if len(folders) != 1:
        raise _refused(f"it has {len(folders)} `.dist-info` folders, expected one", filename, where)
    return folders.pop()


def _parsed_name(filename: str, where: Source) -> tuple[NormalizedName, Version, frozenset[Tag]]:
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as cause:
        raise _refused(f"its name is not a wheel's ({cause})", filename, where) from cause
    if not _FILENAME.match(filename):
        raise _refused("its name holds characters that no wheel's does", filename, where)
    return name, version, tags


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _text(archive: zipfile.ZipFile, name: str, where: Source) -> bytes:
    with archive.open(name) as stream:
        text = stream.read(_MAX_METADATA + 1)
    if len(text) > _MAX_METADATA:
        raise _refused(f"`{name}` is larger than any in use", str(archive.filename).rpartition("/")[2], where)
    return text


def _refused(what: str, filename: str, where: Source) -> InvalidFileError:
    return InvalidFileError(
        f"`{printable(filename)}` is not a wheel that can be used: {printable(what)}",
        where=where,
        fix="build it anew with `python -m build --wheel`, or tell its authors",
    )
