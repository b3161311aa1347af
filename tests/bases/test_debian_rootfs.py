from __future__ import annotations

import pytest
from debian.deb822 import Deb822

from envbuilder import digest
from envbuilder.bases import debian_rootfs
from envbuilder.bases.debian_index import Package
from envbuilder.bases.debian_unpack import Unpacked
from envbuilder.errors import BaseImageError
from envbuilder.layer import Entry


def file(path: str, content: bytes = b"", mode: int = 0o644) -> Entry:
    return Entry(path=path, mode=mode, content=content)


def package(name: str, *entries: Entry, multi_arch: str = "no", md5sums: str = "") -> tuple[Package, Unpacked]:
    described = Package(
        name=name,
        version="1.0",
        architecture="amd64",
        multi_arch=multi_arch,
        url="https://mirror.example/debian/pool/a.deb",
        digest=digest.of_bytes(b""),
        size=0,
        needs=(),
        provides=(),
    )
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nDescription: a\n b\n .\n c"
    return described, Unpacked(control=control, md5sums=md5sums, entries=entries)


PYTHON = package("python3.11-minimal", file("usr/bin/python3.11", mode=0o755))
CERTIFICATES = package(
    "ca-certificates",
    file("usr/share/ca-certificates/mozilla/B.crt", b"B\n"),
    file("usr/share/ca-certificates/mozilla/A.crt", b"A"),
    file("usr/share/ca-certificates/README", b"no"),
)


def tree(*packages: tuple[Package, Unpacked]) -> dict[str, Entry]:
    return {entry.path: entry for entry in debian_rootfs.entries((PYTHON, CERTIFICATES, *packages))}


def text(entry: Entry) -> str:
    assert isinstance(entry.content, bytes)
    return entry.content.decode()


def test_the_certificates_are_one_file_that_openssl_finds() -> None:
    found = tree()
    assert text(found["etc/ssl/certs/ca-certificates.crt"]) == "A\nB\n"
    assert found["usr/lib/ssl/cert.pem"].link == "/etc/ssl/certs/ca-certificates.crt"


def test_links_that_scripts_would_make_are_made() -> None:
    found = tree(package("python3.9-minimal", file("usr/bin/python3.9")))
    assert found["usr/bin/python3"].link == "python3.11"
    assert found["usr/bin/sh"].link == "dash"
    assert {name: found[name].link for name in ("bin", "sbin", "lib")} == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
    }
    assert "lib64" not in found


def test_lib64_is_there_where_the_loader_is() -> None:
    assert tree(package("libc6", file("usr/lib64/ld.so")))["lib64"].link == "usr/lib64"


def test_a_link_that_a_package_brings_stays() -> None:
    entry = Entry(path="usr/bin/python3", mode=0o777, link="python3.9")
    assert tree(package("python3-minimal", entry))["usr/bin/python3"] is entry


def test_the_user_of_the_model_is_known() -> None:
    found = tree()
    assert "model:x:1000:1000:model:/tmp:" in text(found["etc/passwd"])
    assert "model:x:1000:" in text(found["etc/group"])
    assert found["tmp"].mode == 0o1777


def test_scanners_find_the_packages() -> None:
    found = tree(
        package("libx", file("usr/lib/libx.so"), multi_arch="same", md5sums="0123  usr/lib/libx.so\n"), package("empty")
    )
    status = list(Deb822.iter_paragraphs(text(found["var/lib/dpkg/status"]), use_apt_pkg=False))
    assert [stanza["Package"] for stanza in status] == ["ca-certificates", "empty", "libx", "python3.11-minimal"]
    assert {stanza["Status"] for stanza in status} == {"install ok installed"}
    assert text(found["var/lib/dpkg/info/libx:amd64.list"]) == "/.\n/usr/lib/libx.so\n"
    assert text(found["var/lib/dpkg/info/libx:amd64.md5sums"]) == "0123  usr/lib/libx.so\n"
    assert text(found["var/lib/dpkg/info/empty.list"]) == "/.\n"
    assert "var/lib/dpkg/info/empty.md5sums" not in found


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(path="usr/share/a", mode=0o777, link="/etc"), file("usr/share/a/passwd")),
        (file("usr/share/a"), file("usr/share/a/b")),
        (Entry(path="usr/share/a", mode=0o755, hard_link="usr/bin/python3.11"), file("usr/share/a/b/c")),
    ],
    ids=["below a link", "below a file", "below a hard link"],
)
def test_nothing_is_written_through_what_is_no_directory(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(BaseImageError, match="which is no directory"):
        tree(*(package(f"p{number}", entry) for number, entry in enumerate(entries)))


def test_a_directory_and_a_file_of_one_name_do_not_fit() -> None:
    with pytest.raises(BaseImageError, match="another kind of file"):
        tree(package("a", Entry(path="usr/share/a", mode=0o755)), package("b", file("usr/share/a")))


def test_an_image_without_an_interpreter_is_refused() -> None:
    with pytest.raises(BaseImageError, match=r"no `/usr/bin/python3"):
        debian_rootfs.entries((CERTIFICATES,))


def test_an_image_without_certificates_is_refused() -> None:
    with pytest.raises(BaseImageError, match="no certificates"):
        debian_rootfs.entries((PYTHON,))
