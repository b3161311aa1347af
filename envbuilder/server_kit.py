"""What goes into every image beside the model's environment: the server's code and its locked dependencies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, uv
from envbuilder.errors import BaseImageError, LockImpossibleError, LockMismatchError, Source, UnreachableError
from envbuilder.locked import LockedPackage
from envbuilder.target import Target

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from envbuilder.base_image import Interpreter
    from envbuilder.digest import Digest
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform

_PACKAGE: Final = "envbuilder.server"
_REQUIREMENTS: Final = "requirements"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKit:
    """The server for one Python minor."""

    requirements: str
    """A requirements file with hashes."""

    files: tuple[tuple[str, bytes], ...]
    """Paths below site-packages and what they hold, sorted."""

    @property
    def digest(self) -> Digest:
        """The digest of everything the kit brings."""
        return digest.of_json([self.requirements, [[path, digest.of_bytes(content)] for path, content in self.files]])


def minors() -> tuple[str, ...]:
    """Return the Python minors the server can run on, oldest first."""
    names = (item.name for item in resources.files(_PACKAGE).joinpath(_REQUIREMENTS).iterdir())
    found = [name.removeprefix("py").removesuffix(".txt") for name in names if name.startswith("py")]
    return tuple(sorted(found, key=lambda minor: int(minor.partition(".")[2])))


def load(minor: str, *, base_reference: str) -> ServerKit:
    """Return the kit for a Python minor; raises BaseImageError when the server does not run on it."""
    known = minors()
    if minor not in known:
        raise BaseImageError(
            f"the server does not run on Python {minor}, which `{base_reference}` provides",
            where=Source(file=base_reference),
            fix=f"choose a base image with Python {known[0]} to {known[-1]}",
        )
    folder = resources.files(_PACKAGE)
    text = folder.joinpath(_REQUIREMENTS, f"py{minor}.txt").read_text(encoding="utf-8")
    return ServerKit(requirements=text, files=tuple(sorted(_code(folder, "envbuilder/server"))))


def packages(
    kit: ServerKit, *, interpreter: Interpreter, platform: Platform, machine: Machine
) -> tuple[LockedPackage, ...]:
    """Return the kit's wheels for this interpreter with their URLs, which the index is asked for only once.

    Raises LockMismatchError when the index offers other files than the kit's hashes allow, UnreachableError offline
    when it was not asked yet.
    """
    key = digest.hex_of(
        digest.of_json([kit.requirements, interpreter.minor, interpreter.glibc, str(platform), machine.settings.places])
    )
    record = machine.locks / f"server-{key}.json"
    if record.exists():
        return tuple(_package(item) for item in json.loads(record.read_bytes()))
    try:
        found = uv.compile_lines(
            tuple(_lines(kit.requirements)),
            python_version=interpreter.version,
            target=Target.of_image(interpreter, platform),
            settings=machine.settings,
            reporter=machine.reporter,
            dependencies=False,
        )
    except LockImpossibleError as cause:
        if not machine.settings.offline:
            raise
        raise UnreachableError(
            f"where the server's packages for Python {interpreter.minor} are is not in the caches, "
            "and `--offline` forbids to ask the index",
            fix="build once without `--offline`, or bring the cache of a machine that has built for this Python",
        ) from cause
    for package in found:
        if digest.hex_of(package.sha256) not in kit.requirements:
            raise LockMismatchError(
                f"the index offers another `{package.filename}` than the server was locked with",
                where=Source(file=package.url),
                fix="use an index that mirrors files unchanged",
            )
    disk.write_file(record, json.dumps([asdict(package) for package in found]).encode())
    return found


def _package(item: dict[str, str]) -> LockedPackage:
    return LockedPackage(
        name=item["name"], version=item["version"], url=item["url"], sha256=digest.parse(item["sha256"])
    )


def _lines(requirements: str) -> list[str]:
    joined = requirements.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _code(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        inside = f"{path}/{item.name}"
        if item.is_dir() and item.name not in (_REQUIREMENTS, "__pycache__"):
            found += _code(item, inside)
        elif item.is_file() and item.name.endswith((".py", ".html")):
            found.append((inside, item.read_bytes()))
    return found
