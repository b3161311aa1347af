"""What a run of envbuilder may use on this machine: caches, package index, mirrors, certificates, offline or not.

Read once, from an environment mapping and pip's own configuration; nothing else looks at either.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import platformdirs

from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
)
"""The variables that programs started by envbuilder get; a stray UV_* or PIP_* must not change what they do."""

_MODEL_STORE_PREFIXES: Final = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "DATABRICKS_", "ARM_")
_MODEL_STORE_NAMES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CLOUDSDK_CONFIG", "GCLOUD_PROJECT")

_CONDA_NAMES: Final = (
    "ENVBUILDER_CHANNEL_ALIAS",
    "ENVBUILDER_CHANNEL_MIRRORS",
    "CONDA_CHANNEL_ALIAS",
    "RATTLER_AUTH_FILE",
    "NETRC",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
)
"""Where conda channels are and where rattler looks for credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The machine's side of a run."""

    cache_dir: Path
    """Blobs, wheels, locks, unpacked layers: all content-addressed, safe to delete."""

    index_url: str | None = None
    """The package index; None is uv's default."""

    extra_index_urls: tuple[str, ...] = ()
    debian_mirrors: tuple[str, ...] = ()
    """URLs of Debian (or Ubuntu) archives; empty: the machine's own apt sources."""

    ca_file: Path | None = None
    """A PEM bundle to trust besides, or instead of, the usual ones."""

    offline: bool = False
    conda_environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The variables that say where conda channels are, and who is let in."""

    environ: tuple[tuple[str, str], ...] = ()
    """The variables passed on to programs that envbuilder starts."""

    model_store_environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The variables of MLflow's and the clouds' clients, passwords among them: for the program that fetches models."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, offline: bool = False) -> Settings:
        """Read the settings from environment variables and pip's configuration files.

        `ENVBUILDER_CACHE_DIR`, `ENVBUILDER_INDEX_URL`, `ENVBUILDER_EXTRA_INDEX_URLS`, `ENVBUILDER_DEBIAN_MIRRORS`,
        `ENVBUILDER_CA_FILE` (lists separated by spaces) win over pip's `PIP_INDEX_URL`, `PIP_EXTRA_INDEX_URL`,
        `PIP_CERT` and configuration files, and those over `SSL_CERT_FILE`. Of pip's settings only indexes reached
        over http(s) are taken: a `file:` index or a find-links folder is a thing of this machine, and what it holds
        could not be found again from the lock.
        """
        pip = _pip_settings(environ)
        cache = environ.get("ENVBUILDER_CACHE_DIR")
        extra = environ.get(
            "ENVBUILDER_EXTRA_INDEX_URLS", environ.get("PIP_EXTRA_INDEX_URL", pip.get("extra-index-url", ""))
        )
        certificates = (
            environ.get("ENVBUILDER_CA_FILE")
            or environ.get("PIP_CERT")
            or pip.get("cert")
            or environ.get("SSL_CERT_FILE")
        )
        index = environ.get("ENVBUILDER_INDEX_URL") or environ.get("PIP_INDEX_URL") or pip.get("index-url")
        return cls(
            cache_dir=Path(cache).absolute() if cache else platformdirs.user_cache_path("envbuilder"),
            index_url=next(iter(_over_http([index or ""])), None),
            extra_index_urls=tuple(_over_http(extra.split())),
            debian_mirrors=tuple(environ.get("ENVBUILDER_DEBIAN_MIRRORS", "").split()),
            ca_file=Path(certificates) if certificates and Path(certificates).is_file() else None,
            offline=offline,
            environ=tuple((name, environ[name]) for name in _PASSED_ON if name in environ),
            conda_environ=tuple((name, environ[name]) for name in _CONDA_NAMES if name in environ),
            model_store_environ=tuple(
                (name, value)
                for name, value in sorted(environ.items())
                if name.startswith(_MODEL_STORE_PREFIXES) or name in _MODEL_STORE_NAMES
            ),
        )

    def program_environ(self) -> dict[str, str]:
        """Return the environment for a program that envbuilder starts."""
        environ = dict(self.environ)
        if self.ca_file is not None:
            environ["SSL_CERT_FILE"] = str(self.ca_file)
        return environ


def _over_http(urls: Iterable[str]) -> list[str]:
    return [url for url in urls if _scheme(url) in ("http", "https")]


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as cause:
        raise InvalidFileError(
            f"the URL of a package index cannot be read ({cause})",
            where=Source(file="ENVBUILDER_INDEX_URL, or pip's settings"),
            fix="write it as https://HOST/simple",
        ) from cause


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's `[global]` settings, by pip's own order of files (later wins)."""
    home = Path(environ.get("HOME", "/"))
    config_home = Path(environ.get("XDG_CONFIG_HOME", home / ".config"))
    files = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen is not None:
        files = [] if chosen == "/dev/null" else [*files, Path(chosen)]
    parser = configparser.RawConfigParser()
    for file in files:
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
    return dict(parser.items("global")) if parser.has_section("global") else {}
