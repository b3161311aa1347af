"""The environment of a model, or of an image, on this machine: exactly what was locked, in a directory of its own."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbuilder import (
    activation_script,
    cache_lock,
    conda_environment,
    digest,
    disk,
    image_environment,
    kept_lock,
    kernel,
    local_python,
    locking,
    model_environment,
    verification,
)
from envbuilder.base_image import Interpreter
from envbuilder.errors import InvalidFileError, LockMismatchError, Problem, Source
from envbuilder.image_plan import LOCK_FILE as LOCK_IN_IMAGE
from envbuilder.image_plan import MODEL_DIRECTORY
from envbuilder.installer import prefix as installer
from envbuilder.installer.wheels import wheel_path
from envbuilder.lockfile import Lockfile
from envbuilder.locking import Place
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.prefix_record import LOCK_FILE, RECORD_FILE, PrefixRecord
from envbuilder.reporter import Timings
from envbuilder.target import Target
from envbuilder.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.activation_script import ActivationScript
    from envbuilder.choices import Choices, EngineName
    from envbuilder.conda_package import CondaPackage
    from envbuilder.digest import Digest
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.image_environment import ImageEnvironment
    from envbuilder.locked import Lock, LockedPackage
    from envbuilder.machine import Machine
    from envbuilder.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where the environment is to be, and what besides."""

    prefix: Path
    kernel: str | None = None
    """The name of a Jupyter kernel to register for it."""

    replace: bool = False
    """Put it in the place of one that envbuilder made there."""

    is_trusted: bool = False
    """What is there with the same lock is taken without a look at its files: a directory of the caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """An environment that was made, or was there."""

    prefix: Path
    python: str
    """The interpreter to start."""

    python_version: str
    lock_digest: Digest
    packages: int
    existed: bool
    """True where the same environment was there, whole."""

    kernel: Path | None
    activation: tuple[ActivationScript, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "prefix": str(self.prefix),
            "python": self.python,
            "python_version": self.python_version,
            "lock_digest": self.lock_digest,
            "packages": self.packages,
            "existed": self.existed,
            "kernel": str(self.kernel) if self.kernel is not None else None,
            "activate": {one.language: one.command for one in self.activation},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A model whose environment is locked for this machine."""

    model: Model
    spec: EnvironmentSpec
    lock: Lock
    fetch: Callable[[Iterable[CondaPackage]], None]
    machine: Machine
    """With the indexes of the environment."""


@cache_lock.used
@disk.readable_by_all()
def reproduce(model: str | Path, wish: Wish, choices: Choices, *, machine: Machine) -> Reproduction:
    """Make the environment of a model: from the lock that is found for it, else from one that is made and kept."""
    timings = Timings(machine.reporter)
    _free(wish)
    return make(locked(model, choices, machine=machine, timings=timings), wish, timings=timings)


def make(found: Locked, wish: Wish, *, timings: Timings) -> Reproduction:
    """Make the environment that is locked."""
    return _made(found.lock, _free(wish), wish, fetch=found.fetch, machine=found.machine, timings=timings)


def locked(model: str | Path, choices: Choices, *, machine: Machine, timings: Timings) -> Locked:
    """Read a model and lock its environment for this machine, or find the lock of it."""
    with timings.stage("read"):
        read = model_environment.read_model(model, machine=machine)
    with timings.stage("resolve"):
        spec = model_environment.resolve_model(read, choices)
    model_environment.tell_repairs(spec, machine)
    here = _here()
    place = Place.without_base(spec, here)
    machine = machine.asking(spec.indexes)
    with timings.stage("lock") as note:
        workspace = choices.workspace.directory if choices.workspace is not None else None
        found = choices.lock or kept_lock.find(spec, workspace=workspace, model=read.directory)
        if found is not None:
            lock = kept_lock.read_here(found, spec, here)
            note.text = str(found)
        else:
            lock, _ = locking.lock_once(spec, place, machine=machine, tool_version=__version__, model=read.directory)
    if not all(one.is_of_index for one in lock.packages):
        from envbuilder import direct_wheels  # noqa: PLC0415 - few models have any

        # What was built from source was built in a base image, and there is none here.
        brought = replace(lock, packages=tuple(one for one in lock.packages if one.source is None))
        direct_wheels.have(brought, spec.requirements, place.workshop(machine, model=read.directory))
    fetch = conda_environment.fetcher(spec, machine) if lock.conda_packages else _no_fetch
    return Locked(model=read, spec=spec, lock=lock, fetch=fetch, machine=machine)


