"""An environment directory on this machine, put together from a lock: the same packages as in an image, for its place.

What is installed and what `verify` expects come from the same functions, over the same checked archives.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import activation_script, digest, disk, found_files, process
from envbuilder.errors import BuildFailedError, Problem, Source, UnreachableError
from envbuilder.expected_file import ExpectedFile
from envbuilder.file_state import FileState
from envbuilder.image_plan import prefix_entries
from envbuilder.installer import conda_packages, merge_trees, wheel_install, wheels
from envbuilder.installer.wheel_install import DirectoryWriter, StateWriter
from envbuilder.installer.wheels import wheel_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from envbuilder.base_image import Interpreter
    from envbuilder.conda_package import CondaPackage
    from envbuilder.installer.wheel_install import InstalledBy
    from envbuilder.layer import Entry
    from envbuilder.locked import Lock, LockedPackage
    from envbuilder.machine import Machine
    from envbuilder.prefix_layout import PrefixLayout

    Fetch = Callable[[Iterable[CondaPackage]], None]

ENVIRONMENT: Final = "the environment"
"""The owner of what no package brings."""


def have(lock: Lock, *, fetch: Fetch, machine: Machine) -> None:
    """Have the lock's archives in the caches, exactly as locked: what is missing or damaged there is fetched.

    Raises UnreachableError naming what cannot be had.
    """
    for package in lock.packages:
        path = wheel_path(package, machine.wheels)
        if path.exists() and digest.of_file(path) != package.sha256:
            path.unlink()
    alone = [
        one
        for one in lock.packages
        if (one.is_of_model or one.source is not None) and not wheel_path(one, machine.wheels).exists()
    ]
    if alone:
        raise UnreachableError(tuple(_no_offer(one) for one in alone))
    wheels.fetch(lock.packages, machine)
    conda_packages.drop_damaged(lock.conda_packages, machine)
    if lock.conda_packages:
        fetch(lock.conda_packages)


def _no_offer(package: LockedPackage) -> Problem:
    if package.source is None:
        return Problem(
            what=f"`{package.filename}` is a file of the model, and not in the caches of this machine",
            where=Source(file=package.url),
            fix="`envbuilder reproduce MODEL …` with the model brings it there",
        )
    return Problem(
        what=f"`{package.filename}` was built from source in the base image, and not on this machine",
        where=Source(file=package.source.url),
        fix="`envbuilder build MODEL --lock FILE` builds it here, once; or bring the cache of a machine that has it",
    )


def fill(
    lock: Lock, layout: PrefixLayout, directory: Path, *, python: Interpreter | None, fetch: Fetch, machine: Machine
) -> None:
    """Write the environment into the new directory `directory`, as it is at the layout's prefix.

    `python` is the interpreter below a virtual environment; conda packages bring their own. The archives must
    be here, see `have`. Each part is made apart and moved in: a package can write through no link of another one.
    """
    work = directory.with_name(f"{directory.name}.parts")
    trees = _stages(lock, layout, work / "conda", fetch, machine) if lock.conda_packages else []
    _install(lock.packages, layout, work / "wheels", machine)
    own = work / "own"
    if python is not None and not lock.conda_packages:
        _make_virtual(layout, own, python, machine)
    for script in activation_script.scripts(layout):
        disk.write_file(own / script.path, script.content)
    trees += [("the wheels", work / "wheels"), (ENVIRONMENT, own)]
    for path, owners in _contested(trees).items():
        machine.reporter.warning(f"`{path}` is in {' and in '.join(owners)}: the last one's is taken")
    directory.mkdir(exist_ok=True)
    merge_trees.merge(trees, directory, move=True)


def fill_wheels(
    packages: Iterable[LockedPackage],
    layout: PrefixLayout,
    directory: Path,
    *,
    python: Interpreter,
    more: Mapping[str, bytes],
    machine: Machine,
) -> None:
    """Write a virtual environment with wheels into the new directory `directory`; `more` are files by their paths."""
    _install(packages, layout, directory, machine)
    _make_virtual(layout, directory, python, machine)
    for path, content in more.items():
        disk.write_file(directory / path, content)


def expected(
    lock: Lock,
    layout: PrefixLayout,
    *,
    own: Mapping[str, FileState],
    fetch: Fetch,
    machine: Machine,
    by: InstalledBy = "envbuilder",
) -> dict[str, ExpectedFile]:
    """Return what the lock puts into the environment, by path, from the archives and not from what is installed.

    `own` is what no package brings, and `by` is who installed the wheels; where that is uv, RECORD may be anything.
    The archives must be those that were locked; call `have` first.
    """
    found: dict[str, list[tuple[str, FileState]]] = {}
    if lock.conda_packages:
        for name, states in _linked_states(lock, layout, fetch, machine):
            _add(found, name, states)

    def states_of(package: LockedPackage) -> dict[str, FileState]:
        path = wheel_path(package, machine.wheels)
        writer = StateWriter()
        wheel_install.install(package, path, layout=layout, write=writer, by=by)
        return writer.states

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for package, states in zip(lock.packages, pool.map(states_of, lock.packages), strict=True):
            _add(found, package.name, states)
    found |= {path: [(ENVIRONMENT, state)] for path, state in own.items()}
    files = {
        path: ExpectedFile(owner=owners[-1][0], states=tuple(state for _, state in owners))
        for path, owners in found.items()
    }
    return files | (_of_uv(lock, files) if by == "uv" else {})


def _of_uv(lock: Lock, files: Mapping[str, ExpectedFile]) -> dict[str, ExpectedFile]:
    """Return the records that uv writes in its own way; for wheels of no index also where they came from."""
    found = {}
    brought = {one.name for one in lock.packages if not one.is_of_index}
    for path, one in files.items():
        if path.endswith(".dist-info/RECORD") and one.owner in {package.name for package in lock.packages}:
            found[path] = ExpectedFile(owner=one.owner, states=())
            if one.owner in brought:
                for name in ("direct_url.json", "uv_cache.json"):
                    found[f"{path.removesuffix('RECORD')}{name}"] = ExpectedFile(owner=one.owner, states=())
    return found


def _add(found: dict[str, list[tuple[str, FileState]]], owner: str, states: dict[str, FileState]) -> None:
    for path, state in states.items():
        found.setdefault(path, []).append((owner, state))


def _install(packages: Iterable[LockedPackage], layout: PrefixLayout, directory: Path, machine: Machine) -> None:
    """Install the wheels at the same time; where several bring a file, the last one's is taken."""
    packages = tuple(packages)
    directory.mkdir(parents=True)
    writers = [_NotingWriter(directory) for _ in packages]

    def install(number: int) -> None:
        path = wheel_path(packages[number], machine.wheels)
        wheel_install.install(packages[number], path, layout=layout, write=writers[number])

    with disk.full_disk_named(directory), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(install, range(len(packages))), start=1):
            machine.reporter.progress("install", done, len(packages), "packages")
    owners: dict[str, set[int]] = {}
    for number, writer in enumerate(writers):
        for path in writer.paths:
            owners.setdefault(path, set()).add(number)
    for number in sorted({number for numbers in owners.values() if len(numbers) > 1 for number in numbers}):
        install(number)


