from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder.pip_settings import PipSettings

if TYPE_CHECKING:
    from pathlib import Path


def test_variables_win_over_files_and_empty_ones_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "own.conf"
    file.write_text("[global]\nkeyring-provider = import\nproxy = http://file.example\nfind-links =\n  a\n  b\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file), "PIP_PROXY": "http://p.example", "PIP_CERT": ""}
    found = PipSettings.from_environ({**environ, "PIP_KEYRING_PROVIDER": ""})
    assert found.get("proxy") == "http://p.example"
    assert found.get("keyring-provider") == "import"
    assert found.get("find-links").split() == ["a", "b"]
    assert found.get("absent") == ""
