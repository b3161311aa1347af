"""The build context: all the files that a Dockerfile engine needs, as one value that becomes a folder or a tar."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from envbuilder import conda_environment, digest, disk, dockerfile, template_files, uv
from envbuilder.dockerfile import DockerfileInputs
from envbuilder.errors import BaseImageError, InvalidFileError, Source, UnreachableError
from envbuilder.image_plan import (
    CONTRACT_FILE,
    ENVIRONMENT_PREFIX,
    EXAMPLE_FILE,
    LOCK_FILE,
    MODEL_DIRECTORY,
    SERVER_PREFIX,
    prefix_entries,
)
from envbuilder.installer import compile_trees, conda_link, conda_packages, merge_trees, wheels
from envbuilder.layer import Entry, with_parents
from envbuilder.locked import LockedPackage
from envbuilder.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from envbuilder.conda_package import CondaPackage
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine

_RATTLER_PYTHON: Final = (3, 10)

Variant = Literal["buildkit", "classic"]
Part = Literal["image", "environment"]
"""Of what a context makes: the whole image, or the environment's own image, without a model."""


_CHUNK: Final = 1 << 20
_PIP: Final = re.compile(r"^pip==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """The files of a build, sorted by path; large ones are named by where they are, not held."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(
        cls,
        plan: ImagePlan,
        *,
        variant: Variant,
        pip_wheel: Path,
        part: Part = "image",
        ca: bytes | None = None,
        conda_files: Mapping[str, Path] | None = None,
        wheel_files: Mapping[str, Path] | None = None,
        system: Iterable[Entry] = (),
    ) -> BuildContext:
        """Put together what the plan's Dockerfile refers to.

        `conda_files` are the conda packages, `wheel_files` the wheels that no index has, by the package's name;
        `system` are the files of Debian packages.

        `ca` goes into the context of the classic builder only, for its first stage; BuildKit gets it as a secret.
        """
        ca = ca if variant == "classic" else None
        inputs = DockerfileInputs.of(
            plan,
            pip_wheel=pip_wheel.name,
            buildkit=variant == "buildkit",
            has_ca=ca is not None,
            has_model=part == "image",
        )
        files: dict[str, bytes | Path] = {
            "Dockerfile": dockerfile.render(inputs, plan.templates).encode(),
            "environment.txt": _requirements(plan.lock.packages),
            "server.txt": _requirements(plan.server_packages),
            "installer/uv.txt": template_files.read("installer/uv.txt"),
            "installer/finish.py": template_files.read("installer/finish.py"),
            "installer/compile_trees.py": Path(compile_trees.__file__).read_bytes(),
            f"installer/{pip_wheel.name}": pip_wheel,
        }
        if ca is not None:
            files["installer/ca.crt"] = ca
        files |= {f"wheels/{path.name}": path for path in (wheel_files or {}).values()}
        for path, content in plan.kit.files:
            files[f"server/{plan.site_packages}/{path}"] = content
        entries = [Entry(path=path, mode=0o644, content=content) for path, content in files.items()]
        if plan.lock.conda_packages:
            entries += _conda(plan.lock.conda_packages, conda_files or {})
        else:
            skeleton = prefix_entries(ENVIRONMENT_PREFIX, plan.base.interpreter)
            entries += _moved(skeleton, ENVIRONMENT_PREFIX, "environment")
        entries += _moved(prefix_entries(SERVER_PREFIX, plan.base.interpreter), SERVER_PREFIX, "server")
        entries += _system(system)
        if part == "image":
            entries += _model(plan)
        return cls(entries=tuple(with_parents(entries)))

    @classmethod
    def of_model(cls, plan: ImagePlan, *, environment: str, variant: Variant) -> BuildContext:
        """Put together what it takes to lay the model over the environment's own image, named `environment`."""
        inputs = DockerfileInputs.of(
            plan, pip_wheel="", buildkit=variant == "buildkit", has_ca=False, environment=environment
        )
        file = Entry(path="Dockerfile", mode=0o644, content=dockerfile.render(inputs).encode())
        return cls(entries=tuple(with_parents([file, *_model(plan)])))

    def write(self, directory: Path, *, link: bool = False) -> None:
        """Write the context as a folder, whole or not at all; raises InvalidFileError when it exists and is not empty.

        `link` makes hard links of large files where that is possible: for a folder that is gone after the build.
        """
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InvalidFileError(
                "the output exists already and is not an empty folder",
                where=Source(file=str(directory)),
                fix="remove it, or choose another name",
            )
        with disk.new_directory(directory) as new:
            for entry in self.entries:
                _write(entry, new / entry.path, link=link)

    def tar_stream(self) -> Iterator[bytes]:
        """Give the context as a tar, piece by piece; the same context gives the same bytes."""
        for entry in self.entries:
            info = tarfile.TarInfo(entry.path)
            info.mode = entry.mode
            if entry.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
                yield _header(info)
            elif isinstance(entry.content, bytes):
                info.size = len(entry.content)
                yield _header(info) + entry.content + bytes(-info.size % tarfile.BLOCKSIZE)
            elif entry.content is not None:
                yield from _file(info, entry.content)
            else:
                info.type = tarfile.DIRTYPE
                yield _header(info)
        yield bytes(2 * tarfile.BLOCKSIZE)


