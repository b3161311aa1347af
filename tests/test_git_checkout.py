from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import git_checkout, process
from envbuilder.errors import (
    EngineMissingError,
    EnvBuilderError,
    InvalidFileError,
    LockImpossibleError,
    Source,
    UnreachableError,
)
from envbuilder.git_repository import GitRepository
from envbuilder.machine import Machine
from envbuilder.secret import Secret
from envbuilder.settings import Settings
from tests.git_server import GitServer, Work, new_repository, running_git
from tests.package_index import LOGIN, certificate_for_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RecordingReporter

pytestmark = pytest.mark.process
SOURCE = Source(file="requirements.txt", key="[0]")


@pytest.fixture
def machine(tmp_path: Path, reporter: RecordingReporter) -> Machine:
    environ = (("PATH", os.environ["PATH"]), ("HOME", str(tmp_path)))
    return Machine(settings=Settings(cache_dir=tmp_path / "cache", environ=environ), reporter=reporter)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A repository with two tags, a branch beside `main`, and commits after the last tag."""
    made = new_repository(tmp_path / "served" / "thing")
    made.commit({"a.txt": "one"}, tag="v1.0")
    made.commit({"b/deep.txt": "two", ".gitattributes": "b export-ignore\n"}, tag="v1.1", note="a note")
    made.git("checkout", "--quiet", "-b", "side")
    made.commit({"side.txt": "side"}, tag="v9.0")
    made.git("checkout", "--quiet", "main")
    made.commit({"c.txt": "three"})
    made.commit({"c.txt": "four"})
    return made


@pytest.fixture
def server(work: Work) -> Iterator[GitServer]:
    with running_git(work.folder.parent) as running:
        yield running


def repository(server: GitServer, ref: str = "", fragment: str = "", login: str = "") -> GitRepository:
    url = f"git+{server.url}/thing/.git{f'@{ref}' if ref else ''}{fragment}"
    raw = url.replace("://", f"://{login}@") if login else url
    return GitRepository.parse(url, secret=Secret(shown=url, value=raw) if login else None, source=SOURCE)


def opened(asked: GitRepository, machine: Machine) -> tuple[str, dict[str, str], str]:
    """Return the commit, the files of its tree, and the tree's digest."""
    commit = git_checkout.resolve(asked, machine=machine)
    with git_checkout.open_tree(asked, commit=commit, machine=machine) as tree:
        found = {
            path.relative_to(tree.directory).as_posix(): path.read_text()
            for path in sorted(tree.directory.rglob("*"))
            if path.is_file()
        }
        return commit, found, tree.digest


def test_no_ref_is_what_the_server_offers_first(server: GitServer, work: Work, machine: Machine) -> None:
    commit, files, _ = opened(repository(server), machine)
    assert commit == work.git("rev-parse", "main")
    assert files == {
        ".gitattributes": "b export-ignore\n",
        ".git_archival.txt": f"node: {commit}\nnode-date: 2024-01-02T03:04:05+00:00\n"
        f"describe-name: v1.1-2-g{commit[:7]}\n",
        "a.txt": "one",
        "b/deep.txt": "two",
        "c.txt": "four",
    }


@pytest.mark.parametrize(
    ("ref", "meant"),
    [("side", "side"), ("v1.0", "v1.0"), ("v1.1", "v1.1^{commit}"), ("refs/heads/side", "side")],
    ids=["branch", "tag", "tag with a note", "whole ref"],
)
def test_a_ref_becomes_its_commit(ref: str, meant: str, server: GitServer, work: Work, machine: Machine) -> None:
    commit, files, _ = opened(repository(server, ref), machine)
    assert commit == work.git("rev-parse", meant)
    assert ("side.txt" in files) == (meant == "side")


def test_a_branch_wins_over_a_tag_of_its_name(server: GitServer, work: Work, machine: Machine) -> None:
    work.git("tag", "side", "v1.0")
    assert git_checkout.resolve(repository(server, "side"), machine=machine) == work.git("rev-parse", "refs/heads/side")


@pytest.mark.parametrize("digits", [40, 39, 7], ids=["whole", "almost whole", "short"])
def test_a_commit_in_the_middle_of_the_history_is_found(
    digits: int, server: GitServer, work: Work, machine: Machine
) -> None:
    wanted = work.git("rev-parse", "main~1")
    commit, files, _ = opened(repository(server, wanted[:digits]), machine)
    assert commit == wanted
    assert files["c.txt"] == "three"
    assert f"describe-name: v1.1-1-g{commit[:7]}" in files[".git_archival.txt"]


