from __future__ import annotations

import pytest

from envbuilder.errors import InvalidFileError, Source
from envbuilder.git_repository import GitRepository
from envbuilder.secret import Secret

SOURCE = Source(file="requirements.txt", key="[0]")
COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("url", "address", "ref", "subdirectory", "host"),
    [
        ("git+https://h.example/a/b.git", "https://h.example/a/b.git", None, "", "https://h.example"),
        ("git+https://H.example/a@v1", "https://h.example/a", "v1", "", "https://h.example"),
        ("git+https://h.example/a@x/y#subdirectory=p/q", "https://h.example/a", "x/y", "p/q", "https://h.example"),
        ("git+https://h.example/a@b@c", "https://h.example/a@b", "c", "", "https://h.example"),
        ("git+https://h.example/a@v%2B1", "https://h.example/a", "v+1", "", "https://h.example"),
        ("git+http://127.0.0.1:80/a#egg=x&subdirectory=s", "http://127.0.0.1:80/a", None, "s", "http://127.0.0.1:80"),
        ("git+ssh://git@h.example/a.git@v1", "ssh://git@h.example/a.git", "v1", "", "ssh://h.example"),
        ("git+ssh://h.example/~me/a", "ssh://h.example/~me/a", None, "", "ssh://h.example"),
    ],
)
def test_a_repository_is_read(url: str, address: str, ref: str | None, subdirectory: str, host: str) -> None:
    found = GitRepository.parse(url, source=SOURCE)
    assert found == GitRepository(url=address, ref=ref, subdirectory=subdirectory, host=host, source=SOURCE)
    assert found.shown == f"git+{address}" + (f"@{ref}" if ref else "")


def test_a_login_is_kept_apart() -> None:
    url = "git+https://h.example/a@v1"
    secret = Secret(shown=url, value="git+https://me:p%40ss@h.example/a@v1")
    found = GitRepository.parse(url, secret=secret, source=SOURCE)
    assert found.login == ("me", "p@ss")
    assert "p@ss" not in f"{found!r} {found.url} {found.shown}"
    assert "me" not in found.url


def test_the_user_git_is_no_login_over_https() -> None:
    found = GitRepository.parse("git+https://git@h.example:8443/a@v1", source=SOURCE)
    assert (found.url, found.login) == ("https://h.example:8443/a", None)


def test_the_user_of_ssh_is_no_secret_and_its_password_is_not_used() -> None:
    secret = Secret(shown="git+ssh://h.example/a", value="git+ssh://me:pass@h.example/a")
    found = GitRepository.parse("git+ssh://h.example/a", secret=secret, source=SOURCE)
    assert found.url == "ssh://me@h.example/a"
    assert found.login is None


def test_only_a_whole_commit_is_a_commit() -> None:
    for ref, commit in ((COMMIT, COMMIT), (COMMIT[:39], None), ("main", None)):
        assert GitRepository.parse(f"git+https://h.example/a@{ref}", source=SOURCE).commit == commit
    assert GitRepository.parse("git+https://h.example/a", source=SOURCE).commit is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hg+https://h.example/a", "`hg+https://h.example/a` is not a Git repository"),
        ("https://h.example/a.git", "is not a Git repository"),
        ("git+file:///srv/a", "not fetched by `file:`"),
        ("git+git://h.example/a", "not fetched by `git:`"),
        ("git+ext::sh -c x", "not fetched by `ext:`"),
        ("git+https://h.example", "does not name a Git repository"),
        ("git+https://h.example/", "does not name a Git repository"),
        ("git+https://[::x]/a", "does not name a Git repository"),
        ("git+https:///a", "does not name a Git repository"),
        ("git+https://-oProxyCommand=x/a", "does not name a Git repository"),
        ("git+ssh://-oProxyCommand=x/a", "does not name a Git repository"),
        ("git+https://h.example/a@--upload-pack=x", "does not name a Git repository"),
        ("git+https://h.example/a@-b", "does not name a Git repository"),
        ("git+https://h.example/a@a..b", "does not name a Git repository"),
        ("git+https://h.example/a@a@{1}", "does not name a Git repository"),
        ("git+https://h.example/a@", "does not name a Git repository"),
        ("git+https://h.example/a b", "does not name a Git repository"),
        ("git+https://h.example/a@x:y", "does not name a Git repository"),
        ("git+ssh://-l@h.example/a", "has no user that ssh knows"),
    ],
)
def test_what_git_could_misunderstand_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidFileError) as raised:
        GitRepository.parse(url, source=SOURCE)
    (problem,) = raised.value.problems
    assert said in problem.what
    assert problem.where == SOURCE


def test_passwords_are_not_in_the_error() -> None:
    with pytest.raises(InvalidFileError) as raised:
        GitRepository.parse("git+file://me:pass@h.example/a", source=SOURCE)
    assert "pass" not in str(raised.value)
