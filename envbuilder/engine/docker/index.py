"""How the machine's package index, proxies and CA reach a build without staying in the image.

BuildKit takes them as secrets, with the logins that .netrc and the keyring know, as it can ask neither. The classic
builder takes them as build arguments of the first stage: those are kept in the engine's build cache, so an index that
needs a password is refused there. Offline, a build has what the engine kept of earlier ones.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from envbuilder.errors import EngineMissingError, Source
from envbuilder.index_logins import IndexLogins
from envbuilder.secret import Secret

if TYPE_CHECKING:
    from envbuilder.image_plan import ImagePlan
    from envbuilder.settings import Settings

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Docker knows these arguments without a declaration, and keeps them out of the history."""


_KEYRINGS: Final = {
    "debian": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
"""Of the base: what signs its distribution's archives, mirrored or not."""


def proxies(settings: Settings) -> dict[str, str]:
    """Return the proxy variables, in both spellings, as the machine has them."""
    return {name: value for name, value in settings.environ if name.upper() in _PROXIES}


def apt_list(plan: ImagePlan, settings: Settings) -> str:
    """Return the sources that apt is given in place of the base's own: the settings' mirrors, for the base's suite."""
    suite, keyring = plan.base.system.suite, _KEYRINGS.get(plan.base.system.distribution)
    if not plan.apt_packages or not suite or keyring is None:
        return ""
    lines = []
    for url in settings.debian_mirrors:
        security = url.rstrip("/").endswith("-security")
        pockets = [f"{suite}-security"] if security else [suite, f"{suite}-updates"]
        if plan.base.system.distribution == "ubuntu":
            pockets = [suite, f"{suite}-updates", f"{suite}-security"]
        lines += [f"deb [signed-by={keyring}] {url} {pocket} main\n" for pocket in pockets]
    return "".join(lines)


def secrets(settings: Settings, *, apt: str = "") -> dict[str, bytes]:
    """Return the secrets of a BuildKit build by their id; `apt` is a list of sources."""
    found: dict[str, bytes] = {"apt.list": apt.encode()} if apt else {}
    if settings.ca_file is not None:
        found["ca"] = settings.ca_file.read_bytes()
    if settings.index_addresses or settings.offline:
        logins = IndexLogins(settings)
        complete = replace(
            settings,
            index_url=logins.complete(settings.index_url) if settings.index_url is not None else None,
            extra_index_urls=tuple(logins.complete(url) for url in settings.extra_index_urls),
            find_links=tuple(logins.complete(url) for url in settings.find_links),
        )
        found["pip.conf"] = _pip_conf(complete).encode()
        found["uv.toml"] = _uv_toml(complete).encode()
    return found


def arguments(settings: Settings, *, apt: str = "") -> dict[str, str]:
    """Return the build arguments of a classic build; `apt` is a list of sources, which the image's history shows.

    Raises EngineMissingError for an index or a mirror that needs a password.
    """
    extra, links = " ".join(settings.extra_index_urls), settings.find_links
    for url in (*settings.index_addresses, *(settings.debian_mirrors if apt else ())):
        if Secret.find(url) is not None:
            kind = "package index" if url in settings.index_addresses else "Debian mirror"
            raise EngineMissingError(
                f"the {kind} needs a password, which a build without BuildKit cannot keep out of its cache",
                where=Source(file=urlsplit(url).netloc.rpartition("@")[2]),
                fix="use Docker with its buildx, or `--engine oci`",
            )
    given = {
        "PIP_INDEX_URL": settings.index_url or "",
        "PIP_EXTRA_INDEX_URL": extra,
        "UV_DEFAULT_INDEX": settings.index_url or "",
        "UV_INDEX": extra,
        "PIP_FIND_LINKS": " ".join(links),
        "APT_SOURCES": apt.strip(),
        "UV_FIND_LINKS": ",".join(url.replace(",", "%2C") for url in links),
    }
    return {**proxies(settings), **{name: value for name, value in given.items() if value}}


def _pip_conf(settings: Settings) -> str:
    lines = ["[global]", *(["no-index = true"] if settings.offline else [])]
    if settings.index_url is not None:
        lines.append(f"index-url = {settings.index_url}")
    if settings.extra_index_urls:
        lines.append("extra-index-url =")
        lines += [f"    {url}" for url in settings.extra_index_urls]
    if settings.find_links:
        lines.append("find-links =")
        lines += [f"    {url}" for url in settings.find_links]
    return "\n".join(lines) + "\n"


def _uv_toml(settings: Settings) -> str:
    # A JSON string is a TOML string.
    links = [f"find-links = {json.dumps(settings.find_links)}\n"] if settings.find_links else []
    offline = ["offline = true\n"] if settings.offline else []
    tables = [*offline, *links, *(f"[[index]]\nurl = {json.dumps(url)}\n" for url in settings.extra_index_urls)]
    if settings.index_url is not None:
        tables.append(f"[[index]]\nurl = {json.dumps(settings.index_url)}\ndefault = true\n")
    return "\n".join(tables)
