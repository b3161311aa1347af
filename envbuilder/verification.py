"""Is an environment exactly what was locked? Every package, file and link in it, against the locked archives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import bytecode, comparison, conda_environment, found_files, image_environment, local_python
from envbuilder.base_image import Interpreter
from envbuilder.comparison import Deviation
from envbuilder.errors import InvalidFileError, LockMismatchError, Source
from envbuilder.image_plan import ENVIRONMENT_PREFIX
from envbuilder.installer import prefix as installer
from envbuilder.lockfile import Lockfile
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.prefix_record import LOCK_FILE, RECORD_FILE, PrefixRecord
from envbuilder.reporter import Timings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.choices import EngineName
    from envbuilder.digest import Digest
    from envbuilder.expected_file import ExpectedFile
    from envbuilder.file_state import FileState
    from envbuilder.image_environment import ImageEnvironment
    from envbuilder.local_python import LocalPython
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine


_NOT_OF_ITS_MODULE: Final = "is not the bytecode of its module"
_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was compared, and what is not as locked."""

    lock_digest: Digest
    packages: int
    files: int
    """Files and links that were looked at."""

    deviations: tuple[Deviation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "ok": not self.deviations,
            "lock_digest": self.lock_digest,
            "packages": self.packages,
            "files": self.files,
            "deviations": [one.to_dict() for one in self.deviations],
        }


def record_of(prefix: Path) -> PrefixRecord | None:
    """Return what the environment says of itself; None where it says nothing, as one that is not ours, or half made."""
    path = prefix / RECORD_FILE
    if not path.is_file():
        return None
    return PrefixRecord.parse(path.read_text(encoding="utf-8", errors="replace"), file=str(path))


def verify(prefix: Path, lock_file: Path | None, *, machine: Machine) -> Verification:
    """Compare an environment that envbuilder made with a lock: the one named, else the one that it keeps itself.

    Raises InvalidFileError for what is no such environment.
    """
    timings = Timings(machine.reporter)
    prefix = Path(os.path.abspath(prefix))  # noqa: PTH100 - links stay: commands begin with the path as it was given
    record = record_of(prefix)
    if record is None:
        raise InvalidFileError(
            "there is no environment that envbuilder made",
            where=Source(file=str(prefix)),
            fix="name the directory that `envbuilder reproduce` was given, or an image that was built",
        )
    if Path(record.prefix).exists() and Path(record.prefix).samefile(prefix):
        prefix = Path(record.prefix)
    lock = _lock(lock_file or prefix / LOCK_FILE, record.subdir)
    layout = PrefixLayout(
        prefix=str(prefix),
        minor=_minor(lock.python_version),
        system=lock.target.system,
        has_conda=bool(lock.conda_packages),
    )
    fetch = conda_environment.fetcher_for(lock, machine)
    with timings.stage("archives"):
        installer.have(lock, fetch=fetch, machine=machine)
    with timings.stage("files") as note:
        found = {path: one for path, one in found_files.below(prefix).items() if path not in (RECORD_FILE, LOCK_FILE)}
        python, deviations = _python(prefix, layout, record, found, machine)
        interpreter = (
            Interpreter(version=python.version, executable=python.executable, glibc=python.glibc) if python else None
        )
        own = installer.own_states(layout, interpreter)
        expected = installer.expected(lock, layout, own=own, fetch=fetch, machine=machine)
        deviations += comparison.compare(lock, expected, found, layout)
        note.text = f"{len(found)} files"
    # A conda environment's own Python is started only where all is as it was locked.
    program = python.executable if python is not None else layout.executable
    if python is not None or (layout.has_conda and not deviations):
        with timings.stage("bytecode"):
            deviations += _bytecode(prefix, layout, expected, found, program)
    return Verification(
        lock_digest=lock.digest,
        packages=len(lock.packages) + len(lock.conda_packages),
        files=len(found),
        deviations=deviations,
    )


def verify_image(
    reference: str, lock_file: Path | None, *, engine: EngineName = "auto", machine: Machine
) -> Verification:
    """Compare the environment in an image with a lock: the one named, else the one in the image.

    Its own Python, in a sandbox or container, compares its bytecode when all else is as locked. Raises
    InvalidFileError for an image that is not ours, LockMismatchError where its labels are of another lock than the one
    in it.
    """
    timings = Timings(machine.reporter)
    found = image_environment.find(reference, engine=engine, machine=machine)
    lock = image_environment.lock_of(found, machine=machine)
    if lock_file is not None:
        lock = _lock(lock_file, lock.subdir)
    layout = PrefixLayout(
        prefix=ENVIRONMENT_PREFIX, minor=_minor(lock.python_version), has_conda=bool(lock.conda_packages)
    )
    fetch = conda_environment.fetcher_for(lock, machine)
    with timings.stage("archives"):
        installer.have(lock, fetch=fetch, machine=machine)
    with timings.stage("files") as note:
        files = found.module.files(found.image, ENVIRONMENT_PREFIX, machine=machine)
        own, deviations = _image_python(found, layout, files, machine)
        expected = installer.expected(
            lock, layout, own=own, fetch=fetch, machine=machine, by="envbuilder" if found.engine == "oci" else "uv"
        )
        deviations += comparison.compare(lock, expected, files, layout)
        note.text = f"{len(files)} files"
    if not deviations:
        with timings.stage("bytecode"):
            deviations += _image_bytecode(found, layout, expected, machine)
    return Verification(
        lock_digest=lock.digest,
        packages=len(lock.packages) + len(lock.conda_packages),
        files=len(files),
        deviations=deviations,
    )


