from __future__ import annotations

import pytest

from envbuilder import proxy

ONE, OTHER = "http://one.example:3128", "http://other.example:3128"


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://index.example/simple", {}, None),
        ("https://index.example/simple", {"HTTP_PROXY": ONE}, None),
        ("https://index.example/simple", {"HTTPS_PROXY": ONE, "HTTP_PROXY": OTHER}, ONE),
        ("http://index.example/simple", {"HTTPS_PROXY": ONE, "HTTP_PROXY": OTHER}, OTHER),
        ("https://index.example/simple", {"https_proxy": ONE, "HTTPS_PROXY": OTHER}, ONE),
        ("https://index.example/simple", {"ALL_PROXY": ONE}, ONE),
        ("https://index.example/simple", {"HTTPS_PROXY": "one.example:3128"}, ONE),
        ("https://index.example/simple", {"HTTPS_PROXY": "", "ALL_PROXY": OTHER}, OTHER),
    ],
)
def test_the_nearest_variable_names_the_proxy(url: str, environ: dict[str, str], expected: str | None) -> None:
    assert proxy.find(url, environ) == expected


@pytest.mark.parametrize(
    ("listed", "url", "direct"),
    [
        ("index.example", "https://index.example/simple", True),
        ("INDEX.example", "https://user:secret@index.example:8443/simple", True),
        ("example", "https://index.example/simple", True),
        (".example", "https://index.example/simple", True),
        ("dex.example", "https://index.example/simple", False),
        ("*", "https://index.example/simple", True),
        ("", "https://index.example/simple", False),
        ("other.example, index.example:8443", "https://index.example:8443/simple", True),
        ("index.example:8443", "https://index.example/simple", False),
        ("10.0.0.0/8", "https://10.1.2.3/simple", True),
        ("10.0.0.0/8", "https://11.1.2.3/simple", False),
        ("10.0.0.0/8", "https://index.example/simple", False),
        ("fd00::/8", "https://[fd00::1]/simple", True),
        ("x/y", "https://10.1.2.3/simple", False),
    ],
)
def test_what_is_listed_is_reached_directly(listed: str, url: str, direct: bool) -> None:  # noqa: FBT001
    assert proxy.find(url, {"HTTPS_PROXY": ONE, "NO_PROXY": listed}) == (None if direct else ONE)
    assert proxy.find(url, {"HTTPS_PROXY": ONE, "NO_PROXY": "*", "no_proxy": listed or "x"}) == (
        None if direct else ONE
    )


def test_one_proxy_is_told_to_programs_in_every_spelling() -> None:
    assert set(proxy.variables(ONE)) == {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"}
    assert set(proxy.variables(ONE).values()) == {ONE}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://index.example/simple", "proxy.example:3128"),
        ("http://index.example/simple", None),
        ("https://inside.example/simple", None),
        ("https://team.inside.example/simple", None),
        ("https://outinside.example/simple", "proxy.example:3128"),
        ("https://[/simple", None),
        ("", None),
    ],
)
def test_a_request_goes_through_the_proxy_of_its_scheme(url: str, expected: str | None) -> None:
    environ = {"HTTPS_PROXY": "http://u:canary@proxy.example:3128", "NO_PROXY": "localhost, .inside.example,"}
    assert proxy.host(url, environ) == expected
