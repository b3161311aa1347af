"""The page at `/docs`, read and used in a real browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import webdriver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.served import Served
    from tests.webdriver import Browser

pytestmark = [pytest.mark.process, pytest.mark.network]

browser = webdriver.browser


def test_the_page_shows_the_contract_and_sends_a_prediction(
    serve: Callable[..., Served], models: Path, browser: Browser, tmp_path: Path
) -> None:
    example = models / "iris" / "serving_input_example.json"
    served = serve("iris", ENVBUILDER_EXAMPLE=str(example), SERVICE_NAME="Irises")
    browser.open(f"http://127.0.0.1:{served.port}/docs")
    browser.wait("return document.querySelector('#body').value.length > 0")
    assert browser.text("h1") == "Irises"
    cells = "[...row.cells].map(one => one.textContent)"
    rows = browser.run(f"return [...document.querySelectorAll('#inputs tr')].map(row => {cells})")
    assert rows[0] == ["Name", "Type", "Required"]
    assert ["sepal length (cm)", "number (double)", "yes"] in rows
    assert browser.run("return document.querySelector('#params-section').hidden")
    assert json.loads(browser.run("return document.querySelector('#body').value")) == json.loads(example.read_text())

    browser.click("#send")
    browser.wait("return !document.querySelector('#answer').hidden")
    assert json.loads(browser.text("#answer")) == {"predictions": [0, 0, 0]}
    assert browser.text("#status").startswith("200 in ")
    picture = browser.picture()
    assert picture.startswith(b"\x89PNG")
    (tmp_path / "page.png").write_bytes(picture)

    browser.run("document.querySelector('#body').value = '{\"inputs\": 1}'")
    browser.click("#send")
    browser.wait("return document.querySelector('#status').textContent.startsWith('400')")
    assert "error_code" in browser.text("#answer")
    # Nothing of the page comes from elsewhere.
    loaded = browser.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert all(name.startswith(f"http://127.0.0.1:{served.port}/") for name in loaded)
