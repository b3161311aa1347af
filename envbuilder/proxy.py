"""Which proxy a request goes through, by the variables that all programs know. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def variables(address: str) -> dict[str, str]:
    """Return the variables, in both spellings, that send everything over http(s) through one proxy."""
    names = (f"{scheme}_proxy" for scheme in ("http", "https"))
    return {spelled: address for name in names for spelled in (name, name.upper())}


def find(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy that a request for `url` goes through; None when it goes straight there."""
    parts = urlsplit(url)
    for name in (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        if environ.get(name):
            if any(_holds(one.strip(), parts.hostname or "", parts.netloc) for one in _directs(environ)):
                return None
            address = environ[name]
            return address if "://" in address else f"http://{address}"
    return None


def host(url: str, environ: Mapping[str, str]) -> str | None:
    """Return host and port of the proxy, without credentials; None where there is none, or where `url` is none."""
    try:
        through = find(url, environ)
    except ValueError:
        return None
    return urlsplit(through).netloc.rpartition("@")[2] if through is not None else None


def _directs(environ: Mapping[str, str]) -> list[str]:
    return (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")


def _holds(listed: str, host: str, netloc: str) -> bool:
    """Whether a host is meant by an entry of NO_PROXY: `*`, a host, a domain, `HOST:PORT`, or a network."""
    domain = listed.lstrip(".").lower()
    if not domain:
        return False
    if domain in ("*", host, netloc.rpartition("@")[2].lower()) or host.endswith(f".{domain}"):
        return True
    try:
        return "/" in domain and ipaddress.ip_address(host) in ipaddress.ip_network(domain, strict=False)
    except ValueError:
        return False
