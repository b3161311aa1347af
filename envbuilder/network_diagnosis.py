"""What of the network this machine reaches, with its proxies, certificates and logins: indexes, channels, keyring."""

from __future__ import annotations

import shutil
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envbuilder import network, uv
from envbuilder.conda_settings import CondaSettings
from envbuilder.errors import EnvBuilderError, UnreachableError
from envbuilder.finding import Finding
from envbuilder.index_logins import IndexLogins
from envbuilder.secret import visible
from envbuilder.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envbuilder.channel import Address
    from envbuilder.machine import Machine
    from envbuilder.settings import Settings

_AT_ONCE: Final = 8
_KNOCK_SECONDS: Final = 5
_PROXY_PORTS: Final = {"https": 443, "socks5": 1080, "socks5h": 1080}
_CHANNEL_FIX: Final = (
    "check ENVBUILDER_CHANNEL_ALIAS and ENVBUILDER_CHANNEL_MIRRORS, or conda's .condarc; models without conda packages "
    "need none"
)


def diagnose(machine: Machine) -> tuple[Finding, ...]:
    """Ask every place at once, and give the findings in the order of the settings."""
    settings = machine.settings
    checks: list[Callable[[], Finding]] = [lambda: _index(machine)]
    for subject, urls in (("extra index", settings.extra_index_urls), ("find-links", settings.find_links)):
        checks += [lambda subject=subject, url=url: _page(subject, url, settings) for url in urls]  # type: ignore[misc]
    checks += [lambda: _keyring(settings)]
    try:
        checks += _channels(CondaSettings.from_environ(dict(settings.conda_environ), settings=settings))
    except EnvBuilderError as cause:
        found = _failed("conda's settings", cause)
        checks.append(lambda: found)
    checks += [lambda name=name, url=url: _proxy(name, url) for name, url in _proxies(settings)]  # type: ignore[misc]
    checks.append(lambda: _certificates(settings))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return tuple(pool.map(lambda check: check(), checks))


def _index(machine: Machine) -> Finding:
    """Ask the index for a package as a lock does; the other places are asked on their own."""
    settings = replace(machine.settings, extra_index_urls=(), find_links=())
    where = "the default one" if settings.index_url is None else visible(settings.index_url)
    target = Target(subdir="linux-64")
    try:
        (found,) = uv.compile_lines(
            ("pip",),
            python_version="3.11",
            target=target,
            settings=settings,
            reporter=machine.reporter,
            dependencies=False,
        )
    except EnvBuilderError as cause:
        return _failed("package index", cause, where)
    return Finding(subject="package index", ok=True, detail=f"{where} answers (it has pip {found.version})")


def _page(subject: str, url: str, settings: Settings) -> Finding:
    shown = visible(url)
    if settings.offline:
        return Finding(subject=subject, ok=True, detail=f"{shown} (not asked: `--offline`)")
    try:
        with (
            network.session(settings, auth=IndexLogins(settings)) as opened,
            network.get(opened, url, settings=settings),
        ):
            return Finding(subject=subject, ok=True, detail=f"{shown} answers")
    except UnreachableError as cause:
        # Some indexes have pages of packages, and no list of all.
        if subject == "extra index" and cause.problems[0].what.startswith("the server answered 404"):
            return Finding(subject=subject, ok=True, detail=f"{shown} answers")
        return _failed(subject, cause, shown)
    except EnvBuilderError as cause:
        return _failed(subject, cause, shown)


def _keyring(settings: Settings) -> Finding:
    if not settings.keyring:
        return Finding(subject="keyring", ok=True, detail="not asked (`keyring: disabled`)")
    program = shutil.which("keyring", path=dict(settings.environ).get("PATH", ""))
    if program is None:
        fix = "`pip install keyring`, or write `keyring: disabled` (ENVBUILDER_KEYRING=disabled)"
        return Finding(subject="keyring", ok=False, detail="no `keyring` program on the PATH", fix=fix)
    without = [visible(url) for url in settings.index_addresses if not urlsplit(url).username]
    more = f"; not for {', '.join(without)}, whose URL names no user" if without else ""
    return Finding(subject="keyring", ok=True, detail=f"{program}{more}")