def make(plan: ImagePlan, *, variant: Variant, part: Part = "image", machine: Machine) -> BuildContext:
    """Return the plan's build context, downloading pip's wheel and conda packages where the cache does not hold them.

    Raises BaseImageError for conda packages on a base with whose Python rattler does not run.
    """
    conda_files: dict[str, Path] = {}
    brought = [one for one in plan.lock.packages if not one.is_of_index]
    if plan.lock.conda_packages:
        _check_rattler(plan)
        # The build stage checks them again, but could not mend anything.
        conda_packages.drop_damaged(plan.lock.conda_packages, machine)
        conda_environment.fetcher(plan.spec, machine)(plan.lock.conda_packages)
        conda_files = {one.name: conda_packages.archive_path(one, machine) for one in plan.lock.conda_packages}
    authority = machine.settings.ca_file
    return BuildContext.of(
        plan,
        variant=variant,
        part=part,
        pip_wheel=_pip_wheel(plan, machine),
        ca=authority.read_bytes() if authority is not None else None,
        conda_files=conda_files,
        wheel_files={one.name: wheels.wheel_path(one, machine.wheels) for one in brought},
        system=_of_debian(plan, machine),
    )


def _of_debian(plan: ImagePlan, machine: Machine) -> tuple[Entry, ...]:
    if plan.addition is None or not plan.addition.packages:
        return ()
    from envbuilder.bases import debian_addition  # noqa: PLC0415 - slow to import, and few models need it

    return debian_addition.entries(plan.addition, machine=machine)


def _system(entries: Iterable[Entry]) -> list[Entry]:
    """Return the files of Debian packages in a folder of the context, where each hard link is a file of its own."""
    entries = tuple(entries)
    contents = {entry.path: entry.content for entry in entries}
    return [
        replace(
            entry,
            path=f"system/{entry.path}",
            content=contents[entry.hard_link] if entry.hard_link is not None else entry.content,
            hard_link=None,
        )
        for entry in entries
    ]


def _check_rattler(plan: ImagePlan) -> None:
    major, minor, *_ = (int(part) for part in plan.base.interpreter.minor.split("."))
    if (major, minor) < _RATTLER_PYTHON:
        least = ".".join(str(number) for number in _RATTLER_PYTHON)
        raise BaseImageError(
            f"conda packages are linked in the build by a program for Python {least} or newer, "
            f"`{plan.base.reference}` provides {plan.base.interpreter.version}",
            where=Source(file=plan.base.reference),
            fix="choose a newer base, the environment's Python is conda's own; or pass `--engine oci`",
        )


