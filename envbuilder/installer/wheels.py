"""Wheels: fetched once, checked by sha256, and installed once per Python version into a tree of their own.

A tree holds the files of one wheel below the path they have in an image, with bytecode; layers are made of trees.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import cache_lock, digest, disk, layer, sandbox
from envbuilder.errors import BuildFailedError, Problem, Source, UnreachableError
from envbuilder.installer import compile_trees, wheel_install
from envbuilder.installer.wheel_install import DirectoryWriter
from envbuilder.prefix_layout import PrefixLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.base_image import Interpreter
    from envbuilder.conda_package import CondaPackage
    from envbuilder.locked import LockedPackage
    from envbuilder.machine import Machine

_DOWNLOADS: Final = 8
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """An installed package: a directory whose content belongs at the root of an image."""

    package: LockedPackage | CondaPackage
    key: str
    directory: Path
    size: int
    """Bytes of the package's file."""


def wheel_path(package: LockedPackage, wheels: Path) -> Path:
    """Return where the package's wheel is, or would be."""
    return wheels / digest.hex_of(package.sha256) / package.filename


def fetch(packages: Iterable[LockedPackage], machine: Machine) -> None:
    """Download the wheels that are not in the cache, several at a time; each is checked against the lock.

    Raises UnreachableError, offline for all that are missing.
    """
    missing = [package for package in packages if not wheel_path(package, machine.wheels).exists()]
    if not missing:
        return
    if machine.settings.offline:
        raise UnreachableError(
            tuple(
                Problem(
                    what=f"`{package.filename}` is not in the caches, and `--offline` forbids to download it",
                    where=Source(file=package.url),
                    fix="build once without `--offline`, or bring the cache of a machine that has it",
                )
                for package in missing
            )
        )
    # Slow to import, and most builds download nothing.
    from envbuilder import network  # noqa: PLC0415
    from envbuilder.index_logins import IndexLogins  # noqa: PLC0415

    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        machine.reporter.progress("fetch", done // _MEGABYTE, 0, "MB")

    admitted = IndexLogins(machine.settings)
    with network.session(machine.settings, auth=admitted) as opened, ThreadPoolExecutor(_DOWNLOADS) as pool:
        jobs = [
            pool.submit(
                network.download,
                opened,
                package.url,
                wheel_path(package, machine.wheels),
                expected=package.sha256,
                settings=machine.settings,
                on_bytes=count,
            )
            for package in missing
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def grow(
    packages: Iterable[LockedPackage],
    *,
    prefix: str,
    interpreter: Interpreter,
    lower: Callable[[], tuple[Path, ...]] | None,
    machine: Machine,
) -> tuple[Tree, ...]:
    """Return a tree for each package, installing under `prefix` those that are new.

    `lower` gives the directories, from the base up, in which the interpreter is: it writes the bytecode, in a sandbox.
    Where it is None, there is no bytecode.
    The wheels must be fetched.
    """
    packages = tuple(packages)
    has_bytecode = lower is not None
    trees = tuple(_tree(package, prefix, interpreter, machine, has_bytecode=has_bytecode) for package in packages)
    if all(tree.directory.is_dir() for tree in trees):
        return trees
    wheels = dict(zip((tree.key for tree in trees), packages, strict=True))
    with cache_lock.turn(machine.settings.cache_dir, "trees"):
        # Others may have grown them meanwhile.
        missing = [tree for tree in trees if not tree.directory.is_dir()]
        if missing:
            _grow(missing, wheels, prefix=prefix, interpreter=interpreter, lower=lower, machine=machine)
    return trees


def _grow(
    missing: list[Tree],
    wheels: dict[str, LockedPackage],
    *,
    prefix: str,
    interpreter: Interpreter,
    lower: Callable[[], tuple[Path, ...]] | None,
    machine: Machine,
) -> None:
    with disk.temporary_directory(machine.trees) as work:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(
                lambda tree: _install(wheels[tree.key], work / tree.key, prefix, interpreter, machine), missing
            )
            for number, _ in enumerate(done, start=1):
                machine.reporter.progress("install", number, len(missing), "packages")
        if lower is not None:
            machine.reporter.progress("bytecode", 0, 0, f"of {len(missing)} packages")
            compile_bytecode(work, [tree.key for tree in missing], interpreter=interpreter, lower=lower())
        for tree in missing:
            disk.move_directory(work / tree.key, tree.directory)


def merge(
    packages: Iterable[LockedPackage], directory: Path, *, prefix: str, interpreter: Interpreter, machine: Machine
) -> None:
    """Install the wheels together below `directory`, without bytecode: for an environment that is used once.

    The wheels must be fetched.
    """
    for package in packages:
        _install(package, directory, prefix, interpreter, machine)


def compile_bytecode(work: Path, names: list[str], *, interpreter: Interpreter, lower: tuple[Path, ...]) -> None:
    """Write the bytecode of the directories `names` in `work`, as if each were the root of the image."""
    box = sandbox.Sandbox(
        lower=lower,
        command=(
            interpreter.executable,
            "-s",
            "-S",
            "-c",
            Path(compile_trees.__file__).read_text(encoding="utf-8"),
            "/trees",
            *names,
        ),
        # Constants that are sets are written in the order of their hashes.
        environ=(("PYTHONHASHSEED", "0"),),
        binds=(sandbox.Bind(source=work, target="/trees", writable=True),),
        root=True,
    )
    finished = sandbox.run(box)
    if not finished.ok:
        raise BuildFailedError(
            f"the image's `{interpreter.executable}` could not compile the packages\n" + "\n".join(finished.tail),
            fix="check the disk space of the cache, and that this Python runs on the base image",
        )


def _tree(
    package: LockedPackage, prefix: str, interpreter: Interpreter, machine: Machine, *, has_bytecode: bool
) -> Tree:
    made_of = [package.sha256, prefix, interpreter.version, interpreter.executable, layer.LAYOUT_VERSION]
    key = digest.short(digest.of_json(made_of if has_bytecode else [*made_of, "without bytecode"]))
    name = f"{package.name}-{package.version}-{key}"
    wheel = wheel_path(package, machine.wheels)
    size = wheel.stat().st_size if wheel.exists() else 0
    return Tree(package=package, key=name, directory=machine.trees / name, size=size)


def layout_of(prefix: str, interpreter: Interpreter) -> PrefixLayout:
    """Return the layout of an image's environment: a conda environment where its Python lies in it."""
    return PrefixLayout(
        prefix=prefix, minor=interpreter.minor, has_conda=interpreter.executable.startswith(f"{prefix}/")
    )


def _install(package: LockedPackage, directory: Path, prefix: str, interpreter: Interpreter, machine: Machine) -> None:
    write = DirectoryWriter(directory / prefix.lstrip("/"))
    with disk.full_disk_named(directory):
        wheel_install.install(
            package, wheel_path(package, machine.wheels), layout=layout_of(prefix, interpreter), write=write
        )
