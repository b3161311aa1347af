"""OpenPGP: the certificates an archive may be signed with, and the text that one of them really signed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pysequoia
from pysequoia import Cert, Sig

from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from envbuilder.bases.debian_archives import Archive, Distribution

_KEYRINGS: Final[dict[str, tuple[str, ...]]] = {
    "debian": ("debian-archive-*.gpg", "debian-archive-*.pgp", "debian-archive-*.asc"),
    "ubuntu": ("ubuntu-archive-*.gpg", "ubuntu-archive-*.pgp", "ubuntu-archive-*.asc"),
}
_RETIRED: Final = "removed"
"""Part of the names of keyrings whose keys must not be trusted any more."""

_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{40,64}!?\Z")
_EMBEDDED: Final = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


def certificates(archive: Archive, distribution: Distribution, root: Path) -> tuple[Cert, ...]:
    """Return the certificates whose signature counts for `archive`.

    These are the keys its source names and the distribution's own archive keys (a machine that names the keys of its
    own suite can so ask for a newer one), and, for a source that names none, all keys that apt trusts.
    """
    files = _keyrings(distribution, root)
    if _EMBEDDED in archive.signed_by:
        return (*_embedded(archive.signed_by), *_read(files))
    named = archive.signed_by.split()
    fingerprints = {name.rstrip("!").lower() for name in named if _FINGERPRINT.match(name)}
    files += [root / name.lstrip("/") for name in named if name.startswith("/")]
    if not named or fingerprints:
        files += _trusted_by_apt(root)
    found = _read(files)
    return tuple(cert for cert in found if cert.fingerprint in fingerprints) if fingerprints else found


def _keyrings(distribution: Distribution, root: Path) -> list[Path]:
    directory = root / "usr" / "share" / "keyrings"
    found = {path for pattern in _KEYRINGS[distribution] for path in directory.glob(pattern)}
    return sorted(path for path in found if _RETIRED not in path.name)


def _trusted_by_apt(root: Path) -> list[Path]:
    apt = root / "etc" / "apt"
    parts = apt / "trusted.gpg.d"
    files = sorted(path for path in parts.iterdir() if path.suffix in (".gpg", ".asc")) if parts.is_dir() else []
    return [*files, apt / "trusted.gpg"]


def _embedded(text: str) -> list[Cert]:
    # deb822 writes the empty line of an armor header as ` .`
    lines = (line.strip() for line in text.splitlines())
    armored = "\n".join("" if line == "." else line for line in lines)
    return Cert.split_bytes(armored.strip().encode() + b"\n")


def _read(files: Iterable[Path]) -> tuple[Cert, ...]:
    found: dict[str, Cert] = {}
    for path in dict.fromkeys(files):
        if not path.is_file() or not path.stat().st_size:
            continue
        try:
            certs = Cert.split_bytes(path.read_bytes())
        except Exception:  # noqa: BLE001, S112 - pysequoia raises no narrower class; GnuPG's keybox files end here too
            continue
        for cert in certs:
            known = found.get(cert.fingerprint)
            found[cert.fingerprint] = cert if known is None else known.merge(cert)
    return tuple(found.values())


def signed_inline(data: bytes, certs: tuple[Cert, ...], where: Source) -> bytes:
    """Return the text of an InRelease that one of `certs` signed; raises BaseImageError when none did."""
    asked: list[str] = []
    try:
        return pysequoia.verify(data, _store(certs, asked)).bytes or b""
    except Exception as cause:  # pysequoia raises no narrower class
        raise _not_signed(certs, asked, where, cause) from cause


def signed_detached(data: bytes, signature: bytes, certs: tuple[Cert, ...], where: Source) -> bytes:
    """Return `data` when one signature of the Release.gpg `signature` is valid; raises BaseImageError when none is."""
    asked: list[str] = []
    failure: Exception = ValueError("no signature in the file")
    try:
        packets = [bytes(packet) for packet in pysequoia.packet.PacketPile.from_bytes(signature)]
    except Exception as cause:  # pysequoia raises no narrower class
        raise _not_signed(certs, asked, where, cause) from cause
    for packet in packets:
        try:
            pysequoia.verify(data, _store(certs, asked), signature=Sig.from_bytes(packet))
        except Exception as cause:  # noqa: BLE001 - as above; the next signature may be by a key that is here
            failure = cause
        else:
            return data
    raise _not_signed(certs, asked, where, failure) from failure


def _store(certs: tuple[Cert, ...], asked: list[str]) -> Callable[[list[str]], list[Cert]]:
    def matching(key_ids: list[str]) -> list[Cert]:
        asked.extend(key_ids)
        return list(certs)

    return matching


def _not_signed(certs: tuple[Cert, ...], asked: list[str], where: Source, cause: Exception) -> BaseImageError:
    reason = str(cause).partition("\n")[0].rstrip(".")
    by = ", ".join(f"`{key.upper()}`" for key in dict.fromkeys(asked)) or "nobody"
    if not certs:
        return BaseImageError(
            "the archive's signature cannot be checked: this machine has no archive keys",
            where=where,
            fix="install the distribution's keyring package (debian-archive-keyring or ubuntu-keyring)",
        )
    return BaseImageError(
        f"the archive's signature is not valid, signed by {by} ({reason})",
        where=where,
        fix="update the keyring package if the keys are new; else do not use this mirror",
    )
