"""Registries on this machine, which may do without TLS."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

_SECONDS: Final = 10


def is_loopback(netloc: str) -> bool:
    """Tell whether `HOST[:PORT]` is this machine."""
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def speaks_tls(netloc: str) -> bool:
    """Ask a loopback registry whether it expects TLS; whether its certificate is good is asked later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(f"//{netloc}")
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