class _NotingWriter(DirectoryWriter):
    """Writes files, and keeps their paths."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.paths: set[str] = set()

    def __call__(self, path: str, data: bytes, *, executable: bool) -> None:
        super().__call__(path, data, executable=executable)
        self.paths.add(path)


def _skeleton(layout: PrefixLayout, python: Interpreter) -> dict[str, Entry]:
    """Return the files and folders of a virtual environment that are no package's, by their path in the prefix."""
    if layout.system == "win":
        return {}
    top = f"{layout.prefix.lstrip('/')}/"
    return {one.path.removeprefix(top): one for one in prefix_entries(layout.prefix, python)}


def own_states(layout: PrefixLayout, python: Interpreter | None) -> dict[str, FileState]:
    """Return what an environment on this machine holds that is no package's."""
    scripts = activation_script.scripts(layout)
    return {
        **(skeleton_states(layout, python) if python is not None and not layout.has_conda else {}),
        **{one.path: FileState.of_bytes(one.content, executable=False) for one in scripts},
    }


def skeleton_states(layout: PrefixLayout, python: Interpreter) -> dict[str, FileState]:
    """Return the files of a virtual environment that are no package's."""
    states = {path: _state(entry) for path, entry in _skeleton(layout, python).items()}
    return {path: state for path, state in states.items() if state is not None}


def _state(entry: Entry) -> FileState | None:
    if entry.link is not None:
        return FileState(link=entry.link)
    return FileState.of_bytes(entry.content, executable=False) if isinstance(entry.content, bytes) else None


def _make_virtual(layout: PrefixLayout, directory: Path, python: Interpreter, machine: Machine) -> None:
    if layout.system == "win":
        # Its `python.exe` starts the one below: only that one knows how.
        command = (python.executable, "-I", "-m", "venv", "--without-pip", str(directory))
        finished = process.run(command, environ=dict(machine.settings.place_environ))
        if not finished.ok:
            raise BuildFailedError(
                f"`{python.executable}` could not make a virtual environment\n" + "\n".join(finished.tail),
                fix="install a complete Python, e.g. with `uv python install`",
            )
        return
    for path, entry in _skeleton(layout, python).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            target.symlink_to(entry.link)
        elif isinstance(entry.content, bytes):
            disk.write_file(target, entry.content)
        else:
            target.mkdir(exist_ok=True)


def _linked_states(
    lock: Lock, layout: PrefixLayout, fetch: Fetch, machine: Machine
) -> Iterable[tuple[str, dict[str, FileState]]]:
    with disk.temporary_directory(machine.trees) as work:
        for name, tree in _stages(lock, layout, work, fetch, machine):
            yield name, found_files.below(tree)


def _stages(lock: Lock, layout: PrefixLayout, work: Path, fetch: Fetch, machine: Machine) -> list[tuple[str, Path]]:
    """Link each conda package into a directory of its own below `work`; return them in the order of the lock."""
    python = next(one for one in lock.conda_packages if one.name == "python")
    work.mkdir(parents=True, exist_ok=True)
    linked = conda_packages.link(lock.conda_packages, python, work, prefix=layout.prefix, fetch=fetch, machine=machine)
    inside = Path(layout.prefix).relative_to(Path(layout.prefix).anchor)
    return [(one.name, linked[one.name] / inside) for one in lock.conda_packages]


def _contested(trees: list[tuple[str, Path]]) -> dict[str, tuple[str, ...]]:
    try:
        return merge_trees.contested(trees)
    except merge_trees.ClashError as cause:
        raise BuildFailedError(
            f"`{cause.path}` is a directory in one of {' and '.join(cause.owners)}, and something else in another",
            fix="leave one of these packages out, or choose other versions",
        ) from cause
