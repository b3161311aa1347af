"""How the machine's package index, proxies and CA reach a build without staying in the image. Pure but for the CA file.

BuildKit takes them as secrets, the classic builder as build arguments of the first stage: those are kept in the
engine's build cache, so an index that needs a password is refused there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from envbuilder.errors import EngineMissingError, Source

if TYPE_CHECKING:
    from envbuilder.settings import Settings

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Docker knows these arguments without a declaration, and keeps them out of the history."""


def proxies(settings: Settings) -> dict[str, str]:
    """Return the proxy variables, in both spellings, as the machine has them."""
    return {name: value for name, value in settings.environ if name.upper() in _PROXIES}


def secrets(settings: Settings) -> dict[str, bytes]:
    """Return the secrets of a BuildKit build by their id."""
    found: dict[str, bytes] = {}
    if settings.ca_file is not None:
        found["ca"] = settings.ca_file.read_bytes()
    if settings.index_url is not None or settings.extra_index_urls:
        found["pip.conf"] = _pip_conf(settings).encode()
        found["uv.toml"] = _uv_toml(settings).encode()
    return found


def arguments(settings: Settings) -> dict[str, str]:
    """Return the build arguments of a classic build; raises EngineMissingError for an index that needs a password."""
    extra = " ".join(settings.extra_index_urls)
    for url in (settings.index_url or "", *settings.extra_index_urls):
        if "@" in urlsplit(url).netloc:
            raise EngineMissingError(
                "the package index needs a password, which the classic builder cannot keep out of its cache",
                where=Source(file=urlsplit(url).netloc.rpartition("@")[2]),
                fix="install Docker's buildx, or use `--engine oci`",
            )
    given = {
        "PIP_INDEX_URL": settings.index_url or "",
        "PIP_EXTRA_INDEX_URL": extra,
        "UV_DEFAULT_INDEX": settings.index_url or "",
        "UV_INDEX": extra,
    }
    return {**proxies(settings), **{name: value for name, value in given.items() if value}}


def _pip_conf(settings: Settings) -> str:
    lines = ["[global]"]
    if settings.index_url is not None:
        lines.append(f"index-url = {settings.index_url}")
    if settings.extra_index_urls:
        lines.append("extra-index-url =")
        lines += [f"    {url}" for url in settings.extra_index_urls]
    return "\n".join(lines) + "\n"


def _uv_toml(settings: Settings) -> str:
    # A JSON string is a TOML string.
    tables = [f"[[index]]\nurl = {json.dumps(url)}\n" for url in settings.extra_index_urls]
    if settings.index_url is not None:
        tables.append(f"[[index]]\nurl = {json.dumps(settings.index_url)}\ndefault = true\n")
    return "\n".join(tables)
