"""Requests that are made up from the server's own description find no error of the server's."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kept_environment import kept_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.served import Served

pytestmark = [pytest.mark.process, pytest.mark.network]

REQUIREMENTS = ("schemathesis>=4,<5",)


@pytest.mark.parametrize("model", ["iris", "echo"])
def test_made_up_requests_find_no_error_of_the_server(
    model: str, request: pytest.FixtureRequest, shared_server: Callable[[str], Served], tmp_path: Path
) -> None:
    served = shared_server(model)
    program = kept_python(request, "schemathesis-environment", REQUIREMENTS).with_name("schemathesis")
    for description in ("/openapi.json", "/swagger.json?version=3"):
        ended = subprocess.run(
            (
                str(program),
                "run",
                f"http://127.0.0.1:{served.port}{description}",
                "--checks=not_a_server_error",
                "--max-examples=40",
                "--seed=7",
                "--suppress-health-check=all",
                "--no-color",
            ),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
        (cases,) = re.findall(r"(\d+) generated, \d+ passed", ended.stdout)
        assert int(cases) > 50
    assert served.request("GET", "/ping")[0] == 200
