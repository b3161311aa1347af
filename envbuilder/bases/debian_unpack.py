"""A .deb read into layer entries: paths merged into /usr, nothing outside the root, documentation left out.

Pure: bytes in, entries out. Follows deb(5); no maintainer script is run.
"""

from __future__ import annotations

import importlib
import io
import lzma
import posixpath
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import Final

from debian.arfile import ArError, ArFile

from envbuilder.errors import BaseImageError, Source
from envbuilder.layer import Entry

MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Directories of the root that are links into /usr."""

_OMITTED: Final = re.compile(
    r"usr/share/(man|locale|info|lintian|bash-completion|doc-base|bug|menu|applications|pixmaps|binfmts|gdb|zsh)/"
    r"|usr/share/zoneinfo/(posix|right)/"
    r"|usr/share/doc/[^/]+/(?!copyright)"
    r"|usr/lib/python3[^/]*/(test|idlelib|tkinter|ensurepip|turtledemo)/"
)
"""What no served model reads. Licences (`copyright`) stay."""

_UNREADABLE: Final = (ArError, OSError, EOFError, KeyError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error)
_SCRIPTS: Final = ("preinst", "postinst")
_DIRECTORY_MODE: Final = 0o1777
_FILE_MODE: Final = 0o777
"""What stays of a member's mode: no setuid or setgid, since nothing in the image may gain rights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What a package puts into the image, and what dpkg would remember of it."""

    control: str
    md5sums: str
    """Of the files that are kept, with the paths they have here."""

    entries: tuple[Entry, ...]
    scripts: tuple[str, ...] = ()
    """The maintainer scripts that setting it up would run; here nothing does."""


def unpack(data: bytes, where: Source) -> Unpacked:
    """Read a .deb; raises BaseImageError when it is damaged or would put something outside the root."""
    try:
        archive = ArFile(fileobj=io.BytesIO(data))
        control = _control_files(_tar(archive, "control.tar", where))
        described = control["control"].strip()
        with _tar(archive, "data.tar", where) as files:
            entries = _entries(files, where)
    except _UNREADABLE as cause:
        raise BaseImageError(
            f"the package is damaged ({type(cause).__name__}: {cause})",
            where=where,
            fix="use another mirror",
        ) from cause
    kept = {entry.path for entry in entries}
    return Unpacked(
        control=described,
        md5sums=_md5sums(control.get("md5sums", ""), kept, where),
        entries=entries,
        scripts=tuple(name for name in _SCRIPTS if name in control),
    )


def _tar(archive: ArFile, name: str, where: Source) -> tarfile.TarFile:
    member = next((item for item in archive.getmembers() if item.name.partition(".tar")[0] + ".tar" == name), None)
    if member is None:
        message = f"no {name}"
        raise KeyError(message)
    data = member.read()
    if len(data) != member.size:
        message = f"{name} is cut off"
        raise EOFError(message)
    compression = member.name.removeprefix(name)
    plain = _unzstd(data, where) if compression == ".zst" else data
    return tarfile.open(fileobj=io.BytesIO(plain), mode="r:*" if plain is data else "r:")


def _unzstd(data: bytes, where: Source) -> bytes:
    """Return the content of zstd data, as Ubuntu's packages hold it, with whichever module this Python has."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            if name == "zstandard":
                return bytes(module.ZstdDecompressor().decompressobj().decompress(data))
            return bytes(module.decompress(data))
        except module.ZstdError as cause:
            raise EOFError(str(cause)) from cause
    raise BaseImageError(
        "the package is compressed with zstd, which this Python cannot read",
        where=where,
        fix="install `backports.zstd` beside envbuilder (or use Python 3.14)",
    )


def _control_files(tar: tarfile.TarFile) -> dict[str, str]:
    files = {}
    with tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                files[member.name.removeprefix("./")] = stream.read().decode("utf-8", "surrogateescape")
    return files


def normalise(name: str, where: Source) -> str:
    """Return a member's path below the root, merged into /usr; empty for the root itself.

    Raises BaseImageError for a path that is absolute or climbs.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _hostile(f"a path that leaves the root: `{name}`", where)
    if parts and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


def _entries(tar: tarfile.TarFile, where: Source) -> tuple[Entry, ...]:
    found: dict[str, Entry] = {}
    linked: dict[str, list[str]] = {}
    """The first member of each file with hard links, and the further names."""

    for member in tar:
        path = normalise(member.name, where)
        if member.isdir():
            if path and not _OMITTED.match(path + "/"):
                found[path] = Entry(path=path, mode=member.mode & _DIRECTORY_MODE)
        elif not path:
            raise _hostile(f"the root is not a directory: `{member.name}`", where)
        elif member.issym():
            if posixpath.dirname(path) != "usr" or posixpath.basename(path) not in MERGED:
                found[path] = Entry(path=path, mode=0o777, link=_checked_link(path, member.linkname, where))
        elif member.islnk():
            linked.setdefault(normalise(member.linkname, where), []).append(path)
        elif member.isfile():
            stream = tar.extractfile(member)
            content = stream.read() if stream is not None else b""
            found[path] = Entry(path=path, mode=member.mode & _FILE_MODE, content=content)
        else:
            raise _hostile(f"a device or pipe: `{member.name}`", where)
    _add_hard_links(found, linked, where)
    return tuple(entry for path, entry in found.items() if not _OMITTED.match(path))


def _add_hard_links(found: dict[str, Entry], linked: dict[str, list[str]], where: Source) -> None:
    """Let the first kept name hold the content: a layer is sorted, and a link must come after what it links to."""
    for target, names in linked.items():
        holder = found.get(target)
        if holder is None or holder.content is None:
            raise _hostile(f"a hard link to `{target}`, which is not a file of the package", where)
        group = sorted(path for path in (target, *names) if not _OMITTED.match(path))
        for path in group:
            found[path] = (
                Entry(path=path, mode=holder.mode, content=holder.content)
                if path == group[0]
                else Entry(path=path, mode=holder.mode, hard_link=group[0])
            )


def _checked_link(path: str, target: str, where: Source) -> str:
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            raise _hostile(f"a link that leaves the root: `{path}` -> `{target}`", where)
    if not target or "\0" in target:
        raise _hostile(f"a link to nowhere: `{path}`", where)
    return target


def _md5sums(text: str, kept: set[str], where: Source) -> str:
    lines = []
    for line in text.splitlines():
        checksum, _, name = line.partition("  ")
        path = normalise(name.removeprefix("/"), where)
        if path in kept:
            lines.append(f"{checksum}  {path}\n")
    return "".join(lines)


def _hostile(what: str, where: Source) -> BaseImageError:
    return BaseImageError(f"the package holds {what}", where=where, fix="do not use this mirror, and tell who runs it")