@pytest.mark.parametrize("partial", [True, False], ids=["partial clones", "whole clones only"])
def test_only_the_files_of_the_commit_are_fetched_where_the_server_can(
    partial: bool,  # noqa: FBT001
    server: GitServer,
    work: Work,
    machine: Machine,
) -> None:
    work.git("config", "uploadpack.allowFilter", str(partial).lower())
    _, files, digest = opened(repository(server, "main"), machine)
    assert "describe-name: v1.1-2-g" in files[".git_archival.txt"]
    work.git("config", "uploadpack.allowFilter", str(not partial).lower())
    elsewhere = replace(machine, settings=replace(machine.settings, cache_dir=machine.settings.cache_dir / "other"))
    assert opened(repository(server, "main"), elsewhere)[2] == digest


def test_a_server_that_offers_files_only_is_enough(server: GitServer, work: Work, machine: Machine) -> None:
    smart = opened(repository(server, "main"), machine)
    work.git("update-server-info")
    server.dumb = True
    elsewhere = replace(machine, settings=replace(machine.settings, cache_dir=machine.settings.cache_dir / "other"))
    assert opened(repository(server, "main"), elsewhere) == smart


def test_a_history_without_tags_has_no_description(server: GitServer, tmp_path: Path, machine: Machine) -> None:
    shutil.rmtree(tmp_path / "served" / "thing")
    commit = new_repository(tmp_path / "served" / "thing").commit({"a": "1"})
    _, files, _ = opened(repository(server), machine)
    assert files[".git_archival.txt"] == f"node: {commit}\nnode-date: 2024-01-02T03:04:05+00:00\n"


@pytest.mark.parametrize("fills", [True, False], ids=["filled in by git", "left as it was"])
def test_the_commits_own_archival_file_is_kept_when_git_fills_it(
    fills: bool,  # noqa: FBT001
    server: GitServer,
    work: Work,
    machine: Machine,
) -> None:
    attributes = ".git_archival.txt export-subst\n" if fills else ""
    commit = work.commit({".git_archival.txt": "node: $Format:%H$\nown: yes\n", ".gitattributes": attributes})
    _, files, _ = opened(repository(server), machine)
    assert files[".git_archival.txt"].startswith(f"node: {commit}\n")
    assert ("own: yes" in files[".git_archival.txt"]) == fills


def test_a_commit_is_fetched_once(server: GitServer, machine: Machine) -> None:
    first = opened(repository(server), machine)
    server.asked.clear()
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    assert opened(repository(server, first[0]), offline) == first
    assert server.asked == []


def test_offline_only_the_cache_counts(server: GitServer, machine: Machine) -> None:
    offline = replace(machine, settings=replace(machine.settings, offline=True))
    with pytest.raises(UnreachableError, match="`--offline` forbids to ask the repository"):
        opened(repository(server), offline)
    assert server.asked == []


def test_a_subdirectory_is_the_project(server: GitServer, machine: Machine) -> None:
    asked = repository(server, "main", "#subdirectory=b")
    commit = git_checkout.resolve(asked, machine=machine)
    with git_checkout.open_tree(asked, commit=commit, machine=machine) as tree:
        assert [path.name for path in tree.project.iterdir()] == ["deep.txt"]
        assert (tree.directory / "a.txt").exists()
    with (
        pytest.raises(InvalidFileError, match="the source has no directory `absent`"),
        git_checkout.open_tree(replace(asked, subdirectory="absent"), commit=commit, machine=machine),
    ):
        pass


def test_submodules_are_refused_by_name(server: GitServer, work: Work, machine: Machine) -> None:
    work.git("update-index", "--add", "--cacheinfo", f"160000,{work.git('rev-parse', 'HEAD')},vendored/part")
    work.git("commit", "--quiet", "-m", "submodule")
    with pytest.raises(LockImpossibleError, match=r"has submodules \(`vendored/part`\)"):
        opened(repository(server), machine)


