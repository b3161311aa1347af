"""One repository of a container registry over HTTP: its address, the login it turns out to need, what its answers mean.

An answer that may be another one later raises UnreachableError with `retry_after`; nothing here tries again by itself.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from envbuilder import network
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.image_reference import DOCKER_HUB
from envbuilder.oci_image import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, LARGEST_DOCUMENT, MANIFEST
from envbuilder.registry import credentials
from envbuilder.registry.login import Authorization, Challenge
from envbuilder.registry.loopback import is_loopback, speaks_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.errors import EnvBuilderError
    from envbuilder.image_reference import ImageReference
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

MANIFESTS: Final = (INDEX, DOCKER_INDEX, MANIFEST, DOCKER_MANIFEST)
CHUNK: Final = 1 << 18

_HUB_HOST: Final = "registry-1.docker.io"
_TIMEOUT: Final = (10, 60)
_SOON: Final = 0.5
"""Seconds after which to try again where the registry names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a repository is wanted for: the rights to ask for, and what errors say."""

    actions: str
    refused: type[EnvBuilderError]
    """What is raised where trying again does not help."""

    instead: str = ""
    """Another way than the one each fix names."""

    def fix(self, text: str) -> str:
        """Return the fix with the other way."""
        return f"{text}, {self.instead}" if self.instead else text


class Repository:
    """A repository of a registry. Threads may share it."""

    def __init__(
        self,
        reference: ImageReference,
        purpose: Purpose,
        *,
        settings: Settings,
        reporter: Reporter,
        others: Iterable[str] = (),
    ) -> None:
        """`others` are repositories of the same registry that blobs are to be taken from."""
        self.reference = reference
        self.purpose = purpose
        self.where = Source(file=str(reference))
        self.host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        self.settings = settings
        self.reporter = reporter
        scheme = "http" if is_loopback(self.host) and not speaks_tls(self.host) else "https"
        self.url = f"{scheme}://{self.host}/v2/{reference.repository}"
        self.session = network.session(settings)
        self.scopes = [f"repository:{reference.repository}:{purpose.actions}"]
        self.scopes += [f"repository:{name}:pull" for name in others]
        self.authorization = Authorization()
        self._login_lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        is_optional: bool = False,
    ) -> requests.Response:
        """Send a request for `path`, which is below the repository or a URL that the registry named.

        Logs in when the registry asks for it, and raises for every error status, but for 404 when `is_optional`.
        """
        url = urljoin(f"{self.url}/", path)
        self._check_encrypted(url, "the upload")
        used = self.authorization
        response = self._send_to(method, url, used, headers, body)
        if response.status_code == requests.codes.unauthorized and self._is_own(url):
            with response, self._login_lock:
                # Another thread may have renewed the token meanwhile.
                if self.authorization is used:
                    self.authorization = self._logged_in(response.headers.get("WWW-Authenticate", ""))
            response = self._send_to(method, url, self.authorization, headers, body)
        if response.status_code < requests.codes.multiple_choices:
            return response
        if is_optional and response.status_code == requests.codes.not_found:
            return response
        with response:
            raise self._error(response)

    def document(
        self, path: str, *, headers: dict[str, str] | None = None, is_optional: bool = False
    ) -> tuple[bytes, requests.Response]:
        """GET a manifest, an index or a config, which is small."""
        with self.request("GET", path, headers=headers, is_optional=is_optional) as response:
            return self._content(response), response

    def cut(self, what: str, cause: BaseException | None = None) -> UnreachableError:
        """Return the error for an exchange that ended before its end."""
        name = f" ({type(cause).__name__})" if cause is not None else ""
        return self._unreachable(f"{what}{name}", retry_after=_SOON)

    def _send_to(
        self,
        method: str,
        url: str,
        authorization: Authorization,
        headers: dict[str, str] | None,
        body: Callable[[], Any] | None,
    ) -> requests.Response:
        # The login is for the registry alone, not for the storage that it may send us to.
        auth = authorization if self._is_own(url) else Authorization()
        data = body() if body is not None else None
        return self._send(method, url, auth=auth, headers=headers or {}, data=data, allow_redirects=body is None)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        options["headers"] = {"Accept-Encoding": "identity", **options.get("headers", {})}
        if is_loopback(urlsplit(url).netloc):
            options["proxies"] = {"http": "", "https": ""}
        try:
            # `verify` is said again: REQUESTS_CA_BUNDLE would win over the session's own.
            return self.session.request(
                method, url, stream=True, timeout=_TIMEOUT, verify=self.session.verify, **options
            )
        except requests.exceptions.SSLError as cause:
            raise self._unreachable(
                f"the certificate of `{urlsplit(url).netloc}` is not trusted",
                fix="name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
            ) from cause
        except requests.exceptions.RequestException as cause:
            raise self.cut(f"no answer from `{urlsplit(url).netloc}`", cause) from cause

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.url)[:2]

    def _check_encrypted(self, url: str, what: str) -> None:
        server = urlsplit(url).netloc.rpartition("@")[2]
        if urlsplit(url).scheme != "https" and not is_loopback(server):
            raise self.purpose.refused(
                f"the registry `{self.host}` wants {what} sent unencrypted to `{server}`",
                where=self.where,
                fix=self.purpose.fix("ask who runs that registry"),
            )

    def _content(self, response: requests.Response) -> bytes:
        data = b""
        try:
            for chunk in response.iter_content(CHUNK):
                data += chunk
                if len(data) > LARGEST_DOCUMENT:
                    raise self.purpose.refused(
                        "the manifest is larger than any real one",
                        where=self.where,
                        fix=self.purpose.fix("check the name"),
                    )
        except requests.exceptions.RequestException as cause:
            raise self.cut("the answer broke off", cause) from cause
        return data

    def _unreachable(self, what: str, *, fix: str = "", retry_after: float | None = None) -> UnreachableError:
        text = fix or "check the network and the proxy settings and try again"
        error = UnreachableError(what, where=self.where, fix=self.purpose.fix(text))
        error.retry_after = retry_after
        return error

    def _error(self, response: requests.Response) -> EnvBuilderError:
        status = f"{response.status_code} {response.reason}"
        log_in = f"log in with `docker login {self.reference.registry}`"
        match response.status_code:
            case requests.codes.unauthorized | requests.codes.forbidden:
                what = (
                    f"the registry `{self.host}` refuses access to `{self.reference}` ({status}): "
                    "it needs a login, or there is no such repository"
                )
                fix = log_in
            case requests.codes.not_found:
                what, fix = (
                    f"there is no `{self.reference}` in the registry `{self.host}`",
                    "check the name and the tag",
                )
            case requests.codes.too_many_requests:
                return self._unreachable(
                    f"the rate limit of `{self.host}` is reached",
                    fix=f"wait, or {log_in}",
                    retry_after=_retry_after(response),
                )
            case code if code >= requests.codes.internal_server_error:
                return self._unreachable(
                    f"the registry `{self.host}` answered {status}", retry_after=_retry_after(response)
                )
            case _:
                what = f"the registry `{self.host}` answered {status}{self._reason(response)}"
                fix = "check that it is a container registry"
        error = self.purpose.refused(what, where=self.where, fix=self.purpose.fix(fix))
        if isinstance(error, BaseImageError):
            error.is_absent = response.status_code == requests.codes.not_found
        return error

    def _reason(self, response: requests.Response) -> str:
        """Return the codes of the specification's error object, which are for people; its free text may be anything."""
        try:
            codes = [str(one["code"]) for one in json.loads(self._content(response))["errors"]]
        except (ValueError, KeyError, TypeError, UnreachableError):
            return ""
        known = [code for code in codes if code.isascii() and code.replace("_", "").isalpha()]
        return f" ({', '.join(known)})" if known else ""

    def _logged_in(self, challenge: str) -> Authorization:
        asked = Challenge.parse(challenge)
        user, password = credentials.find(self.reference.registry, self.settings, self.reporter)
        if asked.realm is None:
            return asked.basic(user, password)
        self._check_encrypted(asked.realm, "the login")
        server = urlsplit(asked.realm).netloc.rpartition("@")[2]
        method, options = asked.token_request(self.scopes, user, password)
        response = self._send(method, asked.realm, **options)
        with response:
            if response.status_code >= requests.codes.bad_request:
                raise self._error(response)
            try:
                answer = json.loads(self._content(response))
                return Authorization(f"Bearer {answer.get('token') or answer['access_token']}")
            except (ValueError, KeyError, AttributeError) as cause:
                raise self._unreachable(f"`{server}` gave no token") from cause


def _retry_after(response: requests.Response) -> float:
    try:
        return float(Retry().parse_retry_after(response.headers["Retry-After"]))
    except (KeyError, InvalidHeader):
        return _SOON
