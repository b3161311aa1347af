"""A page in a real browser that is clicked and typed into: Debian's Chromium behind its driver, over W3C WebDriver."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.alone import alone
from tests.asking import free_port
from tests.chromium import FLAGS
from tests.docker_engine import install

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


@dataclass(frozen=True, slots=True)
class Browser:
    """One window."""

    session: requests.Session
    url: str

    def _call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        answer = self.session.request(method, f"{self.url}{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - what the script returns
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def click(self, selector: str) -> None:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{found[_ELEMENT]}/click", {})

    def wait(self, script: str) -> None:
        """Wait until the script returns something true."""
        deadline = time.monotonic() + 30
        while not self.run(script):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)

    def picture(self) -> bytes:
        """Return the window as a PNG."""
        return base64.b64decode(self._call("GET", "/screenshot"))


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with alone(request.config, "chromium"):
        if shutil.which("chromedriver") is None or shutil.which("chromium") is None:
            install("chromedriver", "chromium", "chromium-driver")
    driver = shutil.which("chromedriver")
    assert driver is not None
    with tempfile.TemporaryDirectory() as home, _driving(driver, home) as opened:
        yield opened


@contextmanager
def _driving(driver: str, home: str) -> Iterator[Browser]:
    port = free_port()
    environ = {"PATH": os.environ["PATH"], "HOME": home}
    with (
        subprocess.Popen((driver, f"--port={port}"), env=environ, stdout=subprocess.DEVNULL) as process,
        requests.Session() as session,
    ):
        session.trust_env = False
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(session, url)
            options = {"args": [*FLAGS, f"--user-data-dir={home}/profile", "--window-size=1000,1300"]}
            asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            answer = session.post(f"{url}/session", json=asked, timeout=60)
            assert answer.ok, answer.text
            opened = Browser(session, f"{url}/session/{answer.json()['value']['sessionId']}")
            yield opened
            session.delete(opened.url, timeout=30)
        finally:
            process.terminate()


def _wait(session: requests.Session, url: str) -> None:
    for _ in range(200):
        try:
            if session.get(f"{url}/status", timeout=5).json()["value"]["ready"]:
                return
        except (requests.exceptions.RequestException, KeyError):
            time.sleep(0.05)
    pytest.fail("chromedriver does not start")