def test_nothing_is_left_of_a_fetch_that_failed(server: GitServer, machine: Machine) -> None:
    with pytest.raises(LockImpossibleError):
        opened(repository(server, "f" * 40), machine)
    assert [path for path in machine.sources.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("ref", ["absent", "1234567", "f" * 40], ids=["name", "short commit", "commit"])
def test_a_ref_that_is_not_there_is_told(ref: str, server: GitServer, machine: Machine) -> None:
    with pytest.raises(LockImpossibleError, match=r"has no (branch, tag or )?commit") as raised:
        opened(repository(server, ref), machine)
    assert f"at git+{server.url}/thing/.git@{ref}" in str(raised.value)


def test_a_repository_that_is_not_there_is_told(server: GitServer, machine: Machine) -> None:
    with pytest.raises(LockImpossibleError, match="the repository cannot be fetched") as raised:
        opened(replace(repository(server), url=f"{server.url}/absent.git"), machine)
    assert "check its URL" in str(raised.value)


def failed(asked: GitRepository, machine: Machine) -> EnvBuilderError:
    with pytest.raises(EnvBuilderError) as raised:
        opened(asked, machine)
    assert LOGIN[1] not in str(raised.value)
    return raised.value


def test_a_login_is_given_over_tls_and_shown_nowhere(
    work: Work, machine: Machine, reporter: RecordingReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, *certificate = certificate_for_loopback(tmp_path)
    trusting = replace(machine, settings=replace(machine.settings, ca_file=ca))
    started: list[tuple[str, ...]] = []
    run = process.run

    def noted(command: tuple[str, ...], **options: Any) -> process.Finished:  # noqa: ANN401 - passed through
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(process, "run", noted)
    with running_git(work.folder.parent, login=LOGIN, certificate=(certificate[0], certificate[1])) as server:
        asked = repository(server, "main", login=":".join(LOGIN))
        _, files, _ = opened(asked, trusting)
        assert files["a.txt"] == "one"
        assert "not trusted" in str(failed(asked, replace(trusting, settings=machine.settings)))
        for login in ("", "reader:wrong"):
            error = failed(repository(server, "main", login=login), trusting)
            assert isinstance(error, UnreachableError)
            assert "server refused" in str(error)
    assert started
    assert not [word for command in started for word in command if LOGIN[1] in word]
    assert not [line for _, line in reporter.lines if LOGIN[1] in line]
    cached = [path for path in machine.sources.rglob("*") if path.is_file()]
    assert not [path for path in cached if LOGIN[1].encode() in path.read_bytes()]


@pytest.mark.parametrize("place", ["~/.netrc", "NETRC"])
def test_a_login_comes_from_netrc(place: str, work: Work, machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / (".netrc" if place == "~/.netrc" else "logins")
    file.write_text(f"machine 127.0.0.1 login {LOGIN[0]} password {LOGIN[1]}\n")
    file.chmod(0o600)
    if place == "NETRC":
        environ = (*machine.settings.environ, ("NETRC", str(file)))
        machine = replace(machine, settings=replace(machine.settings, environ=environ))
    with running_git(work.folder.parent, login=LOGIN) as server:
        assert opened(repository(server), machine)[1]["a.txt"] == "one"


def test_a_login_does_not_follow_to_another_server(work: Work, machine: Machine) -> None:
    with running_git(work.folder.parent, login=LOGIN) as other, running_git(work.folder.parent) as server:
        server.redirect = other.url
        failed(repository(server, login=":".join(LOGIN)), machine)
        assert other.asked
        assert other.logins == []


def test_a_server_that_is_gone_is_told(work: Work, machine: Machine) -> None:
    with running_git(work.folder.parent) as server:
        pass
    error = failed(repository(server), machine)
    assert isinstance(error, UnreachableError)
    assert "did not answer" in str(error)


def test_a_machine_without_git_is_told(server: GitServer, machine: Machine, tmp_path: Path) -> None:
    without = replace(machine, settings=replace(machine.settings, environ=(("PATH", str(tmp_path)),)))
    with pytest.raises(EngineMissingError, match="the program `git` is missing") as raised:
        opened(repository(server), without)
    assert "apt-get install git" in str(raised.value)


def test_the_users_configuration_and_hooks_do_not_count(server: GitServer, machine: Machine, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n[url "https://elsewhere.example"]\n\tinsteadOf = {server.url}\n'
    )
    assert opened(repository(server), machine)[1]["a.txt"] == "one"
    assert not marker.exists()


def test_ssh_is_started_without_prompts(work: Work, machine: Machine, tmp_path: Path) -> None:
    """Stands in for ssh at its border: the program on the PATH, which runs the server's half here."""
    programs = tmp_path / "programs"
    programs.mkdir()
    heard = tmp_path / "heard"
    (programs / "ssh").write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        f"open({str(heard)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
        "sys.exit(subprocess.call(['sh', '-c', sys.argv[-1]]))\n"
    )
    (programs / "ssh").chmod(0o755)
    environ = (("PATH", f"{programs}:{os.environ['PATH']}"), ("HOME", str(tmp_path)))
    machine = replace(machine, settings=replace(machine.settings, environ=environ))
    url = f"git+ssh://git@git.example{work.folder}/.git@v1.0"
    commit, files, _ = opened(GitRepository.parse(url, source=SOURCE), machine)
    assert commit == work.git("rev-parse", "v1.0")
    assert files["a.txt"] == "one"
    assert "'BatchMode=yes'" in heard.read_text()
    assert "'git@git.example'" in heard.read_text()
    assert Path(heard).read_text().count("\n") >= 3


def test_what_is_not_a_whole_commit_is_not_opened(server: GitServer, machine: Machine) -> None:
    with (
        pytest.raises(LockImpossibleError, match="`main` is not a whole commit"),
        git_checkout.open_tree(repository(server), commit="main", machine=machine),
    ):
        pass
