"""HTTP with the machine's certificates, proxies and retries, and downloads that are checked before they get a name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from envbuilder import digest, disk, proxy
from envbuilder.errors import LockMismatchError, Source, UnreachableError
from envbuilder.secret import visible
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from envbuilder.digest import Digest
    from envbuilder.settings import Settings

_CHUNK: Final = 1 << 18
_TIMEOUT: Final = (10, 60)
"""Seconds to connect, and between two reads."""

_RETRIES: Final = 3


class _Adapter(HTTPAdapter):
    """Sends each request, a redirected one too, through the proxy that the settings' variables name for its URL."""

    def __init__(self, environ: Mapping[str, str], *, max_retries: Retry) -> None:
        self._environ = environ
        super().__init__(max_retries=max_retries, pool_maxsize=16)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - passed on
        through = proxy.find(request.url or "", self._environ)
        options["proxies"] = {} if through is None else {urlsplit(request.url or "").scheme: through}
        return super().send(request, *arguments, **options)


def session(
    settings: Settings, *, auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None = None
) -> requests.Session:
    """Return a session that trusts the settings' CA, and retries what can succeed later (5xx, 429, broken connects).

    `auth` lets its requests in; without, .netrc does.
    """
    opened = requests.Session()
    retry = Retry(
        total=_RETRIES,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET", "HEAD"),
        raise_on_status=False,
        # A server may ask for hours.
        respect_retry_after_header=False,
    )
    adapter = _Adapter(dict(settings.environ), max_retries=retry)
    opened.auth = auth
    opened.mount("https://", adapter)
    opened.mount("http://", adapter)
    if settings.ca_file is not None:
        opened.verify = str(settings.ca_file)
    return opened


def get(opened: requests.Session, url: str, *, settings: Settings) -> requests.Response:
    """GET `url` as a stream; raises UnreachableError when it cannot be had (offline, no answer, an error status)."""
    shown = visible(without_credentials(url))
    if settings.offline:
        raise UnreachableError(
            "not in the caches, and `--offline` forbids to download it",
            where=Source(file=shown),
            fix="run once without `--offline`, or bring the cache of a machine that has it",
        )
    try:
        # Named here again: requests lets REQUESTS_CA_BUNDLE win over the session's own.
        response = opened.get(url, stream=True, timeout=_TIMEOUT, verify=opened.verify)
    except requests.exceptions.SSLError as cause:
        raise UnreachableError(
            "the server's certificate is not trusted",
            where=Source(file=shown),
            fix="name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
        ) from cause
    except requests.exceptions.RequestException as cause:
        raise UnreachableError(
            f"no answer ({_short(cause)})",
            where=Source(file=shown),
            fix="check the network, the proxy settings and the URL, then try again",
        ) from cause
    if response.status_code >= requests.codes.bad_request:
        status = f"{response.status_code} {response.reason}"
        response.close()
        raise UnreachableError(
            f"the server answered {status}",
            where=Source(file=shown),
            fix="check the URL and the credentials; a 5xx may pass when tried again",
        )
    return response


def download(
    opened: requests.Session,
    url: str,
    target: Path,
    *,
    expected: Digest,
    settings: Settings,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write what `url` serves to `target`, which exists afterwards only with the expected digest.

    Raises LockMismatchError when the content is another one, UnreachableError when it cannot be had or is cut off.
    """
    with get(opened, url, settings=settings) as response, disk.replaced_file(target) as stream:
        state = hashlib.sha256()
        try:
            for chunk in response.iter_content(_CHUNK):
                state.update(chunk)
                stream.write(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
        except requests.exceptions.RequestException as cause:
            raise UnreachableError(
                f"the download broke off ({_short(cause)})",
                where=Source(file=visible(without_credentials(url))),
                fix="try again: what is complete stays in the cache",
            ) from cause
        found = digest.of_hex(state.hexdigest())
        if found != expected:
            raise LockMismatchError(
                f"the download has {found}, expected {expected}",
                where=Source(file=visible(without_credentials(url))),
                fix="lock again if the file was replaced on purpose; else ask who runs that server",
            )


def _short(cause: BaseException) -> str:
    return type(cause).__name__
