from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from envbuilder.registry import credentials
from envbuilder.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RecordingReporter


class Logins:
    """A folder with docker's configuration, and what is found in it."""

    def __init__(self, folder: Path, reporter: RecordingReporter) -> None:
        self.folder = folder
        self.reporter = reporter
        self.path = ""

    def write(self, **config: object) -> None:
        (self.folder / "config.json").write_text(json.dumps(config))

    def write_helper(self, name: str, script: str) -> None:
        program = self.folder / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        self.path = f"{self.folder}:/usr/bin:/bin"

    def find(self, registry: str) -> tuple[str, str]:
        environ = (("DOCKER_CONFIG", str(self.folder)), ("PATH", self.path))
        return credentials.find(registry, Settings(cache_dir=self.folder, environ=environ), self.reporter)


@pytest.fixture
def logins(tmp_path: Path, reporter: RecordingReporter) -> Logins:
    return Logins(tmp_path, reporter)


def test_without_a_docker_configuration_there_is_no_login(logins: Logins) -> None:
    assert logins.find("registry.example") == ("", "")
    assert logins.reporter.warnings == []


def test_the_configuration_of_the_home_is_read(tmp_path: Path, reporter: RecordingReporter) -> None:
    (tmp_path / ".docker").mkdir()
    entry = {"username": "user", "password": "secret"}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {"registry.example": entry}}))
    settings = Settings(cache_dir=tmp_path, environ=(("HOME", str(tmp_path)),))
    assert credentials.find("registry.example", settings, reporter) == ("user", "secret")


@pytest.mark.parametrize(
    "content",
    ['{"auths": {"secret', "[]", '{"auths": {"registry.example": {"auth": "secret"}}}'],
    ids=["no JSON", "a list", "no base64"],
)
def test_a_broken_docker_configuration_is_told_without_its_content(content: str, logins: Logins) -> None:
    (logins.folder / "config.json").write_text(content)
    assert logins.find("registry.example") == ("", "")
    assert "cannot be read" in logins.reporter.warnings[0]
    assert "secret" not in logins.reporter.warnings[0]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "user", "password": "a:b"}, ("user", "a:b")),
        ({"auth": base64.b64encode(b"user:a:b").decode()}, ("user", "a:b")),
        ({"identitytoken": "id", "auth": "dXNlcjo="}, (credentials.TOKEN_USER, "id")),
        ({}, ("", "")),
    ],
    ids=["plain", "base64", "identity token", "empty"],
)
def test_the_forms_of_a_login(entry: dict[str, str], expected: tuple[str, str], logins: Logins) -> None:
    logins.write(auths={"https://index.docker.io/v1/": entry, "registry.example": {}})
    assert logins.find("docker.io") == expected
    assert logins.find("registry.example") == ("", "")
    assert logins.reporter.warnings == []


@pytest.mark.parametrize("helper", ["../../bin/sh", "x y"])
def test_a_helper_with_a_strange_name_is_not_started(helper: str, logins: Logins) -> None:
    logins.write(credsStore=helper)
    assert logins.find("registry.example") == ("", "")
    assert "cannot be read" in logins.reporter.warnings[0]


@pytest.mark.process
@pytest.mark.parametrize(
    ("registry", "asked"),
    [("registry.example", "registry.example"), ("docker.io", "https://index.docker.io/v1/")],
)
def test_a_helper_is_asked_for_the_registry(registry: str, asked: str, logins: Logins) -> None:
    logins.write(credHelpers={registry: "tests"}, auths={registry: {"username": "other"}})
    answer = json.dumps({"ServerURL": asked, "Username": "user", "Secret": "secret"})
    logins.write_helper("tests", f"read server\n[ \"$1 $server\" = 'get {asked}' ] && echo '{answer}'")
    assert logins.find(registry) == ("user", "secret")


@pytest.mark.process
def test_a_helper_that_knows_nothing_leaves_the_file(logins: Logins) -> None:
    logins.write(credsStore="tests", auths={"registry.example": {"username": "user", "password": "secret"}})
    logins.write_helper("tests", "exit 1")
    assert logins.find("registry.example") == ("user", "secret")
    assert logins.reporter.warnings == []


@pytest.mark.process
def test_a_helper_that_is_not_here_is_told(logins: Logins) -> None:
    logins.write(credsStore="tests")
    assert logins.find("registry.example") == ("", "")
    assert "`docker-credential-tests`" in logins.reporter.warnings[0]
