"""Conda packages: fetched once, checked by sha256, and linked once per Python into a tree of their own.

rattler does both, in child processes. A tree depends on its package and on the environment's Python alone, so that
layers, which are made of trees, stay as they are when another package changes.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest, disk, layer, process
from envbuilder.conda_settings import CondaSettings
from envbuilder.errors import (
    BuildFailedError,
    DiskFullError,
    LockMismatchError,
    Problem,
    Source,
    UnreachableError,
)
from envbuilder.installer import conda_fetch, conda_link, merge_trees, wheels
from envbuilder.secret import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from envbuilder.base_image import Interpreter
    from envbuilder.conda_client import Access
    from envbuilder.conda_package import CondaPackage
    from envbuilder.machine import Machine

_START: Final = "import json, sys; sys.path += json.loads(sys.argv.pop(1)); from {} import main; main()"
"""Run isolated, so that nothing is imported from the current directory, but with the packages that are found here."""

_MEGABYTE: Final = 1_000_000
_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a fetched package without linking it."""

    scripts: bool
    """It has link scripts, which are not run."""

    activates: bool
    """It sets variables when its environment is activated."""

    libraries: tuple[str, ...] = ()
    """Names of the libraries at the top of its `lib`."""


def archive_path(package: CondaPackage, machine: Machine) -> Path:
    """Return where the package's file is, or would be."""
    return machine.conda_packages / digest.hex_of(package.sha256) / package.filename


def facts(package: CondaPackage, machine: Machine) -> Facts:
    """Return what is known of a package, which must be fetched."""
    return Facts(**json.loads(archive_path(package, machine).with_name(conda_fetch.FACTS).read_bytes()))


def _is_here(package: CondaPackage, machine: Machine) -> bool:
    try:
        facts(package, machine)
    except (OSError, ValueError, TypeError):
        return False
    return archive_path(package, machine).exists()


def drop_damaged(packages: Iterable[CondaPackage], machine: Machine) -> None:
    """Remove the files that are not, or no longer, what was locked, so that they are fetched again."""
    for one in packages:
        path = archive_path(one, machine)
        if path.exists() and digest.of_file(path) != one.sha256:
            path.unlink()


