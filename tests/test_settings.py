from __future__ import annotations

from typing import TYPE_CHECKING

import platformdirs
import pytest

from envbuilder.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NO_PIP = {"PIP_CONFIG_FILE": "/dev/null"}


def read(environ: Mapping[str, str], home: Path) -> Settings:
    return Settings.from_environ({"HOME": str(home), **environ})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def index(name: str) -> str:
    return f"https://{name}.example/simple"


def test_nothing_given_means_defaults(tmp_path: Path) -> None:
    assert read(NO_PIP, tmp_path) == Settings(
        cache_dir=platformdirs.user_cache_path("envbuilder"), environ=(("HOME", str(tmp_path)),)
    )


def test_a_relative_cache_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read({**NO_PIP, "ENVBUILDER_CACHE_DIR": "cache"}, tmp_path).cache_dir == tmp_path / "cache"


@pytest.mark.parametrize(
    ("environ", "files", "expected"),
    [
        pytest.param({}, [], None, id="nothing"),
        pytest.param({}, [".pip/pip.conf"], ".pip/pip.conf", id="the old file"),
        pytest.param({}, [".pip/pip.conf", ".config/pip/pip.conf"], ".config/pip/pip.conf", id="the new file wins"),
        pytest.param(
            {"XDG_CONFIG_HOME": "{home}/xdg"},
            [".config/pip/pip.conf", "xdg/pip/pip.conf"],
            "xdg/pip/pip.conf",
            id="XDG",
        ),
        pytest.param(
            {"PIP_CONFIG_FILE": "{home}/own.conf"},
            [".config/pip/pip.conf", "own.conf"],
            "own.conf",
            id="PIP_CONFIG_FILE",
        ),
        pytest.param({"PIP_CONFIG_FILE": "/dev/null"}, [".config/pip/pip.conf"], None, id="no file at all"),
        pytest.param({"PIP_INDEX_URL": index("pip")}, [".config/pip/pip.conf"], "pip", id="pip's variable"),
        pytest.param(
            {"PIP_INDEX_URL": index("pip"), "ENVBUILDER_INDEX_URL": index("own")},
            ["own.conf"],
            "own",
            id="our variable",
        ),
        pytest.param({"ENVBUILDER_INDEX_URL": "", "PIP_INDEX_URL": index("pip")}, [], "pip", id="an empty variable"),
    ],
)
def test_the_nearest_index_wins(
    environ: dict[str, str], files: list[str], expected: str | None, tmp_path: Path
) -> None:
    for file in files:
        write(tmp_path / file, f"[global]\nindex-url = {index(file.replace('/', '-'))}\n")
    given = {name: value.format(home=tmp_path) for name, value in environ.items()}
    given.setdefault("PIP_CONFIG_FILE", str(tmp_path / "absent.conf") if files else "/dev/null")
    found = read(given, tmp_path).index_url
    assert found == (index(expected.replace("/", "-")) if expected else None)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("file",)),
        ({"PIP_EXTRA_INDEX_URL": f"{index('a')}\n {index('b')}"}, ("a", "b")),
        ({"PIP_EXTRA_INDEX_URL": index("a"), "ENVBUILDER_EXTRA_INDEX_URLS": index("c")}, ("c",)),
        ({"ENVBUILDER_EXTRA_INDEX_URLS": ""}, ()),
    ],
    ids=["file", "pip's variable", "our variable", "an empty variable means none"],
)
def test_the_nearest_list_of_extra_indexes_wins(
    environ: dict[str, str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    conf = write(tmp_path / "pip.conf", f"[global]\nextra-index-url =\n    {index('file')}\n")
    found = read({"PIP_CONFIG_FILE": str(conf), **environ}, tmp_path).extra_index_urls
    assert found == tuple(index(name) for name in expected)


@pytest.mark.parametrize(
    "url", ["file:///srv/wheels", "/srv/wheels", "../wheels", "ftp://index.example", "index.example/simple"]
)
def test_an_index_that_only_this_machine_has_is_dropped(url: str, tmp_path: Path) -> None:
    conf = write(tmp_path / "pip.conf", f"[global]\nindex-url = {url}\nfind-links = {url}\n")
    found = read({"PIP_CONFIG_FILE": str(conf), "PIP_EXTRA_INDEX_URL": f"{url} {index('a')}"}, tmp_path)
    assert found.index_url is None
    assert found.extra_index_urls == (index("a"),)


@pytest.mark.parametrize(
    "text",
    ["no section\n", "[global\n", "[global]\nindex-url\n[global]\n", "[install]\nindex-url = x\n"],
    ids=["no section", "broken section", "twice", "another section"],
)
def test_a_file_that_pip_could_not_read_is_passed_over(text: str, tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", f"[global]\nindex-url = {index('good')}\n")
    write(tmp_path / "bad.conf", text)
    assert read({"PIP_CONFIG_FILE": str(tmp_path / "bad.conf")}, tmp_path).index_url == index("good")


def test_a_percent_sign_in_a_password_is_read_as_it_is(tmp_path: Path) -> None:
    url = "https://user:p%40ss@index.example/simple"
    conf = write(tmp_path / "pip.conf", f"[global]\nindex-url = {url}\n")
    assert read({"PIP_CONFIG_FILE": str(conf)}, tmp_path).index_url == url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("SSL_CERT_FILE",), "SSL_CERT_FILE"),
        (("SSL_CERT_FILE", "file"), "file"),
        (("SSL_CERT_FILE", "file", "PIP_CERT"), "PIP_CERT"),
        (("SSL_CERT_FILE", "file", "PIP_CERT", "ENVBUILDER_CA_FILE"), "ENVBUILDER_CA_FILE"),
        ((), None),
    ],
    ids=["SSL_CERT_FILE", "pip's file", "PIP_CERT", "ENVBUILDER_CA_FILE", "none"],
)
def test_the_nearest_ca_file_wins(given: tuple[str, ...], expected: str | None, tmp_path: Path) -> None:
    paths = {name: write(tmp_path / f"{name}.pem", "") for name in given}
    conf = write(tmp_path / "pip.conf", f"[global]\ncert = {paths['file']}\n" if "file" in paths else "")
    environ = {name: str(path) for name, path in paths.items() if name != "file"}
    found = read({"PIP_CONFIG_FILE": str(conf) if "file" in paths else "/dev/null", **environ}, tmp_path).ca_file
    assert found == (tmp_path / f"{expected}.pem" if expected else None)


