from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, network
from envbuilder.errors import EnvBuilderError, LockMismatchError, UnreachableError
from envbuilder.settings import Settings
from envbuilder.url import without_credentials
from tests import package_index as package_indexes
from tests.package_index import LOGIN, PackageIndex, certificate_for_loopback, running_index

if TYPE_CHECKING:
    from pathlib import Path

package_index = package_indexes.package_index
DATA = bytes(range(256)) * 4096


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def download(url: str, target: Path, settings: Settings, data: bytes = DATA) -> list[int]:
    sizes: list[int] = []
    with network.session(settings) as opened:
        network.download(opened, url, target, expected=digest.of_bytes(data), settings=settings, on_bytes=sizes.append)
    return sizes


def failed(url: str, target: Path, settings: Settings, data: bytes = DATA) -> EnvBuilderError:
    with pytest.raises(EnvBuilderError) as raised:
        download(url, target, settings, data)
    assert not target.exists()
    assert not list(target.parent.glob(".tmp-*"))
    assert LOGIN[1] not in str(raised.value)
    return raised.value


def test_a_download_is_written_and_counted(package_index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    package_index.files["file"] = DATA
    target = tmp_path / "new" / "file"
    assert sum(download(package_index.file_url("file"), target, settings)) == len(DATA)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("failures", [[500], [503, 429], [502, 500, 504]], ids=str)
def test_what_can_succeed_later_is_tried_again(
    failures: list[int], package_index: PackageIndex, settings: Settings, tmp_path: Path
) -> None:
    package_index.files["file"] = DATA
    package_index.failures += failures
    download(package_index.file_url("file"), tmp_path / "file", settings)
    assert package_index.asked == ["/files/file"] * (len(failures) + 1)


@pytest.mark.parametrize(
    ("statuses", "shown", "asked"),
    [([], "404 Not Found", 1), ([401], "401 Unauthorized", 1), ([500] * 9, "500 Internal Server Error", 4)],
    ids=["404", "401", "500 for long"],
)
def test_an_error_status_is_told(
    statuses: list[int], shown: str, asked: int, package_index: PackageIndex, settings: Settings, tmp_path: Path
) -> None:
    package_index.failures += statuses
    url = f"http://{LOGIN[0]}:{LOGIN[1]}@{package_index.host}/files/absent"
    error = failed(url, tmp_path / "file", settings)
    assert isinstance(error, UnreachableError)
    assert str(error) == (
        f"the server answered {shown}\n  at {package_index.file_url('absent')}\n"
        "  fix: check the URL and the credentials; a 5xx may pass when tried again"
    )
    assert len(package_index.asked) == asked


def test_a_download_that_is_cut_off_leaves_nothing(
    package_index: PackageIndex, settings: Settings, tmp_path: Path
) -> None:
    package_index.files["file"] = DATA
    package_index.cut_off.add("file")
    error = failed(package_index.file_url("file"), tmp_path / "file", settings)
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what.startswith("the download broke off (")
    assert error.problems[0].fix == "try again: what is complete stays in the cache"


def test_another_content_than_expected_is_refused(
    package_index: PackageIndex, settings: Settings, tmp_path: Path
) -> None:
    package_index.files["file"] = b"replaced"
    error = failed(package_index.file_url("file"), tmp_path / "file", settings)
    assert isinstance(error, LockMismatchError)
    assert error.problems[0].what == (
        f"the download has {digest.of_bytes(b'replaced')}, expected {digest.of_bytes(DATA)}"
    )


def test_a_server_that_is_not_there_is_told(settings: Settings, tmp_path: Path) -> None:
    with running_index() as gone:
        pass
    url = f"http://{LOGIN[0]}:{LOGIN[1]}@{gone.host}/files/x"
    error = failed(url, tmp_path / "file", settings)
    assert isinstance(error, UnreachableError)
    (problem,) = error.problems
    assert problem.what == "no answer (ConnectionError)"
    assert str(problem.where) == gone.file_url("x")
    assert problem.fix == "check the network, the proxy settings and the URL, then try again"


def test_offline_asks_nobody(package_index: PackageIndex, settings: Settings, tmp_path: Path) -> None:
    package_index.files["file"] = DATA
    error = failed(package_index.file_url("file"), tmp_path / "file", replace(settings, offline=True))
    assert isinstance(error, UnreachableError)
    assert "`--offline` forbids" in error.problems[0].what
    assert package_index.asked == []


@pytest.mark.parametrize("bundle", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_ca_is_trusted_when_it_is_named(
    bundle: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = certificate_for_loopback(tmp_path)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv(bundle, str(certificate_for_loopback(tmp_path / "other")[0]))
    with running_index(certificate=(certificate, key)) as index:
        index.files["file"] = DATA
        download(index.file_url("file"), tmp_path / "file", replace(settings, ca_file=ca))
    assert (tmp_path / "file").read_bytes() == DATA


def test_an_unknown_ca_is_not_trusted(settings: Settings, tmp_path: Path) -> None:
    _, certificate, key = certificate_for_loopback(tmp_path)
    with running_index(certificate=(certificate, key)) as index:
        index.files["file"] = DATA
        error = failed(index.file_url("file"), tmp_path / "file", settings)
    assert isinstance(error, UnreachableError)
    assert error.problems[0].what == "the server's certificate is not trusted"
    assert error.problems[0].fix == "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file"
    assert index.asked == []


def test_credentials_in_the_url_are_sent(settings: Settings, tmp_path: Path) -> None:
    with running_index(login=LOGIN) as index:
        index.files["file"] = DATA
        download(f"http://{LOGIN[0]}:{LOGIN[1]}@{index.host}/files/file", tmp_path / "file", settings)
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@index.example:8443/simple?a=b#c", "https://index.example:8443/simple?a=b#c"),
        ("https://token@index.example/", "https://index.example/"),
        ("https://user:p@ss@index.example/", "https://index.example/"),
        ("https://index.example/@scope/x", "https://index.example/@scope/x"),
    ],
)
def test_what_is_shown_holds_no_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
