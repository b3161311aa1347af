"""The program that links conda packages with rattler, each into a stage of its own that believes it is the prefix.

Standard library and rattler only, so that a build stage runs the same file. One job of JSON comes on standard input,
one answer leaves on standard output, and that answer decides: rattler's threads can abort an interpreter that ends.

A package is linked alone: rattler is told of Python, which decides where modules go, and to leave it as it is. So a
stage depends on its package and on Python only. Link scripts never run. What differs from one machine to the next is
taken out of `conda-meta`; bytecode is left out, because it is made anew, valid whatever the times of files are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rattler import RepoDataRecord
    from rattler.package_streaming import PackageArchive

_COMMAND: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\s*=")
_OF_ONE_MACHINE: Final = (
    "extracted_package_dir",
    "link",
    "package_tarball_full_path",
    "requested_spec",
    "arch",
    "platform",
)
_OURS: Final = frozenset({"bin", "lib", "python-scripts", "site-packages"})
_CHUNK: Final = 1 << 20


class PackageError(Exception):
    """A package that cannot be linked, with the kind of the reason: `digest`, or `content`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


async def link_all(job: dict[str, Any]) -> list[dict[str, str]]:
    """Link the job's packages that have a stage; return a problem for each that cannot be."""
    python = next((one for one in job["packages"] if one["name"] == "python"), None)
    problems: list[dict[str, str]] = []
    record = None
    if python is not None:
        try:
            record = await _record(python)
        except PackageError as cause:
            return [_problem(python, cause)]
    for package in job["packages"]:
        if package["stage"] is None:
            continue
        try:
            await _link(package, record, job)
        except PackageError as cause:
            problems.append(_problem(package, cause))
    return problems


def _problem(package: dict[str, Any], cause: PackageError) -> dict[str, str]:
    return {"name": package["name"], "kind": cause.kind, "text": str(cause)}


async def _record(package: dict[str, Any]) -> RepoDataRecord:
    """Check the archive, and return what it says about itself."""
    from rattler import RepoDataRecord  # noqa: PLC0415
    from rattler.package_streaming import PackageArchive  # noqa: PLC0415

    if sha256_of(package["archive"]) != package["sha256"]:
        raise PackageError("digest", "the file is not the one that was locked")
    try:
        archive = await PackageArchive.from_path(package["archive"])
        about = await archive.read_files(["info/paths.json", "info/files", "info/has_prefix", "info/link.json"])
        links = await _links(archive)
        record = await RepoDataRecord.from_package_archive(package["archive"])
    except Exception as cause:  # rattler raises many kinds for a broken archive
        raise PackageError("content", f"it cannot be read: {_first_line(cause)}") from cause
    check(about, links)
    found = (record.name.normalized, str(record.version), str(record.build))
    if found != (package["name"], package["version"], package["build"]):
        raise PackageError("content", f"it says that it is {' '.join(found)}")
    return record


def sha256_of(path: str) -> str:
    """Return the digest of a file in hex digits; of nothing where there is no file."""
    state = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            while chunk := stream.read(_CHUNK):
                state.update(chunk)
    except FileNotFoundError:
        pass
    return state.hexdigest()


async def _links(archive: PackageArchive) -> set[str]:
    """Return the paths that are symbolic links in the archive, or hard links to one."""
    links: set[str] = set()
    hard: list[tuple[str, str]] = []
    for section in ("info", "pkg"):
        async for entry in archive.stream(section):
            if entry.is_symlink:
                links.add(_plain(entry.name))
            elif entry.is_hardlink:
                hard.append((_plain(entry.name), _plain(entry.link_target or "")))
    for name, target in (*hard, *reversed(hard)):
        if target in links:
            links.add(name)
    return links


def _plain(path: str) -> str:
    return str(PurePosixPath(path.lstrip("/")))