def test_a_ca_file_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert read({**NO_PIP, "SSL_CERT_FILE": str(tmp_path / "absent.pem")}, tmp_path).ca_file is None


def test_mirrors_are_separated_by_spaces(tmp_path: Path) -> None:
    found = read({**NO_PIP, "ENVBUILDER_DEBIAN_MIRRORS": " http://a.example  http://b.example "}, tmp_path)
    assert found.debian_mirrors == ("http://a.example", "http://b.example")


def test_programs_get_the_variables_of_a_list_only(tmp_path: Path) -> None:
    passed = {"PATH": "/bin", "https_proxy": "http://proxy.example", "NETRC": "/n", "DOCKER_HOST": "unix:///d"}
    dropped = dict.fromkeys(("UV_INDEX", "PIP_FIND_LINKS", "PYTHONPATH", "LD_PRELOAD", "PASSWORD"), "canary")
    found = read({**NO_PIP, **passed, **dropped}, tmp_path).program_environ()
    assert found == {**passed, "HOME": str(tmp_path)}


def test_programs_trust_the_ca_file(tmp_path: Path) -> None:
    ca = write(tmp_path / "ca.pem", "")
    found = read({**NO_PIP, "ENVBUILDER_CA_FILE": str(ca), "SSL_CERT_FILE": "/other"}, tmp_path)
    assert found.program_environ()["SSL_CERT_FILE"] == str(ca)
    assert dict(found.environ)["SSL_CERT_FILE"] == "/other"


def test_offline_is_kept(tmp_path: Path) -> None:
    assert Settings.from_environ({"HOME": str(tmp_path), **NO_PIP}, offline=True).offline