def _channels(settings: CondaSettings) -> Iterator[Callable[[], Finding]]:
    yield lambda: _channel("conda channels", settings.channel_alias, settings.settings)
    for name, addresses in settings.named:
        for address in addresses:
            yield lambda name=name, address=address: _channel(f"channel {name}", address, settings.settings)  # type: ignore[misc]
    for of, mirrors in settings.mirrors:
        for mirror in mirrors:
            yield lambda of=of, mirror=mirror: _channel(f"mirror of {of.url}", mirror, settings.settings)  # type: ignore[misc]


def _channel(subject: str, address: Address, settings: Settings) -> Finding:
    """See whether somebody answers there; who is let in is known only with a channel's name."""
    if address.url.startswith("file:"):
        is_there = Path(unquote(urlsplit(address.url).path)).is_dir()
        fix = "" if is_there else _CHANNEL_FIX
        return Finding(
            subject=subject, ok=is_there, detail=address.url if is_there else f"{address.url} is not there", fix=fix
        )
    if settings.offline:
        return Finding(subject=subject, ok=True, detail=f"{address.url} (not asked: `--offline`)")
    try:
        with network.session(settings) as opened:
            if address.authorization is not None:
                opened.headers["Authorization"] = address.authorization
            with network.get(opened, address.request_url, settings=settings):
                return Finding(subject=subject, ok=True, detail=f"{address.url} answers")
    except UnreachableError as cause:
        what = cause.problems[0].what
        if what.startswith("the server answered 4"):
            return Finding(subject=subject, ok=True, detail=f"{address.url} answers")
        return Finding(
            subject=subject,
            ok=False,
            detail=f"{address.url}: {what}",
            fix=f"{cause.problems[0].fix}\n{_CHANNEL_FIX}",
        )


def _proxies(settings: Settings) -> list[tuple[str, str]]:
    environ = dict(settings.environ)
    names = ((f"{scheme}_proxy", f"{scheme}_proxy".upper()) for scheme in ("http", "https", "all"))
    given = ((pair[1], environ.get(pair[0]) or environ.get(pair[1]) or "") for pair in names)
    return [(name, url if "://" in url else f"http://{url}") for name, url in given if url]


def _proxy(name: str, url: str) -> Finding:
    subject, parts = f"proxy {name}", urlsplit(url)
    shown = parts.netloc.rpartition("@")[2]
    try:
        place = (parts.hostname or "", parts.port or _PROXY_PORTS.get(parts.scheme, 80))
        with socket.create_connection(place, timeout=_KNOCK_SECONDS):
            return Finding(subject=subject, ok=True, detail=f"{shown} answers")
    except (OSError, ValueError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        fix = f"correct {name} (ENVBUILDER_PROXY, `proxy` of envbuilder.yaml or pip's), or unset it"
        return Finding(subject=subject, ok=False, detail=f"{shown}: {visible(reason)}", fix=fix)


def _certificates(settings: Settings) -> Finding:
    file = settings.ca_file
    if file is None:
        return Finding(subject="certificates", ok=True, detail="the usual ones")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError):
        fix = "set ENVBUILDER_CA_FILE to a file with certificates between `-----BEGIN CERTIFICATE-----` and its end"
        return Finding(subject="certificates", ok=False, detail=f"{file} holds none that can be read", fix=fix)
    number = context.cert_store_stats()["x509_ca"]
    return Finding(subject="certificates", ok=True, detail=f"{file} ({number} authorities)")


def _failed(subject: str, cause: EnvBuilderError, where: str = "") -> Finding:
    problem = cause.problems[0]
    detail = problem.what.splitlines()[0]
    return Finding(
        subject=subject, ok=False, detail=f"{where}: {detail}" if where else detail, fix=problem.fix or "see above"
    )
