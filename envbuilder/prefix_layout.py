"""What lies where in an environment directory, on each system. Pure; paths are relative, with `/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from installer.scripts import LauncherKind

META: Final = "envbuilder-meta"
"""The folder in which a prefix keeps what it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixLayout:
    """The folders of an environment, which is at `prefix` when it is used, wherever it is put together."""

    prefix: str
    """Absolute."""

    minor: str
    """Of its Python, e.g. `3.11`."""

    system: str = "linux"
    """`linux`, `osx` or `win`."""

    has_conda: bool = False
    """Whether its Python is a conda package's; else it is a virtual environment over a Python that lies elsewhere."""

    @property
    def _is_windows(self) -> bool:
        return self.system == "win"

    @property
    def site_packages(self) -> str:
        """Where modules are."""
        return "Lib/site-packages" if self._is_windows else f"lib/python{self.minor}/site-packages"

    @property
    def scripts(self) -> str:
        """Where commands are."""
        return "Scripts" if self._is_windows else "bin"

    @property
    def python(self) -> str:
        """The interpreter."""
        if self._is_windows:
            return "python.exe" if self.has_conda else "Scripts/python.exe"
        return "bin/python"

    @property
    def executable(self) -> str:
        """The interpreter's whole path, as the system writes it."""
        if self._is_windows:
            return f"{self.prefix}\\{self.python}".replace("/", "\\")
        return f"{self.prefix}/{self.python}"

    @property
    def launcher(self) -> LauncherKind:
        """What commands are made of."""
        return "win-amd64" if self._is_windows else "posix"

    def schemes(self, name: str) -> dict[str, str]:
        """Return where the files of a wheel of that name go, by the keys of its `.data` folders."""
        # A virtual environment has no headers of a Python of its own; a conda environment has.
        headers = "include" if self.has_conda else "include/site"
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": self.scripts,
            "data": "",
            "headers": f"{headers}/python{self.minor}/{name}",
        }
