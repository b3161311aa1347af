from __future__ import annotations

from typing import TYPE_CHECKING

import platformdirs
import pytest

from envbuilder import package_index
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated
from envbuilder.problems import Problems
from envbuilder.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from envbuilder.package_index import IndexKind

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


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("file",)),
        ({"PIP_FIND_LINKS": f"/srv/wheels {index('a')}\n{index('b')}"}, ("a", "b")),
        ({"PIP_FIND_LINKS": index("a"), "ENVBUILDER_FIND_LINKS": f"{index('c')} {index('d')}"}, ("c", "d")),
        ({"ENVBUILDER_FIND_LINKS": ""}, ()),
    ],
    ids=["file", "pip's variable", "our variable", "an empty variable means none"],
)
def test_the_nearest_pages_of_links_win(environ: dict[str, str], expected: tuple[str, ...], tmp_path: Path) -> None:
    conf = write(tmp_path / "pip.conf", f"[global]\nfind-links =\n    {index('file')}\n    /srv/wheels\n")
    found = read({"PIP_CONFIG_FILE": str(conf), **environ}, tmp_path)
    assert found.find_links == tuple(index(name) for name in expected)
    assert found.index_addresses == found.find_links


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, True),
        ({"PIP_KEYRING_PROVIDER": "subprocess"}, True),
        ({"PIP_KEYRING_PROVIDER": "disabled"}, False),
        ({"PIP_KEYRING_PROVIDER": "auto"}, False),
        ({"ENVBUILDER_KEYRING": "disabled"}, False),
        ({"PIP_KEYRING_PROVIDER": "disabled", "ENVBUILDER_KEYRING": "subprocess"}, True),
    ],
)
def test_the_keyring_is_asked_when_it_was_said(environ: dict[str, str], on: bool, tmp_path: Path) -> None:  # noqa: FBT001
    conf = write(tmp_path / "pip.conf", "[global]\nkeyring-provider = import\n")
    more = {"PYTHON_KEYRING_BACKEND": "x.Y", "XDG_DATA_HOME": "/data", "AWS_PROFILE": "p"}
    found = read({"PIP_CONFIG_FILE": str(conf), **more, **environ}, tmp_path)
    assert found.keyring is on
    assert dict(found.keyring_environ) == (more if on else {})
    assert not set(more) & set(found.program_environ())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://file.example:3128"),
        ({"PIP_PROXY": "pip.example:3128"}, "http://pip.example:3128"),
        ({"PIP_PROXY": "http://pip.example", "HTTPS_PROXY": "http://usual.example"}, "http://usual.example"),
        ({"ENVBUILDER_PROXY": "http://own.example", "HTTPS_PROXY": "http://usual.example"}, "http://own.example"),
    ],
    ids=["pip's file", "pip's variable", "the usual variable", "our variable"],
)
def test_the_nearest_proxy_wins(environ: dict[str, str], expected: str, tmp_path: Path) -> None:
    conf = write(tmp_path / "pip.conf", "[global]\nproxy = http://file.example:3128\n")
    given = {"PIP_CONFIG_FILE": str(conf), "NO_PROXY": "localhost", "ENVBUILDER_NO_PROXY": ".in.example", **environ}
    found = read(given, tmp_path).program_environ()
    assert found["HTTPS_PROXY"] == expected
    assert found.get("https_proxy", expected) == expected
    assert found["NO_PROXY"] == found["no_proxy"] == ".in.example"


def test_all_that_is_wrong_with_our_own_variables_is_told_at_once(tmp_path: Path) -> None:
    environ = {
        "ENVBUILDER_INDEX_URL": "ftp://u:canary@index.example",
        "ENVBUILDER_EXTRA_INDEX_URLS": f"{index('a')} file:///srv/simple",
        "ENVBUILDER_FIND_LINKS": f"{index('a')} /srv/wheels",
        "ENVBUILDER_KEYRING": "yes",
        "ENVBUILDER_CA_FILE": "/absent.pem",
    }
    with pytest.raises(InvalidFileError) as raised:
        read({**NO_PIP, **environ}, tmp_path)
    assert "canary" not in str(raised.value)
    assert [(problem.what, str(problem.where), problem.fix) for problem in raised.value.problems] == [
        ("`yes` is not a keyring provider", "ENVBUILDER_KEYRING", "write `disabled` or `subprocess`"),
        (
            "`ftp://***@index.example` is not the URL of a package index",
            "ENVBUILDER_INDEX_URL",
            "write `https://HOST/simple`",
        ),
        (
            "`file:///srv/simple` is not the URL of a package index",
            "ENVBUILDER_EXTRA_INDEX_URLS",
            "write `https://HOST/simple`",
        ),
        (
            "`/srv/wheels` is a folder of this machine, where nobody else finds what a lock names",
            "ENVBUILDER_FIND_LINKS",
            "serve it, e.g. `python -m http.server --directory FOLDER`, and name the URL of that",
        ),
        (
            "there is no such file of certificates",
            "ENVBUILDER_CA_FILE=/absent.pem",
            "correct the path, or unset ENVBUILDER_CA_FILE",
        ),
    ]


def test_a_broken_url_of_pip_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="cannot be read"):
        read({**NO_PIP, "PIP_INDEX_URL": "https://[index.example/simple"}, tmp_path)


def test_the_indexes_of_an_environment_come_before_the_machines_and_no_password_is_shown(tmp_path: Path) -> None:
    machine = read({**NO_PIP, "ENVBUILDER_INDEX_URL": index("m"), "ENVBUILDER_EXTRA_INDEX_URLS": index("e")}, tmp_path)
    problems = Problems()
    places: tuple[tuple[IndexKind, str], ...] = (
        ("index_url", index("u:canary@own")),
        ("extra_index_url", index("e2")),
        ("extra_index_url", index("e")),
        ("find_links", index("f")),
    )
    named = [package_index.read(kind, Stated(value=url, source=Source(file="x")), problems) for kind, url in places]
    asked = machine.asking(one for one in named if one is not None)
    assert asked.index_url == index("u:canary@own")
    assert asked.extra_index_urls == (index("e2"), index("e"))
    assert asked.find_links == (index("f"),)
    assert machine.asking(()) == machine
    assert "canary" not in repr(asked)


def test_places_are_named_without_credentials(tmp_path: Path) -> None:
    environ = {
        "ENVBUILDER_INDEX_URL": "https://u:canary@Index.example/simple/",
        "ENVBUILDER_EXTRA_INDEX_URLS": f"https://h.example/t/tk-canary/owner/simple {index('e')}",
    }
    found = read({**NO_PIP, **environ}, tmp_path)
    assert found.places == [[index("index")], ["https://h.example/owner/simple", index("e")], []]
    assert read(NO_PIP, tmp_path).places == [[], [], []]


def test_offline_is_kept(tmp_path: Path) -> None:
    assert Settings.from_environ({"HOME": str(tmp_path), **NO_PIP}, offline=True).offline


def test_mirrors_of_registries_are_pairs(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "ENVBUILDER_REGISTRY_MIRRORS": "docker.io=mirror.example/hub ghcr.io=localhost:5000",
    }
    assert Settings.from_environ(environ).registry_mirrors == (
        ("docker.io", "mirror.example/hub"),
        ("ghcr.io", "localhost:5000"),
    )
    environ["ENVBUILDER_REGISTRY_MIRRORS"] = "docker.io mirror.example/hub= a/b=c docker.io=user:word@host docker.io=A!"
    with pytest.raises(InvalidFileError, match="not a registry and its mirror") as caught:
        Settings.from_environ(environ)
    assert len(caught.value.problems) == 5
