from __future__ import annotations

import json
import os
import platform
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from debian.deb822 import Deb822

from envbuilder import layer
from envbuilder.bases import debian
from envbuilder.errors import BaseImageError, UnreachableError
from envbuilder.image_store import ImageStore
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests.bases.debian_archive import FixtureArchive, deb, link, member, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envbuilder.oci_image import Image


class Progress(Reporter):
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, str]] = []

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        self.steps.append((stage, done, total, unit))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[FixtureArchive]:
    with served(tmp_path / "served") as found:
        found.machine(tmp_path / "machine")
        found.add_roots()
        yield found


def assemble(archive: FixtureArchive, cache: str = "cache", *, offline: bool = False, suite: str = "bookworm") -> Image:
    top = archive.folder.parent.parent
    return debian.assemble(
        suite,
        architecture="amd64",
        store=store(archive, cache),
        settings=Settings(cache_dir=top / cache, offline=offline),
        reporter=Reporter(),
        root=top / "machine",
    )


def store(archive: FixtureArchive, cache: str = "cache") -> ImageStore:
    return ImageStore(archive.folder.parent.parent / cache / "images")


def members(images: ImageStore, image: Image) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    (made,) = image.layers
    with (
        layer.open_layer(images.blob_path(made.blob.digest)) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        return {
            item.name: (item, content.read() if item.isfile() and (content := tar.extractfile(item)) else b"")
            for item in tar
        }


def test_an_image_holds_what_its_packages_hold(archive: FixtureArchive) -> None:
    archive.publish()
    image = assemble(archive)
    found = members(store(archive), image)
    assert found["usr/bin/python3.11"][1] == b"python"
    assert found["usr/bin/python3"][0].linkname == "python3.11"
    assert found["usr/bin/dash"][0].mode == 0o755
    assert found["bin"][0].linkname == "usr/bin"
    assert found["etc/os-release"][0].linkname == "../usr/lib/os-release"
    assert found["tmp"][0].mode == 0o1777
    assert found["etc/ssl/certs/ca-certificates.crt"][1].count(b"BEGIN CERTIFICATE") == 2
    assert str(image.platform) == "linux/amd64"
    assert dict(image.config.env)["LANG"] == "C.UTF-8"


def test_updates_and_security_fixes_win(archive: FixtureArchive) -> None:
    archive.add("netbase", member("./usr/lib/netbase/data", b"updated"), version="1.1", suite="bookworm-updates")
    archive.publish()
    archive.publish("bookworm-updates")
    found = members(store(archive), assemble(archive))
    assert found["usr/lib/netbase/data"][1] == b"updated"


def test_security_fixes_come_from_the_security_archive(archive: FixtureArchive, tmp_path: Path) -> None:
    archive.publish()
    with served(tmp_path / "other", path="debian-security") as security:
        security.key = archive.key
        security.add("netbase", member("./usr/lib/netbase/data", b"fixed"), version="1.2", suite="bookworm-security")
        security.publish("bookworm-security")
        settings = Settings(cache_dir=tmp_path / "cache", debian_mirrors=(archive.url, security.url))
        images = ImageStore(tmp_path / "images")
        image = debian.assemble(
            "bookworm",
            architecture="amd64",
            store=images,
            settings=settings,
            reporter=Reporter(),
            root=tmp_path / "machine",
        )
    assert members(images, image)["usr/lib/netbase/data"][1] == b"fixed"


def test_separate_caches_give_the_same_image(archive: FixtureArchive) -> None:
    archive.publish()
    assert assemble(archive, "one").descriptor() == assemble(archive, "two").descriptor()


def test_a_second_call_needs_no_network(archive: FixtureArchive) -> None:
    archive.publish()
    first = assemble(archive)
    asked = len(archive.requests)
    assert assemble(archive) == first
    assert assemble(archive, offline=True) == first
    assert len(archive.requests) == asked


def test_a_layer_that_is_gone_is_made_again_from_the_cache(archive: FixtureArchive) -> None:
    archive.publish()
    first = assemble(archive)
    store(archive).blob_path(first.layers[0].blob.digest).unlink()
    assert assemble(archive, offline=True) == first
    assert store(archive).has(first.layers[0].blob.digest)


def test_damaged_caches_are_made_again(archive: FixtureArchive) -> None:
    archive.publish()
    first = assemble(archive)
    for path in (archive.folder.parent.parent / "cache" / "debian").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-7])
    assert assemble(archive) == first


def test_a_note_names_the_packages(archive: FixtureArchive) -> None:
    archive.publish()
    assemble(archive)
    (note,) = (archive.folder.parent.parent / "cache" / "debian" / "bases").iterdir()
    assert json.loads(note.read_bytes())["packages"]["python3-minimal"] == "1.0-1"


def test_concurrent_calls_agree(archive: FixtureArchive) -> None:
    archive.publish()
    with ThreadPoolExecutor(4) as pool:
        images = set(pool.map(lambda _: assemble(archive).descriptor(), range(4)))
    assert len(images) == 1


def test_progress_is_told_in_megabytes(archive: FixtureArchive, tmp_path: Path) -> None:
    archive.add("libbig", member("./usr/lib/big", os.urandom(2_500_000)))
    archive.add("netbase", version="2.0", fields="Depends: libbig\n")
    archive.publish()
    heard = Progress()
    debian.assemble(
        "bookworm",
        architecture="amd64",
        store=ImageStore(tmp_path / "images"),
        settings=Settings(cache_dir=tmp_path / "cache"),
        reporter=heard,
        root=tmp_path / "machine",
    )
    assert heard.steps[-1] == ("base", 2, 3, "MB")
    assert len(heard.steps) == len(set(heard.steps))


