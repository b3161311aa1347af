"""The machine that packages are locked for; nothing of it is taken from the machine that locks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from envbuilder.errors import InvalidFileError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.base_image import Interpreter
    from envbuilder.oci_image import Platform

IMAGE_SUBDIRS: Final = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
"""OCI platform → conda subdir."""

SUBDIRS: Final = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")
"""conda's words for the machines that packages can be locked for."""

_MACHINES: Final = {
    "linux-64": "x86_64",
    "linux-aarch64": "aarch64",
    "osx-64": "x86_64",
    "osx-arm64": "arm64",
    "win-64": "x86_64",
}
_UV_PLATFORMS: Final = {
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-64": "x86_64-pc-windows-msvc",
}
_KERNEL: Final = "5.10"
"""No wheel and hardly a conda package asks for one; conda-lock says the same."""

_MINIMUM_GLIBC: Final = 17
"""uv knows no older one."""

_OLDEST_GLIBC: Final = 5
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MAXIMUM_GLIBC: Final = 40
_NUMBER: Final = re.compile(r"\d+(\.\d+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A machine, as conda and pip see it."""

    subdir: str
    glibc: str = "2.28"
    """Of the base image; counts for Linux only. The default runs on every distribution since 2019."""

    cuda: str | None = None
    """The newest CUDA that the driver of the target knows; None: no GPU is counted on."""

    macos: str = "13.0"
    """Counts for macOS only."""

    def __post_init__(self) -> None:
        if self.subdir not in SUBDIRS:
            known = ", ".join(f"`{subdir}`" for subdir in SUBDIRS)
            raise InvalidFileError(f"`{self.subdir}` is not one of {known}", where=Source(file="the target"))
        for name, value in (("glibc", self.glibc), ("cuda", self.cuda), ("macos", self.macos)):
            if value is not None and not _NUMBER.match(value):
                raise InvalidFileError(
                    f"`{value}` is not a version of {name}", where=Source(file="the target"), fix="write e.g. `12.4`"
                )

    @classmethod
    def of_image(cls, interpreter: Interpreter, platform: Platform, *, cuda: str | None = None) -> Target:
        """Return what an image on this platform is, whose C library is that of its Python."""
        return cls(subdir=IMAGE_SUBDIRS[str(platform)], glibc=interpreter.glibc, cuda=cuda)

    @property
    def system(self) -> str:
        """`linux`, `osx` or `win`."""
        return self.subdir.partition("-")[0]

    @property
    def uv_platform(self) -> str:
        """What uv calls it, e.g. `x86_64-manylinux_2_36`."""
        return _UV_PLATFORMS.get(self.subdir) or f"{_MACHINES[self.subdir]}-manylinux_2_{self._glibc_minor}"

    def runs_on(self, other: Target) -> bool:
        """Whether what is locked for this runs on the other: the same kind of machine, not older than this."""
        return self.subdir == other.subdir and (self.system != "linux" or _numbers(self.glibc) <= _numbers(other.glibc))

    def virtual_packages(self) -> tuple[tuple[str, str, str], ...]:
        """Return name, version and build of each of conda's virtual packages that the target has."""
        archspec = ("__archspec", "1", _MACHINES[self.subdir])
        cuda = (("__cuda", self.cuda, "0"),) if self.cuda is not None else ()
        match self.system:
            case "linux":
                linux = (("__glibc", self.glibc, "0"), ("__linux", _KERNEL, "0"), ("__unix", "0", "0"))
                return (archspec, *cuda, *linux)
            case "osx":
                return (archspec, ("__osx", self.macos, "0"), ("__unix", "0", "0"))
            case _:
                return (archspec, *cuda, ("__win", "0", "0"))

    def marker_environment(self, python_version: str) -> dict[str, str]:
        """Return what environment markers see (PEP 508)."""
        name, system, platform = {
            "linux": ("posix", "Linux", "linux"),
            "osx": ("posix", "Darwin", "darwin"),
            "win": ("nt", "Windows", "win32"),
        }[self.system]
        machine = _MACHINES[self.subdir]
        return {
            "os_name": name,
            "sys_platform": platform,
            "platform_system": system,
            "platform_machine": "AMD64" if self.system == "win" else machine,
            "python_version": ".".join(python_version.split(".")[:2]),
            "python_full_version": python_version,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }

    def tags(self, python_version: str) -> dict[Tag, int]:
        """Return the wheel tags that this Python accepts here with their rank, 0 for the best fit (PEP 425, 600)."""
        platforms = list(self._wheel_platforms())
        major, minor = (int(part) for part in python_version.split(".")[:2])
        ranked = [
            *cpython_tags(python_version=(major, minor), platforms=platforms),
            *compatible_tags(python_version=(major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(ranked)))}

    @property
    def _glibc_minor(self) -> int:
        return min(max(int(self.glibc.partition(".")[2].partition(".")[0] or 0), _MINIMUM_GLIBC), _MAXIMUM_GLIBC)

    def _wheel_platforms(self) -> Iterator[str]:
        machine = _MACHINES[self.subdir]
        match self.system:
            case "linux":
                for minor in range(self._glibc_minor, _OLDEST_GLIBC - 1, -1):
                    yield f"manylinux_2_{minor}_{machine}"
                    if minor in _LEGACY:
                        yield f"{_LEGACY[minor]}_{machine}"
                yield f"linux_{machine}"
            case "osx":
                major, minor = (*_numbers(self.macos), 0)[:2]
                yield from mac_platforms((major, minor), machine)
            case _:
                yield "win_amd64"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
