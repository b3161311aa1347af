"""Wheels that no index offers: files of the model, files at a URL, and what is built here from source.

All of them end up in the wheel cache, from where engines take them as they take downloaded ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.markers import Marker

from envbuilder import digest, disk, git_checkout, source_archive, wheel_archive, wheel_build
from envbuilder.errors import LockImpossibleError, LockMismatchError, Problem, Source, UnreachableError
from envbuilder.git_repository import GitRepository
from envbuilder.installer.wheels import wheel_path
from envbuilder.locked import LockedPackage, WheelSource
from envbuilder.source_tree import subdirectory_of
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.engine import Engine
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine
    from envbuilder.requirement import Requirement
    from envbuilder.source_tree import SourceTree
    from envbuilder.workshop import Workshop


def of_requirements(requirements: Iterable[Requirement], workshop: Workshop) -> dict[str, LockedPackage]:
    """Return the wheel of each direct requirement that counts on the target, by name, without its dependencies.

    Raises LockImpossibleError for those that may not be had, all at once.
    """
    environment = workshop.target.marker_environment(workshop.python_version)
    direct = [
        one
        for one in requirements
        if one.is_direct and (one.marker is None or Marker(one.marker).evaluate(environment))
    ]
    problems = [problem for one in direct if (problem := _refusal(one, workshop)) is not None]
    places: dict[str, Requirement] = {}
    for one in direct:
        other = places.setdefault(one.name, one)
        if (other.url, other.path) != (one.url, one.path):
            problems.append(
                Problem(
                    what=f"`{one.text}` asks for another {one.name} than `{other.text}` ({other.source})",
                    where=one.source,
                    fix="keep one of them",
                )
            )
    if problems:
        raise LockImpossibleError(tuple(problems))
    return {one.name: _named_where_asked(one, workshop) for one in places.values()}


def line(requirement: Requirement, package: LockedPackage, machine: Machine) -> str:
    """Return the requirement as a line that names the wheel in the cache."""
    extras = f"[{','.join(requirement.extras)}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker is not None else ""
    return f"{requirement.name}{extras} @ {wheel_path(package, machine.wheels).absolute().as_uri()}{marker}"


def of_sdist(package: LockedPackage, workshop: Workshop, *, where: Source) -> tuple[LockedPackage, tuple[str, ...]]:
    """Build the wheel of a package that an index offers as source, and return it with what it needs."""
    base, engine = _base_and_engine(package.name, workshop, where)
    archive = source_archive.fetch(package.url, expected=package.sha256, machine=workshop.machine)
    with source_archive.open_tree(archive, machine=workshop.machine) as tree:
        built = wheel_build.build(
            tree,
            name=package.name,
            version=package.version,
            base=base,
            engine=engine,
            machine=workshop.machine,
            indexes=workshop.indexes,
            exclude_newer=workshop.exclude_newer,
        )
        source = WheelSource(url=archive.url, digest=archive.digest, tools=built.tools)
    return replace(package, url=built.filename, sha256=built.sha256, source=source), built.requires


def have(lock: Lock, requirements: Iterable[Requirement], workshop: Workshop) -> None:
    """Put the wheels of a lock that no index offers into the cache; what was built elsewhere is built here again.

    Raises LockMismatchError where the model's file, or what is built, is another one than was locked.
    """
    asked: dict[str, Requirement] = {one.name: one for one in requirements if one.is_direct}
    for package in lock.packages:
        if wheel_path(package, workshop.machine.wheels).exists():
            continue
        if package.is_of_model:
            _keep_file(_file_of_model(package, workshop), package, workshop.machine)
        elif package.source is not None:
            _build_again(package, package.source, asked.get(package.name), workshop)
        elif package.is_direct:
            one = asked.get(package.name)
            archive = source_archive.fetch(
                package.url,
                expected=package.sha256,
                machine=workshop.machine,
                secret=one.secret if one is not None else None,
            )
            _keep_file(archive.path, package, workshop.machine)


def _refusal(one: Requirement, workshop: Workshop) -> Problem | None:
    if one.path is not None or _is_wheel(one):
        return None
    if one.name not in workshop.allowed:
        return Problem(
            what=f"`{one.text}` is source, and nothing is built unasked",
            where=one.source,
            fix=f"allow it: `--allow-source {one.name}`; it is built once, in the base image, without network",
        )
    if workshop.base is None:
        return _no_base(one.name, one.source)
    return None


def _no_base(name: str, where: Source) -> Problem:
    return Problem(
        what=f"{name} is to be built from source, in a base image, and it is locked for none",
        where=where,
        fix="lock for an image: leave out `--no-base`, and platforms that are none of images; or offer a wheel of it",
    )


def _base_and_engine(name: str, workshop: Workshop, where: Source) -> tuple[BaseImage, Engine]:
    if workshop.base is None or workshop.engine is None:
        raise LockImpossibleError((_no_base(name, where),))
    return workshop.base, workshop.engine


def _is_wheel(one: Requirement) -> bool:
    return one.url is not None and urlsplit(one.url).path.lower().endswith(".whl")


def _named_where_asked(one: Requirement, workshop: Workshop) -> LockedPackage:
    """Return the wheel; where a server does not give it, the line that asks for it is told too."""
    try:
        return _of_requirement(one, workshop)
    except UnreachableError as cause:
        asked = Problem(what=f"`{one.text}` asks for it", where=one.source)
        raise UnreachableError((*cause.problems, asked)) from cause


def _of_requirement(one: Requirement, workshop: Workshop) -> LockedPackage:
    machine = workshop.machine
    if one.path is not None:
        package = LockedPackage(name=one.name, version="0", url=f"./{one.path}", sha256=_sha256(one))
        _keep_file(_file_of_model(package, workshop), package, machine)
        return _described(package, one, workshop)
    url = str(one.url)
    if _is_wheel(one):
        expected = next((digest.parse(text) for text in one.hashes if text.startswith("sha256:")), None)
        archive = source_archive.fetch(url.partition("#")[0], expected=expected, machine=machine, secret=one.secret)
        _check_hashes(archive.path, one)
        shown = without_credentials(archive.url)
        package = LockedPackage(name=one.name, version="0", url=shown, sha256=archive.digest, is_direct=True)
        _keep_file(archive.path, package, machine)
        return _described(package, one, workshop)
    base, engine = _base_and_engine(one.name, workshop, one.source)
    with _opened(url, one, workshop) as (tree, shown):
        built = wheel_build.build(
            tree,
            name=one.name,
            version=None,
            base=base,
            engine=engine,
            machine=machine,
            indexes=workshop.indexes,
            exclude_newer=workshop.exclude_newer,
        )
        source = WheelSource(url=shown, digest=tree.digest, subdirectory=tree.subdirectory or None, tools=built.tools)
    return LockedPackage(name=one.name, version=built.version, url=built.filename, sha256=built.sha256, source=source)


@contextmanager
def _opened(url: str, one: Requirement, workshop: Workshop) -> Iterator[tuple[SourceTree, str]]:
    """Give the source that a requirement names, and what it is called in a lock."""
    machine = workshop.machine
    if url.startswith("git+"):
        repository = GitRepository.parse(url, secret=one.secret, source=one.source)
        commit = git_checkout.resolve(repository, machine=machine)
        with git_checkout.open_tree(repository, commit=commit, machine=machine) as tree:
            yield tree, f"git+{repository.url}@{commit}"
        return
    expected = next((digest.parse(text) for text in one.hashes if text.startswith("sha256:")), None)
    archive = source_archive.fetch(url.partition("#")[0], expected=expected, machine=machine, secret=one.secret)
    _check_hashes(archive.path, one)
    with source_archive.open_tree(archive, subdirectory=subdirectory_of(url), machine=machine) as tree:
        yield tree, archive.url


def _described(package: LockedPackage, one: Requirement, workshop: Workshop) -> LockedPackage:
    """Return the package with the version that the wheel says, once it is seen to be what was asked for."""
    found = wheel_archive.read(wheel_path(package, workshop.machine.wheels), where=one.source)
    if found.name != one.name:
        raise LockImpossibleError(
            f"`{one.text}` is a wheel of {found.name}", where=one.source, fix=f"ask for it as `{found.name}`"
        )
    if not found.tags & workshop.target.tags(workshop.python_version).keys():
        raise LockImpossibleError(
            f"`{package.filename}` does not fit Python {workshop.python_version} on {workshop.target.subdir}",
            where=one.source,
            fix="name a wheel that does, or ask for the Python that it was made for",
        )
    return replace(package, version=found.version)


def _sha256(one: Requirement) -> digest.Digest:
    """Return the digest of a wheel of the model, which was taken when the model was read."""
    return next(digest.parse(text) for text in one.hashes if text.startswith("sha256:"))


def _check_hashes(path: Path, one: Requirement) -> None:
    if not one.hashes:
        return
    for text in one.hashes:
        name, _, expected = text.partition(":")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, name).hexdigest() == expected:
                return
    raise LockMismatchError(
        f"what `{one.text}` names has another digest than those it is allowed to have",
        where=one.source,
        fix="correct the `--hash`, or ask who runs that server why the file changed",
    )


def _file_of_model(package: LockedPackage, workshop: Workshop) -> Path:
    """Return the model's file of a locked wheel; what it holds is checked where it is copied."""
    where = Source(file=package.url.removeprefix("./"))
    root = workshop.model.resolve() if workshop.model is not None else None
    path = (root / package.url).resolve() if root is not None else None
    if root is None or path is None or not path.is_relative_to(root) or not path.is_file():
        raise LockMismatchError(
            f"the lock needs the wheel `{package.filename}` of the model, which has no such file",
            where=where,
            fix="restore the model's file, or lock again",
        )
    return path