def test_a_package_with_another_content_is_refused(archive: FixtureArchive) -> None:
    path = archive.add("netbase", member("./usr/lib/x"), version="2.0")
    archive.publish()
    path.write_bytes(deb("Package: netbase\n", member("./usr/lib/evil")))
    with pytest.raises(BaseImageError, match="another content than its signed Release says") as caught:
        assemble(archive)
    assert str(caught.value.problems[0].where).endswith("netbase_2.0_amd64.deb")


def test_an_index_with_another_content_is_refused(archive: FixtureArchive) -> None:
    archive.publish(by_hash=False)
    path = archive.folder / "dists" / "bookworm" / "main" / "binary-amd64" / "Packages.xz"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BaseImageError, match="another content"):
        assemble(archive)


def test_a_package_that_is_gone_is_unreachable(archive: FixtureArchive) -> None:
    archive.add("netbase", version="2.0").unlink()
    archive.publish()
    with pytest.raises(UnreachableError, match="404"):
        assemble(archive)


def test_a_package_that_was_published_damaged_is_refused(archive: FixtureArchive) -> None:
    whole = deb("Package: netbase\n", member("./usr/lib/x", os.urandom(3000)))
    archive.add("netbase", version="2.0", data=whole[:-900])
    archive.publish()
    with pytest.raises(BaseImageError, match="damaged"):
        assemble(archive)


def test_a_package_that_leaves_the_root_is_refused(archive: FixtureArchive) -> None:
    archive.add("netbase", member("../evil"), version="2.0")
    archive.publish()
    with pytest.raises(BaseImageError, match="leaves the root"):
        assemble(archive)


def test_a_file_below_a_link_of_another_package_is_refused(archive: FixtureArchive) -> None:
    archive.add("media-types", link("./usr/lib/netbase", "/etc"), version="2.0")
    archive.publish()
    with pytest.raises(BaseImageError, match="which is no directory"):
        assemble(archive)


def test_a_release_with_a_bad_signature_leaves_nothing_behind(archive: FixtureArchive) -> None:
    archive.publish()
    path = archive.folder / "dists" / "bookworm" / "InRelease"
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    with pytest.raises(BaseImageError, match="signature is not valid"):
        assemble(archive)
    assert not (archive.folder.parent.parent / "cache").exists()


def test_an_unknown_suite_is_named(archive: FixtureArchive) -> None:
    with pytest.raises(BaseImageError, match="has the suite `hamm`"):
        assemble(archive, suite="hamm")


def test_an_architecture_that_is_not_supported_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="architecture `s390x`"):
        debian.assemble(
            "bookworm",
            architecture="s390x",
            store=ImageStore(tmp_path),
            settings=Settings(cache_dir=tmp_path),
            reporter=Reporter(),
        )


PROBE = """
import ctypes, decimal, json, locale, lzma, readline, socket, sqlite3, ssl, sys, zoneinfo
ctypes.CDLL("libstdc++.so.6")
locale.setlocale(locale.LC_ALL, "")
print(json.dumps({
    "version": sys.version_info[:2],
    "certificates": len(ssl.create_default_context().get_ca_certs()) > 50,
    "zone": str(zoneinfo.ZoneInfo("Europe/Berlin")),
    "localhost": socket.gethostbyname("localhost"),
}))
"""


def unshare() -> tuple[str, ...]:
    """Return the command that gives a process the right to chroot; skips the test where nothing does."""
    for flags in ((), ("--user", "--map-root-user")):
        command = ("unshare", "--mount", *flags)
        try:
            if subprocess.run((*command, "true"), capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    pytest.skip("neither root nor user namespaces: nothing here may chroot")


MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
OWN = MACHINES.get(platform.machine(), "")


@pytest.mark.network
@pytest.mark.process
@pytest.mark.skipif(not OWN, reason="no base images are made for this machine's architecture")
def test_bookworm_runs_its_python(tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images")
    found = [
        debian.assemble(
            "bookworm",
            architecture=OWN,
            store=images,
            settings=Settings.from_environ({**os.environ, "ENVBUILDER_CACHE_DIR": str(tmp_path / cache)}),
            reporter=Reporter(),
        )
        for cache in ("cache", "other")
    ]
    image = found[0]
    assert found[0].descriptor() == found[1].descriptor()
    status = members(images, image)["var/lib/dpkg/status"][1].decode()
    packages = {stanza["Package"]: stanza for stanza in Deb822.iter_paragraphs(status, use_apt_pkg=False)}
    assert packages["libc6"]["Status"] == "install ok installed"
    assert packages["python3.11-minimal"]["Version"].startswith("3.11.2-")
    assert not {"dpkg", "apt", "perl-base", "debconf", "openssl"} & set(packages)

    root = tmp_path / "root"
    for item in image.layers:
        with (
            layer.open_layer(images.blob_path(item.blob.digest)) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
        ):
            tar.extractall(root, filter="tar")
    done = subprocess.run(
        (*unshare(), "chroot", str(root), "/usr/bin/python3", "-B", "-c", PROBE),
        env=dict(image.config.env),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        "version": [3, 11],
        "certificates": True,
        "zone": "Europe/Berlin",
        "localhost": "127.0.0.1",
    }