def fetch(packages: Iterable[CondaPackage], *, access: Access, machine: Machine) -> None:
    """Download the packages that are not in the cache, several at a time; each is checked against the lock.

    Raises UnreachableError and LockMismatchError with all packages that cannot be had.
    """
    missing = [one for one in packages if not _is_here(one, machine)]
    if not missing:
        return
    if machine.settings.offline:
        raise UnreachableError(
            tuple(
                Problem(
                    what="not in the caches, and `--offline` forbids to download it",
                    where=Source(file=one.url),
                    fix="run once without `--offline`, or bring the cache of a machine that has it",
                )
                for one in missing
            )
        )
    settings = CondaSettings.from_environ(dict(machine.settings.conda_environ), settings=machine.settings)
    done = 0

    def count(line: str) -> None:
        nonlocal done
        if line.isdigit():
            done += int(line)
            machine.reporter.progress("fetch", done // _MEGABYTE, 0, "MB")

    job = {
        "access": asdict(access),
        "packages": [
            {"url": one.url, "sha256": digest.hex_of(one.sha256), "target": str(archive_path(one, machine))}
            for one in missing
        ],
    }
    with disk.full_disk_named(machine.conda_packages):
        machine.conda_packages.mkdir(parents=True, exist_ok=True)
    failures = _child("envbuilder.installer.conda_fetch", job, machine, settings.program_environ(), on_line=count)
    if failures:
        raise _fetch_error(failures, machine)


def _fetch_error(
    failures: list[dict[str, str]], machine: Machine
) -> UnreachableError | LockMismatchError | DiskFullError | BuildFailedError:
    kinds = {failure["kind"] for failure in failures}
    where = {failure["url"]: Source(file=visible(failure["url"])) for failure in failures}
    if "disk" in kinds:
        first = next(failure for failure in failures if failure["kind"] == "disk")
        return DiskFullError(
            f"the packages cannot be written: {visible(first['text'])}",
            where=Source(file=str(machine.conda_packages)),
            fix="free space there, or point ENVBUILDER_CACHE_DIR to a larger disk",
        )
    mismatches = [
        Problem(
            what=f"the download has {failure['text']}, expected {failure['expected']}",
            where=where[failure["url"]],
            fix="lock again if the file was replaced on purpose; else ask who runs that channel",
        )
        for failure in failures
        if failure["kind"] == "digest"
    ]
    if mismatches:
        return LockMismatchError(tuple(mismatches))
    if "content" in kinds:
        return _content_error({failure["url"]: failure["text"] for failure in failures if failure["kind"] == "content"})
    return UnreachableError(
        tuple(
            Problem(
                what=f"cannot be fetched: {visible(failure['text'])}",
                where=where[failure["url"]],
                fix="check the network and the credentials of the channel; a 5xx may pass when tried again",
            )
            for failure in failures
        )
    )


def _content_error(texts: Mapping[str, str]) -> BuildFailedError:
    return BuildFailedError(
        tuple(
            Problem(
                what=f"the conda package cannot be installed: {visible(text)}",
                where=Source(file=visible(url)),
                fix="do not use this package; tell who runs its channel",
            )
            for url, text in texts.items()
        )
    )


def grow(
    packages: Collection[CondaPackage],
    *,
    prefix: str,
    interpreter: Interpreter,
    lower: Callable[[], tuple[Path, ...]],
    fetch: Callable[[Iterable[CondaPackage]], None],
    machine: Machine,
) -> tuple[wheels.Tree, ...]:
    """Return a tree for each package of an environment, linking those that are new.

    `interpreter` is the environment's own Python, `lower` gives the base image it runs on; `fetch` brings packages.
    """
    python = next(one for one in packages if one.name == "python")
    names = {one.name: _key(one, python, prefix) for one in packages}
    missing = [one for one in packages if not (machine.trees / names[one.name]).is_dir()]
    if missing:
        with disk.temporary_directory(machine.trees) as work:
            machine.reporter.progress("install", 0, len(missing), "conda packages")
            _link(missing, python, work, names, prefix=prefix, fetch=fetch, machine=machine)
            needed = [one for one in packages if one.name in closure(packages, ("python",))]
            runtime = work / "runtime"
            runtime.mkdir()
            merge_trees.merge([(one.name, _here(names[one.name], work, machine)) for one in needed], runtime)
            machine.reporter.progress("bytecode", 0, 0, f"of {len(missing)} conda packages")
            wheels.compile_bytecode(
                work, [names[one.name] for one in missing], interpreter=interpreter, lower=(*lower(), runtime)
            )
            for one in missing:
                disk.move_directory(work / names[one.name], machine.trees / names[one.name])
    return tuple(_tree(one, names[one.name], machine) for one in packages)


def link(
    packages: Collection[CondaPackage],
    python: CondaPackage,
    work: Path,
    *,
    prefix: str,
    fetch: Callable[[Iterable[CondaPackage]], None],
    machine: Machine,
) -> dict[str, Path]:
    """Link the packages below `work`, without bytecode; return the directory of each, by name."""
    names = {one.name: one.name for one in packages}
    _link(packages, python, work, names, prefix=prefix, fetch=fetch, machine=machine)
    return {name: work / name for name in names}


def closure(packages: Iterable[CondaPackage], names: Iterable[str]) -> frozenset[str]:
    """Return the names, and those of all packages they depend on, among `packages`."""
    depends = {one.name: {text.split()[0] for text in one.depends if text.strip()} for one in packages}
    found: set[str] = set()
    waiting = [name for name in names if name in depends]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += depends[name] & depends.keys()
    return frozenset(found)


def job(
    packages: Iterable[CondaPackage],
    *,
    prefix: str,
    subdir: str,
    place: Callable[[CondaPackage], tuple[str, str | None]],
) -> dict[str, Any]:
    """Return what `conda_link` reads; `place` gives a package's archive and its stage, if it is to be linked."""
    return {"prefix": prefix, "subdir": subdir, "packages": [_described(one, *place(one)) for one in packages]}


def _described(package: CondaPackage, archive: str, stage: str | None) -> dict[str, Any]:
    channel = package.url.rpartition("/")[0].removesuffix(f"/{package.subdir}")
    return {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "subdir": package.subdir,
        "url": package.url,
        "channel": channel,
        "sha256": digest.hex_of(package.sha256),
        "md5": package.md5,
        "depends": list(package.depends),
        "archive": archive,
        "stage": stage,
    }


def _link(
    packages: Collection[CondaPackage],
    python: CondaPackage,
    work: Path,
    names: Mapping[str, str],
    *,
    prefix: str,
    fetch: Callable[[Iterable[CondaPackage]], None],
    machine: Machine,
) -> None:
    fetch((*packages, python))
    problems = list(_linked(packages, python, work, names, prefix=prefix, machine=machine))
    damaged = {one["name"] for one in problems if one["kind"] == "digest"}
    if damaged:
        # The cache was touched by others; what it lost is fetched again, once.
        for one in {package.sha256: package for package in (*packages, python)}.values():
            if one.name in damaged:
                archive_path(one, machine).unlink(missing_ok=True)
        fetch((*packages, python))
        # A damaged Python keeps all others from being linked.
        again = [one for one in packages if one.name in damaged or python.name in damaged]
        problems = [one for one in problems if one["kind"] != "digest"]
        problems += _linked(again, python, work, names, prefix=prefix, machine=machine)
    if problems:
        urls = {one.name: one.url for one in (*packages, python)}
        raise _content_error({urls[one["name"]]: one["text"] for one in problems})


def _linked(
    packages: Collection[CondaPackage],
    python: CondaPackage,
    work: Path,
    names: Mapping[str, str],
    *,
    prefix: str,
    machine: Machine,
) -> Iterator[dict[str, str]]:
    """Link in as many processes as there are processors; give the problems."""
    others = sorted((one for one in packages if one.name != python.name), key=lambda one: one.name)
    with_python = [one for one in packages if one.name == python.name]
    count = min(os.cpu_count() or 1, len(others)) or 1
    shares = [[*(with_python if number == 0 else []), *others[number::count]] for number in range(count)]

    def run(share: list[CondaPackage]) -> list[dict[str, str]]:
        chosen = {one.name for one in share}
        asked = job(
            [python, *(one for one in share if one.name != python.name)],
            prefix=prefix,
            subdir=python.subdir,
            place=lambda one: (
                str(archive_path(one, machine)),
                str(work / names[one.name]) if one.name in chosen else None,
            ),
        )
        return _child("envbuilder.installer.conda_link", asked, machine, dict(machine.settings.program_environ()))

    with disk.full_disk_named(work), ThreadPoolExecutor(count) as pool:
        seen = set()
        for problems in pool.map(run, shares):
            for problem in problems:
                if problem["name"] not in seen:
                    seen.add(problem["name"])
                    yield problem


def _child(
    module: str,
    job: Mapping[str, Any],
    machine: Machine,
    environ: Mapping[str, str],
    *,
    on_line: Callable[[str], None] | None = None,
) -> list[dict[str, str]]:
    here = json.dumps([path for path in sys.path if Path(path).is_absolute()])
    finished = process.run(
        (sys.executable, "-I", "-c", _START.format(module), here),
        environ=environ,
        stdin=json.dumps(job).encode(),
        cwd=machine.settings.cache_dir,
        timeout=_SECONDS,
        on_line=on_line,
    )
    try:
        answer: list[dict[str, str]] = json.loads(finished.stdout)
    except ValueError as cause:
        tail = "\n".join(visible(line) for line in finished.tail)
        if "No space left" in tail:
            raise DiskFullError(
                "no space left on the disk",
                where=Source(file=str(machine.settings.cache_dir)),
                fix="free space there, or point ENVBUILDER_CACHE_DIR to a larger disk",
            ) from cause
        if finished.code < 0:
            raise BuildFailedError(
                f"the conda installer was ended by signal {-finished.code}",
                fix="it may have been out of memory: free some, and try again",
            ) from cause
        message = f"the conda installer gave no answer (exit code {finished.code})\n{tail}"
        raise RuntimeError(message) from cause
    return answer


def _key(package: CondaPackage, python: CondaPackage, prefix: str) -> str:
    described = _described(package, "", None)
    # What links them decides what is in their records.
    linker = digest.of_file(Path(conda_link.__file__))
    key = digest.short(digest.of_json([described, python.sha256, prefix, linker, layer.LAYOUT_VERSION]))
    return f"{package.name}-{package.version}-{key}"


def _here(name: str, work: Path, machine: Machine) -> Path:
    new = work / name
    return new if new.is_dir() else machine.trees / name


def _tree(package: CondaPackage, name: str, machine: Machine) -> wheels.Tree:
    archive = archive_path(package, machine)
    size = archive.stat().st_size if archive.exists() else 0
    return wheels.Tree(package=package, key=name, directory=machine.trees / name, size=size)
