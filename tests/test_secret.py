from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.secret import MAX_LENGTH, Secret, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:s3cret@h/x", "https://***@h/x"),
        ("https://s3cret@h/x", "https://***@h/x"),
        ("https://u:s3/cr#et@h/x", "https://***@h/x"),
        ("https://u:s3/cret", "https://***"),
        ("https://h:8080/x", "https://h:8080/x"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("git+ssh://git@github.com/o/r@v1", "git+ssh://git@github.com/o/r@v1"),
        ("https://h/x?sig=s3cret#egg=a", "https://h/x?***#egg=a"),
        ("six @ git+https://h/six@1.16.0", "six @ git+https://h/six@1.16.0"),
        ("six @ git+https://h.example:8443/six@1.16.0", "six @ git+https://h.example:8443/six@1.16.0"),
        ("git+https://[::1]:8443/six@feature/x", "git+https://[::1]:8443/six@feature/x"),
        ("git+https://u:s3cret@h:8443/six@1", "git+https://***@h:8443/six@1"),
        ("git+https://u:s3/cret@h:8443/six@1", "git+https://***@1"),
        ("https://u:80/s3cret@h", "https://***@h"),
        ("https://h/t/s3cret/chan", "https://h/t/***/chan"),
        (
            "-i https://a:s3cret@h --extra-index-url https://b:s3cret@h",
            "-i https://***@h --extra-index-url https://***@h",
        ),
        ("u:s3cret@h/simple", "***@h/simple"),
        ("conda.anaconda.org/t/s3cret/chan", "conda.anaconda.org/t/***/chan"),
        ("u:s3cret@h.example:80/t/s3cret/chan", "***@h.example:80/t/***/chan"),
        ("git+https://h/t/s3cret#egg=a", "git+https://h/t/***#egg=a"),
        ("./t/a.whl", "./t/a.whl"),
        ("/mnt/t/data", "/mnt/t/data"),
    ],
)
def test_credentials_are_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected


def test_a_secret_is_found_only_where_there_is_one() -> None:
    secret = Secret.find("https://u:s3cret@h/x")
    assert secret is not None
    assert (secret.shown, secret.value) == ("https://***@h/x", "https://u:s3cret@h/x")
    assert "s3cret" not in repr(secret)
    assert Secret.find("https://h/x") is None


def test_what_is_too_long_to_read_is_not_shown() -> None:
    assert set(redact("a" * (MAX_LENGTH + 1))) == {"*"}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_redacted_is_redacted_once(text: str) -> None:
    for one in (text, f"https://{text}", f"x {text}@h/t/{text}"):
        assert redact(redact(one)) == redact(one)
        assert len(redact(one).split()) == len(one.split())
