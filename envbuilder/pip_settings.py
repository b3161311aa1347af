"""What pip is told on this machine: its environment variables and its configuration files, by pip's own rules."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """pip's long options and their values, as text."""

    values: Mapping[str, str]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> PipSettings:
        """Read `[global]` of pip's files in pip's own order (later wins), then pip's variables, which win over all.

        An empty variable says nothing.
        """
        home = Path(environ.get("HOME", "/"))
        config_home = Path(environ.get("XDG_CONFIG_HOME", home / ".config"))
        files = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
        chosen = environ.get("PIP_CONFIG_FILE")
        if chosen is not None:
            files = [] if chosen == "/dev/null" else [*files, Path(chosen)]
        parser = configparser.RawConfigParser()
        for file in files:
            try:
                parser.read(file, encoding="utf-8")
            except (OSError, configparser.Error, UnicodeDecodeError):
                continue
        values = dict(parser.items("global")) if parser.has_section("global") else {}
        for name, value in environ.items():
            if name.startswith("PIP_") and value:
                values[name.removeprefix("PIP_").lower().replace("_", "-")] = value
        return cls(values=values)

    def get(self, option: str) -> str:
        """Return the value of an option, empty where nobody gives one."""
        return self.values.get(option, "")
