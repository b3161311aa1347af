"""What the CUDA of locked packages asks of the machine that will serve: a driver, and a generation of GPUs. Pure."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from envbuilder.errors import InvalidFileError, Source

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - an older Python
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.locked import LockedPackage

FILE: Final = "gpu.toml"
"""The table that comes along, and the one of a workspace that adds to it."""

_VERSION: Final = re.compile(r"(\d+)(?:\.(\d+))?")
_LOCAL: Final = re.compile(r"\+cu(\d{2})(\d)(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one version of CUDA asks for."""

    cuda: tuple[int, int]
    driver: str
    """The oldest of Linux."""

    oldest: str
    """Compute capability of the oldest GPUs that it is made for."""

    newest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeeds:
    """The CUDA of an environment."""

    package: str
    """Which says so, as `name==version`."""

    cuda: str
    generation: Generation | None
    """None where the table does not know this CUDA."""

    def warning(self, known: str | None) -> str | None:
        """Return what to tell people: of a driver that knows no newer CUDA than `known`, or of a CUDA nobody knows."""
        if self.generation is None:
            return f"nothing is known of CUDA {self.cuda}, which `{self.package}` is made for: see to a fitting driver"
        if known is None or _numbers(known)[0] >= _numbers(self.cuda)[0]:
            return None
        return (
            f"`{self.package}` is made for CUDA {self.cuda} (driver {self.generation.driver} or newer), "
            f"the GPU's driver is said to know {known}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        found = self.generation
        return {
            "package": self.package,
            "cuda": self.cuda,
            "driver": found.driver if found is not None else None,
            "compute_capability": [found.oldest, found.newest] if found is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTable:
    """Versions of CUDA, and which packages tell theirs."""

    generations: tuple[Generation, ...]
    exact: tuple[str, ...]
    major: tuple[str, ...]
    local: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, *, file: str) -> GpuTable:
        """Read a table, of which each part may be absent; raises InvalidFileError."""
        try:
            value = tomllib.loads(text)
            rows = value.get("cuda", {}).items()
            return cls(
                generations=tuple(
                    Generation(
                        cuda=_numbers(str(cuda)),
                        driver=str(row["driver"]),
                        oldest=str(row["oldest"]),
                        newest=str(row["newest"]),
                    )
                    for cuda, row in rows
                ),
                exact=tuple(map(str, value.get("versions", {}).get("exact", ()))),
                major=tuple(map(str, value.get("names", {}).get("major", ()))),
                local=tuple(map(str, value.get("local", {}).get("packages", ()))),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise InvalidFileError(
                f"the table of GPUs cannot be read ({type(cause).__name__}: {cause})",
                where=Source(file=file),
                fix='write `[cuda."12.8"]` with `driver`, `oldest` and `newest`, each as text',
            ) from cause

    def with_more(self, other: GpuTable) -> GpuTable:
        """Return the table with the rows of another one before its own."""
        own = {one.cuda: one for one in (*self.generations, *other.generations)}
        return GpuTable(
            generations=tuple(own.values()),
            exact=(*other.exact, *self.exact),
            major=(*other.major, *self.major),
            local=(*other.local, *self.local),
        )

    def find(self, packages: Iterable[LockedPackage]) -> GpuNeeds | None:
        """Return what the locked packages need; None where none of them is made for CUDA."""
        versions = {one.name: one.version for one in packages}
        for name, version in sorted(versions.items()):
            if _matches(name, self.exact) is not None and _VERSION.match(version):
                return self._needs(name, version, ".".join(map(str, _numbers(version))))
        for name, version in sorted(versions.items()):
            local = _LOCAL.search(version) if name in self.local else None
            if local is not None:
                return self._needs(name, version, f"{local[1]}.{local[2]}")
        for name, version in sorted(versions.items()):
            if major := _matches(name, self.major):
                return self._needs(name, version, major)
        return None

    def _needs(self, name: str, version: str, cuda: str) -> GpuNeeds:
        wanted = _numbers(cuda)
        fitting = [one for one in self.generations if one.cuda[0] == wanted[0] and one.cuda <= wanted]
        return GpuNeeds(
            package=f"{name}=={version}",
            cuda=cuda,
            generation=max(fitting, key=lambda one: one.cuda, default=None),
        )


def _numbers(text: str) -> tuple[int, int]:
    found = _VERSION.match(text)
    if found is None:
        message = f"`{text}` is not a version of CUDA"
        raise ValueError(message)
    return int(found[1]), int(found[2] or 0)


def _matches(name: str, patterns: Iterable[str]) -> str | None:
    """Return what stands for `*` in the first pattern that the name fits, which may be nothing."""
    for pattern in patterns:
        found = re.fullmatch(re.escape(pattern).replace(r"\*", r"(\d{2})x?"), name)
        if found is not None:
            return found[1] if found.groups() else ""
    return None


@cache
def load() -> GpuTable:
    """Return the table that comes with envbuilder."""
    return GpuTable.parse(resources.files("envbuilder").joinpath(FILE).read_text(encoding="utf-8"), file=FILE)
