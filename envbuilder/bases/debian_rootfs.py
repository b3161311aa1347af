"""A root file system from unpacked packages: the little that maintainer scripts would have done, done here.

Pure: values in, layer entries out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from envbuilder.bases.debian_unpack import MERGED, Unpacked
from envbuilder.errors import BaseImageError, Source
from envbuilder.layer import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.bases.debian_index import Package

_CERTIFICATES: Final = "usr/share/ca-certificates/"
_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
_PYTHON: Final = re.compile(r"usr/bin/python(3\.\d+)\Z")

_FILES: Final[dict[str, str]] = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "model:x:1000:1000:model:/tmp:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\nmodel:x:1000:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": (
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
        "networks: files\nprotocols: files\nservices: files\n"
    ),
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
"""Written by no package, but by their scripts or the installer."""

_DIRECTORIES: Final[dict[str, int]] = {
    "dev": 0o755,
    "home": 0o755,
    "opt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}

_LINKS: Final[dict[str, str]] = {
    **{name: f"usr/{name}" for name in MERGED if name in ("bin", "sbin", "lib")},
    "var/run": "/run",
    # The openssl program's package would bring these; libssl looks for its default certificates here.
    "usr/lib/ssl/certs": "/etc/ssl/certs",
    "usr/lib/ssl/cert.pem": f"/{_BUNDLE}",
}


def entries(unpacked: Iterable[tuple[Package, Unpacked]]) -> list[Entry]:
    """Return the whole root file system; raises BaseImageError when the packages contradict each other."""
    packages = sorted(unpacked, key=lambda pair: pair[0].name)
    tree = tree_of(packages)
    if any(path.startswith("usr/lib64/") for path in tree):
        tree["lib64"] = Entry(path="lib64", mode=0o777, link="usr/lib64")
    for path, mode in _DIRECTORIES.items():
        tree[path] = Entry(path=path, mode=mode)
    for path, target in _LINKS.items():
        tree[path] = Entry(path=path, mode=0o777, link=target)
    for path, text in _FILES.items():
        tree[path] = Entry(path=path, mode=0o644, content=text.encode())
    tree[_BUNDLE] = Entry(path=_BUNDLE, mode=0o644, content=_certificate_bundle(tree))
    for entry in (*_program_links(tree), *_dpkg_database(packages)):
        tree[entry.path] = entry
    return list(tree.values())


def _put(tree: dict[str, Entry], entry: Entry, package: Package) -> None:
    known = tree.get(entry.path)
    if known is None:
        tree[entry.path] = entry
    elif known.is_directory != entry.is_directory:
        raise _contradiction(f"`{package.name}` has another kind of file at `/{entry.path}` than another package")
    elif not entry.is_directory:
        # dpkg lets the package that is unpacked later (and says `Replaces`) have the file.
        tree[entry.path] = entry


def _check_parents(tree: dict[str, Entry]) -> None:
    """Refuse a file below something that is no directory: unpacking it would follow a link."""
    for path in tree:
        parent = path.rpartition("/")[0]
        while parent:
            above = tree.get(parent)
            if above is not None and not above.is_directory:
                raise _contradiction(f"`/{path}` lies below `/{parent}`, which is no directory")
            parent = parent.rpartition("/")[0]


def _contradiction(what: str) -> BaseImageError:
    return BaseImageError(
        f"the packages do not fit together: {what}",
        where=Source(file="the packages of the base image"),
        fix="use a complete mirror, with the suite's updates and security pockets",
    )


def _certificate_bundle(tree: dict[str, Entry]) -> bytes:
    """Return all certificates in one file: the package's default is to activate each of them."""
    found = [
        entry.content.rstrip(b"\n") + b"\n"
        for path, entry in sorted(tree.items())
        if path.startswith(_CERTIFICATES) and path.endswith(".crt") and isinstance(entry.content, bytes)
    ]
    if not found:
        raise _contradiction("`ca-certificates` holds no certificates")
    return b"".join(found)


def _program_links(tree: dict[str, Entry]) -> list[Entry]:
    """Return the links that some suites' scripts make instead of the package: `sh` and `python3`."""
    versions = [match[1] for path in tree if (match := _PYTHON.match(path))]
    if not versions:
        raise BaseImageError(
            "the packages hold no `/usr/bin/python3.*`",
            where=Source(file="the packages of the base image"),
            fix="use a suite whose python3-minimal depends on an interpreter",
        )
    newest = max(versions, key=lambda version: int(version.partition(".")[2]))
    wanted = {"usr/bin/python3": f"python{newest}", "usr/bin/sh": "dash"}
    return [Entry(path=path, mode=0o777, link=target) for path, target in wanted.items() if path not in tree]


def _dpkg_database(packages: list[tuple[Package, Unpacked]]) -> list[Entry]:
    """Return what dpkg would remember, so that scanners find the packages and whose the files are."""
    found = [entry for package, content in packages for entry in file_lists(package, content)]
    found.append(text_entry("var/lib/dpkg/status", "\n".join(stanza(content) for _, content in packages)))
    return found


def stanza(content: Unpacked) -> str:
    """Return how dpkg's status says that a package is installed."""
    first, _, rest = content.control.partition("\n")
    return f"{first}\nStatus: install ok installed\n{rest}\n"


def file_lists(package: Package, content: Unpacked) -> list[Entry]:
    """Return what dpkg would remember of a package's files."""
    name = f"{package.name}:{package.architecture}" if package.multi_arch == "same" else package.name
    paths = "/.\n" + "".join(f"/{path}\n" for path in sorted(entry.path for entry in content.entries))
    found = [text_entry(f"var/lib/dpkg/info/{name}.list", paths)]
    if content.md5sums:
        found.append(text_entry(f"var/lib/dpkg/info/{name}.md5sums", content.md5sums))
    return found


def tree_of(packages: Iterable[tuple[Package, Unpacked]]) -> dict[str, Entry]:
    """Return the packages' files by path; raises BaseImageError when the packages contradict each other."""
    tree: dict[str, Entry] = {}
    for package, content in packages:
        for entry in content.entries:
            _put(tree, entry, package)
    _check_parents(tree)
    return tree


def text_entry(path: str, text: str) -> Entry:
    """Return a file of text."""
    return Entry(path=path, mode=0o644, content=text.encode("utf-8", "surrogateescape"))