def _conda(packages: Iterable[CondaPackage], files: Mapping[str, Path]) -> list[Entry]:
    """Return the packages' files, each in a folder of its package, and what links them."""
    packages = tuple(packages)
    python = next(one for one in packages if one.name == "python")
    places = {one.name: f"{one.name}/{one.filename}" for one in packages}
    job = conda_packages.job(
        packages, prefix=ENVIRONMENT_PREFIX, subdir=python.subdir, place=lambda one: (places[one.name], None)
    )
    contents: dict[str, bytes | Path] = {
        "conda/job.json": json.dumps(job, indent=1, sort_keys=True).encode() + b"\n",
        "installer/conda_link.py": Path(conda_link.__file__).read_bytes(),
        "installer/merge_trees.py": Path(merge_trees.__file__).read_bytes(),
        "installer/rattler.txt": template_files.read("installer/rattler.txt"),
        **{f"conda/{places[name]}": file for name, file in files.items()},
    }
    return [Entry(path=path, mode=0o644, content=content) for path, content in contents.items()]


def _model(plan: ImagePlan) -> list[Entry]:
    entries = plan.model_entries()
    beside = {CONTRACT_FILE: "contract.json", EXAMPLE_FILE: "example.json", LOCK_FILE: "conda-lock.yml"}
    found = _moved((entry for entry in entries if f"/{entry.path}" not in beside), MODEL_DIRECTORY, "model")
    return found + [_renamed(one, beside[f"/{one.path}"]) for one in entries if f"/{one.path}" in beside]


def _pip_wheel(plan: ImagePlan, machine: Machine) -> Path:
    line = _PIP.search(template_files.read("installer/pip.txt").decode())
    if line is None:
        message = "`installer/pip.txt` does not pin pip"
        raise ValueError(message)
    known = LockedPackage(
        name="pip",
        version=line[1],
        url=f"pip-{line[1]}-py3-none-any.whl",
        sha256=digest.of_hex(line[2]),
    )
    path = wheels.wheel_path(known, machine.wheels)
    if not path.exists():
        interpreter = plan.base.interpreter
        if machine.settings.offline:
            raise UnreachableError(
                f"`{known.filename}`, with which the build of a Dockerfile begins, is not in the caches, "
                "and `--offline` forbids to download it",
                fix="render or build once without `--offline`, or use `--engine oci`, which needs no pip",
            )
        found = uv.compile_lines(
            (line[0],),
            python_version=interpreter.version,
            target=Target.of_image(interpreter, plan.base.platform),
            settings=machine.settings,
            reporter=machine.reporter,
            dependencies=False,
        )
        wheels.fetch(found, machine)
    return path


def _requirements(packages: Iterable[LockedPackage]) -> bytes:
    lines = [
        f"{one.name}=={one.version} --hash={one.sha256}\n"
        if one.is_of_index
        else f"{one.name} @ file:///build/wheels/{quote(one.filename)} --hash={one.sha256}\n"
        for one in packages
    ]
    return "".join(sorted(lines)).encode()


def _moved(entries: Iterable[Entry], prefix: str, folder: str) -> list[Entry]:
    return [_renamed(entry, folder + entry.path.removeprefix(prefix.lstrip("/"))) for entry in entries]


def _renamed(entry: Entry, path: str) -> Entry:
    return Entry(path=path, mode=entry.mode, content=entry.content, link=entry.link)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(format=tarfile.PAX_FORMAT)


def _file(info: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        info.size = left = os.fstat(stream.fileno()).st_size
        yield _header(info)
        while left > 0:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise InvalidFileError(
                    "the file became shorter while it was read", where=Source(file=str(path)), fix="build again"
                )
            left -= len(chunk)
            yield chunk
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _write(entry: Entry, path: Path, *, link: bool) -> None:
    if entry.link is not None:
        path.symlink_to(entry.link)
    elif entry.is_directory:
        path.mkdir()
        path.chmod(entry.mode)
    elif isinstance(entry.content, Path):
        if not (link and _linked(entry.content, path, entry.mode)):
            shutil.copyfile(entry.content, path)
            path.chmod(entry.mode)
    else:
        path.write_bytes(entry.content or b"")
        path.chmod(entry.mode)


def _linked(source: Path, target: Path, mode: int) -> bool:
    """Make a hard link where the file has the right mode and lies on the same disk."""
    try:
        if source.is_symlink() or source.stat().st_mode & 0o777 != mode:
            return False
        os.link(source, target)
    except OSError:
        return False
    return True
