"""What a run of envbuilder may use on this machine: caches, package index, mirrors, certificates, offline or not.

Read once, from an environment mapping and pip's own configuration; nothing else looks at either.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import platformdirs

from envbuilder import package_index, proxy, python_places
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated
from envbuilder.image_reference import ImageReference
from envbuilder.pip_settings import PipSettings
from envbuilder.problems import Problems, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envbuilder.package_index import IndexKind, PackageIndex

_PASSED_ON: Final = (
    "HOME",
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "NETRC",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "CONTAINER_HOST",
    "XDG_RUNTIME_DIR",
)
"""The variables that programs started by envbuilder get; a stray UV_* or PIP_* must not change what they do."""

_PLACES: Final = (*python_places.VARIABLES, "JUPYTER_DATA_DIR", "SYSTEMROOT")

_MODEL_STORE_PREFIXES: Final = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "DATABRICKS_", "ARM_")
_MODEL_STORE_NAMES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CLOUDSDK_CONFIG", "GCLOUD_PROJECT")

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

KEYRING: Final = ("disabled", "subprocess")
"""What uv and pip call the ways to ask a keyring, as far as they mean the same."""

_KEYRING_PREFIXES: Final = ("KEYRING_", "PYTHON_KEYRING_", "ARTIFACTS_", "AWS_", "AZURE_", "GOOGLE_")
_KEYRING_NAMES: Final = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The machine's side of a run."""

    cache_dir: Path
    """Blobs, wheels, locks, unpacked layers: all content-addressed, safe to delete."""

    index_url: str | None = field(default=None, repr=False)
    """The package index; None is uv's default. Like the other places, it may hold credentials."""

    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """Pages with links to wheels."""

    keyring: bool = False
    """Ask the `keyring` program for passwords of indexes whose URL holds a user only."""

    debian_mirrors: tuple[str, ...] = ()
    """URLs of Debian (or Ubuntu) archives; empty: the machine's own apt sources."""

    registry_mirrors: tuple[tuple[str, str], ...] = ()
    """Registries and the places, `HOST[/PATH]`, that are asked for their images first, in this order."""

    ca_file: Path | None = None
    """A PEM bundle to trust besides, or instead of, the usual ones."""

    offline: bool = False
    conda_environ: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """All variables: which of them say where conda channels are is decided there, and a .condarc may name any."""

    environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The variables passed on to programs that envbuilder starts; a proxy's may hold a password."""

    place_environ: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """The variables that say where the Pythons and the Jupyter kernels of this machine's user are."""

    keyring_environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The variables of the keyring and of what it may ask: for `keyring`, and for uv, which starts it."""

    model_store_environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The variables of MLflow's and the clouds' clients, passwords among them: for the program that fetches models."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, offline: bool = False) -> Settings:
        """Read the settings from environment variables and pip's configuration files.

        `ENVBUILDER_CACHE_DIR`, `ENVBUILDER_INDEX_URL`, `ENVBUILDER_EXTRA_INDEX_URLS`, `ENVBUILDER_FIND_LINKS`,
        `ENVBUILDER_KEYRING`, `ENVBUILDER_PROXY`, `ENVBUILDER_NO_PROXY`, `ENVBUILDER_DEBIAN_MIRRORS`,
        `ENVBUILDER_REGISTRY_MIRRORS`, `ENVBUILDER_CA_FILE` (lists separated by spaces) win over pip's variables and
        configuration files. Of pip's places only those reached over http(s) are taken: a `file:` index or a folder is
        a thing of this machine, and what it holds could not be found again from the lock. Raises InvalidFileError with
        everything that is wrong with our own variables.
        """
        pip = PipSettings.from_environ(environ)
        problems = Problems()
        keyring = _keyring(environ, pip, problems)
        found = cls(
            cache_dir=cache_dir(environ),
            index_url=next(iter(_places("index_url", environ, pip, problems)), None),
            extra_index_urls=_places("extra_index_url", environ, pip, problems),
            find_links=_places("find_links", environ, pip, problems),
            keyring=keyring,
            debian_mirrors=tuple(environ.get("ENVBUILDER_DEBIAN_MIRRORS", "").split()),
            registry_mirrors=_registry_mirrors(environ, problems),
            ca_file=_ca_file(environ, pip, problems),
            offline=offline,
            environ=_programs(environ, pip),
            place_environ=tuple((name, environ[name]) for name in _PLACES if name in environ),
            keyring_environ=tuple(
                (name, value)
                for name, value in sorted(environ.items())
                if keyring and (name.startswith(_KEYRING_PREFIXES) or name in _KEYRING_NAMES)
            ),
            conda_environ=tuple(environ.items()),
            model_store_environ=tuple(
                (name, value)
                for name, value in sorted(environ.items())
                if name.startswith(_MODEL_STORE_PREFIXES) or name in _MODEL_STORE_NAMES
            ),
        )
        problems.finish()
        return found

    @property
    def index_addresses(self) -> tuple[str, ...]:
        """The places where packages are looked up, with their credentials: the index, extra indexes, find-links."""
        return (*((self.index_url,) if self.index_url is not None else ()), *self.extra_index_urls, *self.find_links)

    @property
    def places(self) -> list[list[str]]:
        """Where packages are looked up, without credentials: what an answer that is kept depends on."""
        kinds = ((self.index_url,) if self.index_url is not None else (), self.extra_index_urls, self.find_links)
        return [[package_index.without_token(package_index.normal_url(url), [url]) for url in urls] for urls in kinds]

    def asking(self, indexes: Iterable[PackageIndex]) -> Settings:
        """Return the same settings with the indexes of an environment before, or instead of, those of the machine."""
        named: dict[IndexKind, list[str]] = {kind: [] for kind in package_index.KINDS}
        for one in indexes:
            named[one.kind].append(one.address)
        return replace(
            self,
            index_url=next(iter(named["index_url"]), self.index_url),
            extra_index_urls=tuple(dict.fromkeys((*named["extra_index_url"], *self.extra_index_urls))),
            find_links=tuple(dict.fromkeys((*named["find_links"], *self.find_links))),
        )

    def program_environ(self) -> dict[str, str]:
        """Return the environment for a program that envbuilder starts."""
        environ = dict(self.environ)
        if self.ca_file is not None:
            environ["SSL_CERT_FILE"] = str(self.ca_file)
        return environ


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return where the caches are."""
    given = environ.get("ENVBUILDER_CACHE_DIR")
    return Path(given).absolute() if given else platformdirs.user_cache_path("envbuilder")


