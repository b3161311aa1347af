"""A small Debian archive made for a test: packages, indexes and a signed Release, served over loopback."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import pysequoia
from pysequoia import SignatureMode, Tsk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


def member(path: str, content: bytes = b"", *, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.mode = mode
    info.size = len(content)
    return info, content


def special(path: str, kind: bytes, target: str = "", *, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.type = kind
    info.linkname = target
    info.mode = mode
    return info, b""


def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return special(path, tarfile.SYMTYPE, target)


def directory(path: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return special(path, tarfile.DIRTYPE, mode=mode)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as opened:
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members:
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(control: str, *members: tuple[tarfile.TarInfo, bytes], md5sums: str = "") -> bytes:
    files = [member("./control", control.encode()), member("./md5sums", md5sums.encode())]
    return ar(
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(tar(*files))),
        ("data.tar.xz", lzma.compress(tar(*members))),
    )


@dataclass
class FixtureArchive:
    """The folder that is served, the key it signs with, and what was asked of it."""

    folder: Path
    url: str = ""
    key: Tsk = field(default_factory=lambda: Tsk.generate("Archive <archive@mirror.example>"))
    stanzas: dict[str, list[str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        *members: tuple[tarfile.TarInfo, bytes],
        version: str = "1.0-1",
        suite: str = "bookworm",
        fields: str = "",
        data: bytes | None = None,
    ) -> Path:
        """Add a package; `fields` are further lines of its stanza, `data` replaces the .deb that is made."""
        stanza = f"Package: {name}\nArchitecture: amd64\nVersion: {version}\n"
        stanza += f"Maintainer: Nobody <nobody@mirror.example>\n{fields}Description: {name}\n"
        content = deb(stanza, *members) if data is None else data
        path = self.folder / "pool" / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        stanza += f"Filename: pool/{path.name}\nSize: {len(content)}\nSHA256: {digest}\n"
        self.stanzas.setdefault(suite, []).append(stanza)
        return path

    def add_roots(self, *, but: tuple[str, ...] = ()) -> None:
        """Add the least of every package that a base image is made from."""
        contents = {
            "python3-minimal": (link("./usr/bin/python3", "python3.11"),),
            "libpython3-stdlib": (member("./usr/lib/python3.11/json/__init__.py", b"loads = None\n"),),
            "base-files": (
                directory("./bin"),
                directory("./tmp", 0o1777),
                member("./usr/lib/os-release", b"ID=debian\n"),
                link("./etc/os-release", "../usr/lib/os-release"),
            ),
            "ca-certificates": (
                member("./usr/share/ca-certificates/mozilla/B.crt", CERTIFICATE % b"B"),
                member("./usr/share/ca-certificates/mozilla/A.crt", CERTIFICATE % b"A"),
            ),
            "dash": (member("./bin/dash", b"dash", mode=0o755),),
        }
        fields = {
            "python3-minimal": "Pre-Depends: python3.11-minimal (>= 1.0~)\nDepends: dpkg (>= 1.13.20)\n",
            "ca-certificates": "Depends: openssl (>= 1.1.1), debconf (>= 0.5) | debconf-2.0\n",
        }
        self.add("python3.11-minimal", member("./usr/bin/python3.11", b"python", mode=0o755))
        plain = ("libc-bin", "libstdc++6", "media-types", "netbase", "tzdata")
        for name in (*contents, *plain):
            if name not in but:
                default = (member(f"./usr/lib/{name}/data", name.encode()),)
                self.add(name, *contents.get(name, default), fields=fields.get(name, ""))

    def publish(
        self,
        suite: str = "bookworm",
        *,
        fields: str = "",
        origin: str = "Debian",
        codename: str = "",
        inline: bool = True,
        by_hash: bool = True,
    ) -> None:
        """Write the suite's index and its signed Release."""
        text = lzma.compress("\n".join(self.stanzas.get(suite, [])).encode())
        digest = hashlib.sha256(text).hexdigest()
        binary = self.folder / "dists" / suite / "main" / "binary-amd64"
        index = binary / "by-hash" / "SHA256" / digest if by_hash else binary / "Packages.xz"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes(text)
        release = (
            f"Origin: {origin}\nSuite: a-{suite}\nCodename: {codename or suite}\nArchitectures: amd64\n"
            f"Acquire-By-Hash: {'yes' if by_hash else 'no'}\n{fields}"
            f"SHA256:\n {digest} {len(text)} main/binary-amd64/Packages.xz\n"
        ).encode()
        folder = self.folder / "dists" / suite
        if inline:
            (folder / "InRelease").write_bytes(pysequoia.sign(self.key.signer(), release, mode=SignatureMode.CLEAR))
            return
        other = Tsk.generate("Elsewhere <elsewhere@mirror.example>")
        (folder / "Release").write_bytes(release)
        signatures = (
            pysequoia.sign(key.signer(), release, mode=SignatureMode.DETACHED, armor=False) for key in (other, self.key)
        )
        (folder / "Release.gpg").write_bytes(b"".join(signatures))

    def machine(self, folder: Path, *, suite: str = "bookworm", keyring: str = "debian-archive-keyring.gpg") -> Path:
        """Write a root folder whose apt sources name this archive and whose keyring holds its key."""
        sources = folder / "etc" / "apt" / "sources.list.d" / "debian.sources"
        sources.parent.mkdir(parents=True)
        sources.write_text(f"Types: deb\nURIs: {self.url}\nSuites: {suite} {suite}-updates\nComponents: main\n")
        keys = folder / "usr" / "share" / "keyrings" / keyring
        keys.parent.mkdir(parents=True)
        keys.write_bytes(bytes(self.key.extract_certificate()))
        return folder


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, archive: FixtureArchive) -> None:
        self.archive = archive
        super().__init__(*arguments, directory=str(archive.folder))  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        del format
        self.archive.requests.append(str(args[0]))


@contextmanager
def served(folder: Path, *, path: str = "debian") -> Iterator[FixtureArchive]:
    """Give an empty archive below `folder`, served while the block runs."""
    archive = FixtureArchive(folder / path)
    archive.folder.mkdir(parents=True)
    parent = FixtureArchive(folder, requests=archive.requests)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, archive=parent))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        archive.url = f"http://127.0.0.1:{server.server_port}/{path}"
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