@cache_lock.used
@disk.readable_by_all()
def reproduce_image(reference: str, wish: Wish, *, engine: EngineName = "auto", machine: Machine) -> Reproduction:
    """Make the environment of an image from the lock in it alone; wheels of its model come out of the image too."""
    timings = Timings(machine.reporter)
    prefix = _free(wish)
    with timings.stage("read", reference):
        found = image_environment.find(reference, engine=engine, machine=machine)
        lock = image_environment.lock_of(found, machine=machine)
        kept_lock.check_runs(lock, _here(), file=f"{found.reference}:{LOCK_IN_IMAGE}")
        for package in lock.packages:
            if package.is_of_model:
                _take_out(package, found, machine)
    fetch = conda_environment.fetcher_for(lock, machine)
    return _made(lock, prefix, wish, fetch=fetch, machine=machine, timings=timings)


def _take_out(package: LockedPackage, found: ImageEnvironment, machine: Machine) -> None:
    path = wheel_path(package, machine.wheels)
    if path.exists():
        return
    data = found.module.read(found.image, f"{MODEL_DIRECTORY}/{package.url.removeprefix('./')}", machine=machine)
    # Where it is another file, it is missed later, by its name.
    if data is not None and digest.of_bytes(data) == package.sha256:
        disk.write_file(path, data)


def _no_fetch(packages: Iterable[CondaPackage]) -> None:
    del packages


def _here() -> Target:
    """Return this machine; raises LockMismatchError for one that nothing is locked for."""
    subdir, glibc = local_python.this_subdir(), platform.libc_ver()[1]
    return Target(subdir=subdir, glibc=glibc) if glibc else Target(subdir=subdir)


def _free(wish: Wish) -> Path:
    """Return the directory, which nobody else made; raises InvalidFileError."""
    # Links stay as they are: commands begin with this path.
    prefix = Path(os.path.abspath(wish.prefix))  # noqa: PTH100
    where = Source(file=str(prefix))
    if not str(prefix).isprintable() or '"' in str(prefix) or ":" in prefix.as_posix().partition("/")[2]:
        raise InvalidFileError(
            "commands cannot begin with this path", where=where, fix="choose one without `:`, quotes and line ends"
        )
    if os.path.lexists(prefix) and not prefix.is_dir():
        raise InvalidFileError("there is a file", where=where, fix="choose a directory that is not there yet")
    if prefix.is_dir() and any(prefix.iterdir()) and verification.record_of(prefix) is None:
        raise InvalidFileError(
            "the directory is not empty, and envbuilder did not make it",
            where=where,
            fix="choose a directory that is not there yet",
        )
    return prefix


def _made(
    lock: Lock,
    prefix: Path,
    wish: Wish,
    *,
    fetch: Callable[[Iterable[CondaPackage]], None],
    machine: Machine,
    timings: Timings,
) -> Reproduction:
    layout = PrefixLayout(
        prefix=str(prefix),
        minor=".".join(lock.python_version.split(".")[:2]),
        system=lock.target.system,
        has_conda=bool(lock.conda_packages),
    )
    kernel_file = None
    if wish.kernel is not None:
        kernel_file = kernel.place(wish.kernel, layout.system, dict(machine.settings.place_environ))
        kernel.check(kernel_file, lock, layout)
    existed = _is_there(prefix, lock, wish, machine)
    if not existed:
        python = None if lock.conda_packages else _python(lock, machine, timings)
        with timings.stage("fetch"):
            installer.have(lock, fetch=fetch, machine=machine)
        with timings.stage("install", str(prefix)) as note:
            _put(lock, layout, python, fetch=fetch, machine=machine)
            note.text = f"{len(lock.packages) + len(lock.conda_packages)} packages"
    record = verification.record_of(prefix)
    if kernel_file is not None:
        kernel.write(kernel_file, layout)
    return Reproduction(
        prefix=prefix,
        python=layout.executable,
        python_version=record.python_version if record is not None else lock.python_version,
        lock_digest=lock.digest,
        packages=len(lock.packages) + len(lock.conda_packages),
        existed=existed,
        kernel=kernel_file,
        activation=activation_script.scripts(layout),
    )