def _keep_file(path: Path, package: LockedPackage, machine: Machine) -> None:
    """Put a wheel into the cache, where its digest is the locked one."""
    target = wheel_path(package, machine.wheels)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk.temporary_directory(machine.wheels) as work:
        new = work / "wheel"
        shutil.copyfile(path, new)
        found = digest.of_file(new)
        if found != package.sha256:
            raise LockMismatchError(
                f"the wheel `{package.filename}` has {found}, locked is {package.sha256}",
                where=Source(file=str(path)),
                fix="restore the file, or lock again if it was replaced on purpose",
            )
        os.replace(new, target)  # noqa: PTH105 - over one that another build put there


def _build_again(package: LockedPackage, source: WheelSource, one: Requirement | None, workshop: Workshop) -> None:
    where = one.source if one is not None else Source(file=source.url)
    base, engine = _base_and_engine(package.name, workshop, where)
    with _opened_again(source, one, where, workshop) as tree:
        built = wheel_build.build(
            tree,
            name=package.name,
            version=package.version,
            base=base,
            engine=engine,
            machine=workshop.machine,
            tools=source.tools,
        )
    if built.sha256 != package.sha256:
        raise LockMismatchError(
            f"`{package.filename}` came out of its build with {built.sha256}, locked is {package.sha256}",
            where=where,
            fix=f"lock again with `--update {package.name}`; what compiles code may differ from machine to machine",
        )


@contextmanager
def _opened_again(
    source: WheelSource, one: Requirement | None, where: Source, workshop: Workshop
) -> Iterator[SourceTree]:
    machine, secret = workshop.machine, one.secret if one is not None else None
    if source.url.startswith("git+"):
        url = f"{source.url}#subdirectory={source.subdirectory}" if source.subdirectory is not None else source.url
        repository = GitRepository.parse(url, secret=secret, source=where)
        with git_checkout.open_tree(repository, commit=str(repository.commit), machine=machine) as tree:
            found = tree
            _check_tree(found, source, where)
            yield found
        return
    archive = source_archive.fetch(source.url, expected=source.digest, machine=machine, secret=secret)
    with source_archive.open_tree(archive, subdirectory=source.subdirectory or "", machine=machine) as tree:
        yield tree


def _check_tree(tree: SourceTree, source: WheelSource, where: Source) -> None:
    if tree.digest != source.digest:
        raise LockMismatchError(
            f"the commit holds {tree.digest}, locked is {source.digest}",
            where=where,
            fix="ask who runs the repository; lock again if you trust it",
        )
