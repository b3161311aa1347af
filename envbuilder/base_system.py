"""The file system of a base image as far as system packages go: its distribution, its libraries, its apt. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

_VERSION: Final = re.compile(r"(\d+)\.?(\d*)")
_SUITE: Final = re.compile(r"[a-z][a-z0-9-]{0,40}")
_SINCE_TIME64: Final = {"debian": (13, 0), "ubuntu": (24, 4)}
"""The versions from which on libraries are named for their 64 bit times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSystem:
    """What a base says of itself; everything is empty where nothing was found out."""

    distribution: str = ""
    """ID of os-release, e.g. `debian`."""

    family: tuple[str, ...] = ()
    """ID_LIKE of os-release."""

    version: str = ""
    suite: str = ""
    """Codename, e.g. `bookworm`; empty where it is none that a Dockerfile or an archive could be given."""

    libraries: tuple[str, ...] = ()
    """Names of the libraries in the loader's directories, sorted."""

    has_apt: bool = False

    @classmethod
    def parse(cls, value: dict[str, Any]) -> BaseSystem:
        """Read what the probe found: the text of os-release, names of libraries, whether apt is there."""
        said = os_release(str(value["os_release"]))
        suite = said.get("VERSION_CODENAME", "")
        return cls(
            distribution=said.get("ID", ""),
            family=tuple(said.get("ID_LIKE", "").split()),
            version=said.get("VERSION_ID", ""),
            suite=suite if _SUITE.fullmatch(suite) else "",
            libraries=tuple(sorted({str(name) for name in value["libraries"]})),
            has_apt=bool(value["has_apt"]),
        )

    @property
    def is_of_debian(self) -> bool:
        """Whether Debian's packages are what it is made of."""
        return "debian" in (self.distribution, *self.family) or self.distribution == "ubuntu"

    @property
    def has_time64_names(self) -> bool:
        """Whether its libraries have the names of since the 64 bit times; true for a suite without a version."""
        kind = "ubuntu" if "ubuntu" in (self.distribution, *self.family) else "debian"
        found = _VERSION.match(self.version)
        return found is None or (int(found[1]), int(found[2] or 0)) >= _SINCE_TIME64[kind]


def os_release(text: str) -> dict[str, str]:
    """Return what an os-release file says; see os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
