from __future__ import annotations

from typing import TYPE_CHECKING

import pysequoia
import pytest
from pysequoia import ArmorKind, SignatureMode, Tsk

from envbuilder.bases import debian_keys
from envbuilder.bases.debian_archives import Archive
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://mirror.example/debian"
WHERE = Source(file=URL)
OWN = Tsk.generate("Own <own@mirror.example>")
OTHER = Tsk.generate("Other <other@mirror.example>")
OWN_CERT = OWN.extract_certificate()
OTHER_CERT = OTHER.extract_certificate()


def store(root: Path, name: str, *content: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(content))


def fingerprints(archive: Archive, root: Path) -> set[str]:
    return {cert.fingerprint for cert in debian_keys.certificates(archive, "debian", root)}


def test_a_keyring_of_several_keys_is_split(tmp_path: Path) -> None:
    store(tmp_path, "usr/share/keyrings/debian-archive-keyring.pgp", bytes(OWN_CERT), bytes(OTHER_CERT))
    assert fingerprints(Archive(url=URL), tmp_path) == {OWN_CERT.fingerprint, OTHER_CERT.fingerprint}


def test_keys_that_apt_trusts_count_for_sources_without_keys_only(tmp_path: Path) -> None:
    store(tmp_path, "etc/apt/trusted.gpg.d/a.asc", str(OWN_CERT).encode())
    store(tmp_path, "keys/b.gpg", bytes(OTHER_CERT))
    assert fingerprints(Archive(url=URL), tmp_path) == {OWN_CERT.fingerprint}
    assert fingerprints(Archive(url=URL, signed_by="/keys/b.gpg"), tmp_path) == {OTHER_CERT.fingerprint}


def test_a_fingerprint_picks_one_of_the_trusted_keys(tmp_path: Path) -> None:
    store(tmp_path, "etc/apt/trusted.gpg.d/a.gpg", bytes(OWN_CERT), bytes(OTHER_CERT))
    archive = Archive(url=URL, signed_by=OTHER_CERT.fingerprint.upper())
    assert fingerprints(archive, tmp_path) == {OTHER_CERT.fingerprint}


def test_an_embedded_key_counts(tmp_path: Path) -> None:
    armored = pysequoia.armor(bytes(OWN_CERT), ArmorKind.PublicKey)
    embedded = "\n" + "\n".join(f" {line}" if line else " ." for line in armored.splitlines())
    assert fingerprints(Archive(url=URL, signed_by=embedded), tmp_path) == {OWN_CERT.fingerprint}


def test_retired_and_unreadable_keyrings_do_not_count(tmp_path: Path) -> None:
    store(tmp_path, "usr/share/keyrings/debian-archive-removed-keys.gpg", bytes(OWN_CERT))
    store(tmp_path, "usr/share/keyrings/debian-archive-keyring.gpg", b"\0\0\0\x20\x01\x01\0\x02KBXf")
    store(tmp_path, "usr/share/keyrings/vendor.gpg", bytes(OTHER_CERT))
    assert fingerprints(Archive(url=URL), tmp_path) == set()


def test_only_the_signed_part_of_an_inrelease_is_returned() -> None:
    signed = pysequoia.sign(OWN.signer(), b"Suite: x\n", mode=SignatureMode.CLEAR)
    assert debian_keys.signed_inline(signed, (OWN_CERT, OTHER_CERT), WHERE).strip() == b"Suite: x"


def test_a_changed_inrelease_is_refused() -> None:
    signed = pysequoia.sign(OWN.signer(), b"Suite: x\n", mode=SignatureMode.CLEAR)
    with pytest.raises(BaseImageError, match="signature is not valid") as caught:
        debian_keys.signed_inline(signed.replace(b"Suite: x", b"Suite: y"), (OWN_CERT,), WHERE)
    assert "\n" not in caught.value.problems[0].what


def test_a_signature_by_an_unknown_key_is_refused() -> None:
    signed = pysequoia.sign(OTHER.signer(), b"Suite: x\n", mode=SignatureMode.CLEAR)
    with pytest.raises(BaseImageError, match=r"signature is not valid, signed by `[0-9A-F]+`"):
        debian_keys.signed_inline(signed, (OWN_CERT,), WHERE)


@pytest.mark.parametrize("data", [b"", b"Suite: x\n", b"<html>"], ids=["empty", "plain", "a page"])
def test_what_is_not_signed_is_refused(data: bytes) -> None:
    with pytest.raises(BaseImageError, match="signature"):
        debian_keys.signed_inline(data, (OWN_CERT,), WHERE)


def test_a_machine_without_keys_is_told_so() -> None:
    signed = pysequoia.sign(OWN.signer(), b"Suite: x\n", mode=SignatureMode.CLEAR)
    with pytest.raises(BaseImageError, match="no archive keys") as caught:
        debian_keys.signed_inline(signed, (), WHERE)
    assert "keyring" in str(caught.value.problems[0].fix)


@pytest.mark.parametrize("armor", [True, False], ids=["armored", "binary"])
def test_one_good_signature_of_a_release_gpg_is_enough(*, armor: bool) -> None:
    data = b"Suite: x\n"
    packets = b"".join(
        pysequoia.sign(key.signer(), data, mode=SignatureMode.DETACHED, armor=False) for key in (OTHER, OWN)
    )
    signature = pysequoia.armor(packets, ArmorKind.Signature).encode() if armor else packets
    assert debian_keys.signed_detached(data, signature, (OWN_CERT,), WHERE) == data
    with pytest.raises(BaseImageError, match="signature is not valid"):
        debian_keys.signed_detached(b"Suite: y\n", signature, (OWN_CERT,), WHERE)


@pytest.mark.parametrize("signature", [b"", b"<html>"], ids=["empty", "a page"])
def test_a_release_gpg_without_signatures_is_refused(signature: bytes) -> None:
    with pytest.raises(BaseImageError, match="signature"):
        debian_keys.signed_detached(b"Suite: x\n", signature, (OWN_CERT,), WHERE)