_VARIABLES: Final[Mapping[IndexKind, str]] = {
    "index_url": "ENVBUILDER_INDEX_URL",
    "extra_index_url": "ENVBUILDER_EXTRA_INDEX_URLS",
    "find_links": "ENVBUILDER_FIND_LINKS",
}


def _places(kind: IndexKind, environ: Mapping[str, str], pip: PipSettings, problems: Problems) -> tuple[str, ...]:
    """Return the places of one kind: those of our own variable, else those of pip that a lock can name."""
    name = _VARIABLES[kind]
    # An empty variable means no place; but for the index, as there is always one.
    if environ.get(name) or (name in environ and kind != "index_url"):
        where = Source(file=name)
        read = [package_index.read(kind, Stated(value=one, source=where), problems) for one in environ[name].split()]
        return tuple(one.address for one in read if one is not None)
    return tuple(url for url in pip.get(kind.replace("_", "-")).split() if _is_over_http(url))


def _registry_mirrors(environ: Mapping[str, str], problems: Problems) -> tuple[tuple[str, str], ...]:
    found = []
    for index, pair in enumerate(environ.get("ENVBUILDER_REGISTRY_MIRRORS", "").split()):
        registry, equals, place = pair.partition("=")
        try:
            ImageReference.parse(f"{place}/name")
            is_read = bool(equals and registry and place) and "/" not in registry and "@" not in pair
        except InvalidFileError:
            is_read = False
        if is_read:
            found.append((registry, place))
        else:
            problems.add(
                "not a registry and its mirror",
                where=Source(file="ENVBUILDER_REGISTRY_MIRRORS").child(index),
                fix="write `REGISTRY=HOST` or `REGISTRY=HOST/PATH`, e.g. `docker.io=mirror.example/hub`",
            )
    return tuple(found)


def _is_over_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError as cause:
        raise InvalidFileError(
            f"the URL of a package index cannot be read ({cause})",
            where=Source(file="pip's settings"),
            fix="write it as https://HOST/simple",
        ) from cause


def _keyring(environ: Mapping[str, str], pip: PipSettings, problems: Problems) -> bool:
    given = environ.get("ENVBUILDER_KEYRING")
    if given and given not in KEYRING:
        problems.add(
            f"`{shown(given)}` is not a keyring provider",
            where=Source(file="ENVBUILDER_KEYRING"),
            fix="write " + " or ".join(f"`{one}`" for one in KEYRING),
        )
    # pip's `import` asks the same keyring without the program.
    return (given or pip.get("keyring-provider")) in ("subprocess", "import")


def _ca_file(environ: Mapping[str, str], pip: PipSettings, problems: Problems) -> Path | None:
    own = environ.get("ENVBUILDER_CA_FILE")
    if own and not Path(own).is_file():
        problems.add(
            "there is no such file of certificates",
            where=Source(file=f"ENVBUILDER_CA_FILE={shown(own)}"),
            fix="correct the path, or unset ENVBUILDER_CA_FILE",
        )
    given = own or pip.get("cert") or environ.get("SSL_CERT_FILE")
    return Path(given) if given and Path(given).is_file() else None


def _programs(environ: Mapping[str, str], pip: PipSettings) -> tuple[tuple[str, str], ...]:
    """Return the variables for programs, with the proxy that our variable or, where there is none else, pip names."""
    found = {name: environ[name] for name in _PASSED_ON if name in environ}
    given = environ.get("ENVBUILDER_PROXY", "")
    if not given and not any(found.get(name) for name in _PROXIES):
        given = pip.get("proxy")
    if given:
        found |= proxy.variables(given if "://" in given else f"http://{given}")
    if direct := environ.get("ENVBUILDER_NO_PROXY"):
        found |= {"NO_PROXY": direct, "no_proxy": direct}
    return tuple(found.items())