def _image_python(
    found: ImageEnvironment, layout: PrefixLayout, files: Mapping[str, FileState], machine: Machine
) -> tuple[dict[str, FileState], tuple[Deviation, ...]]:
    """Return what an image's virtual environment holds beside packages, and what is wrong with its Python."""
    if layout.has_conda:
        return {}, ()
    config = found.module.read(found.image, f"{ENVIRONMENT_PREFIX}/pyvenv.cfg", machine=machine) or b""
    version = re.search(rb"^version = (\d+\.\d+\.\S+)$", config, re.MULTILINE)
    state = files.get(layout.python)
    if version is None or state is None or state.link is None:
        return {}, (_other_python(layout, "is not there"),)
    stated = version[1].decode(errors="replace")
    wrong = () if _minor(stated) == layout.minor else (_other_python(layout, f"is {stated}, locked is {layout.minor}"),)
    python = Interpreter(version=stated, executable=state.link, glibc="")
    return installer.skeleton_states(layout, python), wrong


def _image_bytecode(
    found: ImageEnvironment, layout: PrefixLayout, expected: Mapping[str, ExpectedFile], machine: Machine
) -> tuple[Deviation, ...]:
    command = bytecode.command(layout.executable, layout.prefix)
    foreign, is_whole = bytecode.told(found.module.run(found.image, command, timeout=_SECONDS, machine=machine))
    paths = [path.removeprefix(f"{layout.prefix}/") for path in foreign]
    owners = {path: expected.get(comparison.source_of(path, layout) or "") for path in paths}
    wrong = tuple(
        Deviation(kind="changed", package=one.owner if one is not None else "", path=path, detail=_NOT_OF_ITS_MODULE)
        for path, one in owners.items()
    )
    if is_whole:
        return wrong
    detail = "comparing bytecode did not come to its end"
    return (*wrong, Deviation(kind="changed", package="", path=layout.site_packages, detail=detail))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _lock(path: Path, subdir: str) -> Lock:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidFileError(
            f"the lock cannot be read ({cause})", where=Source(file=str(path)), fix="name another one by `--lock`"
        ) from cause
    lock = Lockfile.parse(text, file=str(path)).lock_for(subdir)
    if lock is None:
        raise LockMismatchError(
            f"the lock is not for {subdir}",
            where=Source(file=str(path), key="metadata.platforms"),
            fix=f"`envbuilder lock MODEL --platform {subdir} -o {path}`",
        )
    return lock


def _python(
    prefix: Path, layout: PrefixLayout, record: PrefixRecord, found: Mapping[str, FileState], machine: Machine
) -> tuple[LocalPython | None, tuple[Deviation, ...]]:
    """Return the Python below the environment, and what is wrong with it."""
    if layout.has_conda:
        # A file of a package, like others: nothing is started before it is compared.
        return None, ()
    state = found.get(layout.python)
    place = state.link if state is not None and state.link is not None else str(prefix / layout.python)
    environ = dict(machine.settings.place_environ)
    asked = (
        local_python.ask(place, environ=environ, owner="") if state is not None and Path(place).is_absolute() else None
    )
    if asked is None:
        return None, (_other_python(layout, "is not there, or does not run"),)
    if asked.minor != layout.minor:
        return None, (_other_python(layout, f"is Python {asked.version}, locked is {layout.minor}"),)
    if (asked.executable, asked.version) != (record.python, record.python_version):
        was = f"{record.python} ({record.python_version})"
        return asked, (_other_python(layout, f"is {asked.executable} ({asked.version}), made with {was}"),)
    return asked, ()


def _other_python(layout: PrefixLayout, detail: str) -> Deviation:
    return Deviation(kind="other python", package="python", path=layout.python, detail=detail)


def _bytecode(
    prefix: Path,
    layout: PrefixLayout,
    expected: Mapping[str, ExpectedFile],
    found: Mapping[str, FileState],
    program: str,
) -> tuple[Deviation, ...]:
    sources = {}
    for path in found.keys() - expected.keys():
        source = comparison.source_of(path, layout)
        if source is not None and source in expected and source in found:
            sources[str(prefix / path)] = source
    pairs = [(str(prefix / source), path) for path, source in sorted(sources.items())]
    return tuple(
        Deviation(
            kind="changed",
            package=expected[sources[path]].owner,
            path=Path(path).relative_to(prefix).as_posix(),
            detail=_NOT_OF_ITS_MODULE,
        )
        for path in bytecode.foreign(pairs, program)
    )
