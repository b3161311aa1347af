"""How a registry lets requests in: its challenge, and the header or the request for a token that answers it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import parse_http_list, parse_keqv_list

from requests.auth import AuthBase, HTTPBasicAuth

from envbuilder.registry.credentials import TOKEN_USER

if TYPE_CHECKING:
    from collections.abc import Iterable

    import requests


class Authorization(AuthBase):
    """Sets the header; being an `auth`, it also keeps requests from taking a password out of ~/.netrc."""

    def __init__(self, value: str = "") -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Let the request in."""
        if self.value:
            request.headers["Authorization"] = self.value
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a registry asks for in `WWW-Authenticate`."""

    is_basic: bool = False
    realm: str | None = None
    """Where tokens are given out; None where none are wanted."""

    service: str = ""

    @classmethod
    def parse(cls, header: str) -> Challenge:
        """Read the header; a scheme that nobody knows asks for nothing."""
        scheme, _, rest = header.partition(" ")
        if scheme.lower() != "bearer":
            return cls(is_basic=scheme.lower() == "basic")
        asked = parse_keqv_list(parse_http_list(rest))
        return cls(realm=str(asked.get("realm")), service=str(asked.get("service") or ""))

    def basic(self, user: str, password: str) -> Authorization:
        """Return the answer with user and password, or an empty one where that is not asked for."""
        if not (self.is_basic and user):
            return Authorization()
        return Authorization("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())

    def token_request(self, scopes: Iterable[str], user: str, password: str) -> tuple[str, dict[str, Any]]:
        """Return method and options of the request for a token."""
        query = [("service", self.service)] if self.service else []
        if user == TOKEN_USER:
            form = [
                *query,
                ("scope", " ".join(scopes)),
                ("grant_type", "refresh_token"),
                ("client_id", "envbuilder"),
                ("refresh_token", password),
            ]
            return "POST", {"data": form, "auth": Authorization()}
        login = HTTPBasicAuth(user.encode(), password.encode()) if user else Authorization()
        return "GET", {"params": [*query, *(("scope", one) for one in scopes)], "auth": login}