def check(about: dict[str, bytes | None], links: set[str]) -> None:
    """Raise PackageError where a path leaves the prefix by `..`, or where rattler would read or write through a link.

    A link may lead anywhere, as in any image; but what it leads to on this machine must not come into the package.
    """
    try:
        paths, replaced = _listed(about)
        link = json.loads(about["info/link.json"] or b"{}")
        commands = [str(one) for one in (link.get("noarch") or {}).get("entry_points") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise PackageError("content", f"what it says about its files cannot be read: {_first_line(cause)}") from cause
    _check_links(links, is_python=bool(commands) or any(path.startswith("site-packages/") for path in paths))
    for path in paths:
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise PackageError("content", f"it holds a path that leaves the environment: {path!r}")
        if links & {str(parent) for parent in pure.parents}:
            raise PackageError("content", f"it holds a path below a link: {path!r}")
    for path in replaced:
        if _plain(path) in links:
            raise PackageError("content", f"it wants the prefix replaced in a link: {path!r}")
    for command in commands:
        if not _COMMAND.match(command):
            raise PackageError("content", f"it has an entry point whose name is no file name: {command!r}")


def _check_links(links: set[str], *, is_python: bool) -> None:
    """Raise PackageError for a link where rattler itself writes, whatever the package lists."""
    for path in links:
        if path == "conda-meta" or (is_python and (path in _OURS or path.startswith("lib/python"))):
            raise PackageError("content", f"it holds a link where modules and records go: {path!r}")


def _listed(about: dict[str, bytes | None]) -> tuple[list[str], list[str]]:
    """Return the paths that are linked, and those in which the prefix is replaced."""
    if about["info/paths.json"] is not None:
        listed = json.loads(about["info/paths.json"])["paths"]
        return [str(one["_path"]) for one in listed], [
            str(one["_path"]) for one in listed if one.get("prefix_placeholder")
        ]
    # As packages had it before there was paths.json: `PATH`, or `PLACEHOLDER MODE PATH`.
    lines = (about["info/has_prefix"] or b"").decode().splitlines()
    return (about["info/files"] or b"").decode().splitlines(), [line.split()[-1].strip("\"'") for line in lines if line]


async def _link(package: dict[str, Any], python: RepoDataRecord | None, job: dict[str, Any]) -> None:
    from rattler import Config, Subdir, install  # noqa: PLC0415

    record = await _record(package)
    stage = Path(package["stage"])
    top = stage / job["prefix"].lstrip("/")
    is_python = package["name"] == "python"
    cache = stage.with_name(f"{stage.name}.cache")
    try:
        await install(
            [record] if is_python or python is None else [python, record],
            target_prefix=top,
            cache_dir=cache,
            installed_packages=[],
            ignored_packages=set() if is_python else {"python"},
            platform=Subdir(job["subdir"]),
            execute_link_scripts=False,
            show_progress=False,
            alternative_target_prefix=job["prefix"],
            # Nothing is asked for over the network, but rattler makes a client all the same, and cannot where there are
            # no certificates, as in a base without ca-certificates.
            config=Config.from_toml("tls-no-verify = true"),
        )
    except OSError:
        raise
    except Exception as cause:  # rattler raises many kinds for a broken archive
        raise PackageError("content", f"it cannot be linked: {_first_line(cause)}") from cause
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    normalise(top, package)


def normalise(top: Path, package: dict[str, Any]) -> None:
    """Leave in a linked prefix only what every machine would write: modes, `conda-meta`, no bytecode."""
    (top / "CACHEDIR.TAG").unlink(missing_ok=True)
    removed = set()
    for folder, folders, files in os.walk(top):
        Path(folder).chmod(0o755)
        del folders
        for name in files:
            path = Path(folder, name)
            if _is_cached(path):
                path.unlink()
                removed.add(path.relative_to(top).as_posix())
            elif not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    meta = top / "conda-meta"
    file = meta / f"{package['name']}-{package['version']}-{package['build']}.json"
    value = json.loads(file.read_bytes())
    for key in _OF_ONE_MACHINE:
        value.pop(key, None)
    value |= {key: package[key] for key in ("url", "sha256", "md5", "depends", "subdir") if package[key] is not None}
    value |= {"fn": PurePosixPath(package["url"]).name, "channel": package["channel"], "requested_specs": []}
    value["files"] = [path for path in value["files"] if path not in removed]
    paths = [one for one in value["paths_data"]["paths"] if one["_path"] not in removed]
    for one in paths:
        if (top / one["_path"]).is_symlink():
            # Of what the link leads to on this machine.
            one.pop("sha256_in_prefix", None)
            one.pop("size_in_bytes", None)
    value["paths_data"]["paths"] = paths
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    (meta / "history").write_bytes(b"")


def _is_cached(path: Path) -> bool:
    """Return True for the bytecode of a module that lies beside its folder of bytecode."""
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    return path.suffix == ".pyc" and path.parent.name == "__pycache__" and source.exists()


def _first_line(cause: BaseException) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _install_here(job: dict[str, Any], folder: Path) -> int:
    """In a build stage: link the packages that lie beside the job, and put them together at the prefix."""
    sys.path.insert(0, str(Path(__file__).parent))
    import merge_trees  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - it lies beside this file

    os.umask(0o022)
    for package in job["packages"]:
        package["archive"] = str(folder / package["archive"])
        package["stage"] = str(folder / "stages" / package["name"])
    problems = asyncio.run(link_all(job))
    for problem in problems:
        sys.stderr.write(f"{problem['name']}: {problem['text']}\n")
    if problems:
        return 1
    trees = [(one["name"], Path(one["stage"])) for one in job["packages"]]
    try:
        contested = merge_trees.contested(trees)
    except merge_trees.ClashError as cause:
        sys.stderr.write(f"{cause}\n")
        return 1
    for path, owners in contested.items():
        sys.stderr.write(f"/{path} is in {' and in '.join(owners)}: the last one's is taken\n")
    merge_trees.merge(trees, Path("/"), move=True)
    shutil.rmtree(folder / "stages")
    return 0


def main() -> None:
    """Run the job of the file that is named, or of standard input, and end without waiting for rattler's threads."""
    code = 0
    if len(sys.argv) > 1:
        file = Path(sys.argv[1])
        code = _install_here(json.loads(file.read_bytes()), file.parent)
    else:
        sys.stdout.write(json.dumps(asyncio.run(link_all(json.loads(sys.stdin.read())))))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