def _is_there(prefix: Path, lock: Lock, wish: Wish, machine: Machine) -> bool:
    """Return whether the same environment is there and whole; raises LockMismatchError where it is another one."""
    record = verification.record_of(prefix)
    if record is None or wish.replace:
        return False
    fix = f"`envbuilder reproduce … --prefix {prefix} --replace` makes it anew; what was added by hand is lost"
    if record.lock_digest != lock.digest:
        raise LockMismatchError(
            f"there is an environment of another lock: {record.lock_digest}, asked for is {lock.digest}",
            where=Source(file=str(prefix)),
            fix=fix,
        )
    found = None if wish.is_trusted else verification.verify(prefix, None, machine=machine)
    if found is not None and found.deviations:
        raise LockMismatchError(
            tuple(
                Problem(
                    what=f"the environment that is there is not as locked: {one.kind} {one.package} ({one.detail})",
                    where=Source(file=str(prefix / one.path)),
                    fix=fix,
                )
                for one in found.deviations
            )
        )
    return True


def _python(lock: Lock, machine: Machine, timings: Timings) -> Interpreter:
    with timings.stage("python") as note:
        found = local_python.find(lock.python_version, subdir=lock.subdir, environ=dict(machine.settings.place_environ))
        note.text = f"{found.version}, {found.executable} ({found.owner})"
    if lock.python_version.count(".") > 1 and found.version != lock.python_version:
        machine.reporter.warning(
            f"locked for Python {lock.python_version}, which is not here; taken is {found.version} at "
            f"{found.executable}: same minor, same packages. `uv python install {lock.python_version}` brings it"
        )
    return Interpreter(version=found.version, executable=found.executable, glibc=found.glibc)


def _put(
    lock: Lock,
    layout: PrefixLayout,
    python: Interpreter | None,
    *,
    fetch: Callable[[Iterable[CondaPackage]], None],
    machine: Machine,
) -> None:
    """Put the environment together beside its place, and give it its name when it is whole."""
    from filelock import FileLock  # noqa: PLC0415 - brings asyncio along

    prefix = Path(layout.prefix)
    work = prefix.with_name(f".{prefix.name}.envbuilder-new")
    turn = machine.prefixes / f"{digest.short(digest.of_bytes(layout.prefix.encode()))}.lock"
    with disk.full_disk_named(prefix.parent):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        turn.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(turn):
            _clean(work, prefix)
            try:
                work.mkdir()
                new = work / "new"
                installer.fill(lock, layout, new, python=python, fetch=fetch, machine=machine)
                record = PrefixRecord(
                    prefix=layout.prefix,
                    lock_digest=lock.digest,
                    subdir=lock.subdir,
                    python_version=python.version if python is not None else lock.python_version,
                    python=python.executable if python is not None else layout.executable,
                    tool_version=__version__,
                )
                disk.write_file(new / LOCK_FILE, Lockfile.of([lock]).to_text().encode())
                disk.write_file(new / RECORD_FILE, record.to_text().encode())
                if prefix.is_dir():
                    prefix.rename(work / "old")
                new.rename(prefix)
            finally:
                _clean(work, prefix)


def _clean(work: Path, prefix: Path) -> None:
    """Remove what a run, that was killed perhaps, left beside the environment; what it had moved away comes back."""
    if (work / "old").is_dir() and not prefix.exists():
        (work / "old").rename(prefix)
    shutil.rmtree(work, ignore_errors=True)
