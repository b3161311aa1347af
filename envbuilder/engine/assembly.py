"""The layers that the embedded engine puts on a base: straight from the lock, each kept under what it was made from.

From the base up: one for Debian packages where there are any, one for each large wheel, one for all small ones with the
skeleton of the environment, the server, the model. So only what changed is made again, and models share what they have
in common.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import cache_lock, conda_environment, digest, disk, layer, snapshot
from envbuilder.errors import BuildFailedError, Source
from envbuilder.image_plan import ENVIRONMENT_PREFIX, SERVER_PREFIX, prefix_entries
from envbuilder.installer import conda_packages, merge_trees, wheels
from envbuilder.oci_image import Descriptor, Image, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.image_plan import ImagePlan
    from envbuilder.installer.wheels import Tree
    from envbuilder.machine import Machine

_LARGE: Final = 4_000_000
"""Bytes of a wheel from which on it gets a layer of its own."""

_MOST_LARGE: Final = 40
"""Engines take at most 127 layers; the base brings some."""


def layers(plan: ImagePlan, base: Image, *, compiler: Image | None, machine: Machine) -> list[tuple[Layer, bool]]:
    """Return the plan's layers from the base up, each with True when it was there already; makes those that are not.

    The Python of the image `compiler` writes the bytecode: the base itself, or one like it that runs here. Where there
    is none, there is no bytecode.
    """
    if plan.lock.conda_packages and compiler is not base:
        raise BuildFailedError(
            f"a conda environment is made by its own Python, and that of `{base.platform}` does not run here",
            where=Source(file="--platform"),
            fix="build on a machine of that platform, or with `--engine docker` where Docker emulates it",
        )
    makers = _makers(plan, compiler, machine)
    made = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda make: make(), makers):
            made.append(result)
            machine.reporter.progress("layers", len(made), len(makers))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes one layer, or finds it made."""

    key: object
    comment: str
    write: Callable[[], Path | tuple[layer.Entry, ...]]
    """Gives the directory or the entries that the layer holds."""

    machine: Machine

    def __call__(self) -> tuple[Layer, bool]:
        name = digest.hex_of(digest.of_json([self.key, layer.LAYOUT_VERSION]))
        record = self.machine.layers / f"{name}.json"
        known = self._known(record)
        if known is not None:
            return known, True
        # A few names for all layers: files of locks stay.
        with cache_lock.turn(self.machine.settings.cache_dir, f"layers-{name[:2]}"):
            known = self._known(record)
            return (known, True) if known is not None else (self._made(record), False)

    def _known(self, record: Path) -> Layer | None:
        known = _recorded(record, self.comment)
        return known if known is not None and self.machine.store.holds(known.blob) else None

    def _made(self, record: Path) -> Layer:
        content = self.write()
        with disk.full_disk_named(self.machine.settings.cache_dir):
            entries = layer.tree_entries(content) if isinstance(content, Path) else content
            made = layer.write_layer(self.machine.store, entries, comment=self.comment)
        if isinstance(content, Path):
            snapshot.keep(made, content, snapshots=self.machine.snapshots)
        disk.write_file(record, json.dumps({"blob": made.blob.to_dict(), "diff_id": made.diff_id}).encode())
        return made


def _recorded(record: Path, comment: str) -> Layer | None:
    try:
        value = json.loads(record.read_bytes())
        return Layer(blob=Descriptor.parse(value["blob"]), diff_id=digest.parse(value["diff_id"]), comment=comment)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _makers(plan: ImagePlan, compiler: Image | None, machine: Machine) -> list[_Maker]:
    wheels.fetch((*plan.lock.packages, *plan.server_packages), machine)
    # The base is unpacked only when a package is new.
    root = _Lower(compiler, machine) if compiler is not None else None
    environment = (
        _conda_environment(plan, root, machine)
        if plan.lock.conda_packages and root is not None
        else _environment(plan, root, machine)
    )
    large = sorted((tree for tree in environment.trees if tree.size >= _LARGE), key=lambda tree: (-tree.size, tree.key))
    large = large[:_MOST_LARGE]
    small = [tree for tree in environment.trees if tree not in large]
    makers = [*_system(plan, machine)]
    makers += [
        _Maker(
            key=["tree", tree.key],
            comment=f"{tree.package.name} {tree.package.version}",
            write=lambda tree=tree: tree.directory,  # type: ignore[misc]
            machine=machine,
        )
        for tree in large
    ]
    extra = (*environment.skeleton, *environment.decided(large))
    makers.append(
        _Maker(
            key=["environment", [tree.key for tree in small], _meaning(extra)],
            comment=f"environment: {len(small)} small packages" if large else f"environment: {len(small)} packages",
            write=lambda: _merged(machine, "environment", small, extra),
            machine=machine,
        )
    )
    interpreter = plan.base.interpreter
    server = _by_key(
        wheels.grow(
            plan.server_packages,
            prefix=SERVER_PREFIX,
            interpreter=interpreter,
            lower=root,
            machine=machine,
        )
    )
    skeleton = prefix_entries(SERVER_PREFIX, interpreter)
    made_of = ["server", plan.kit.digest, [tree.key for tree in server], _meaning(skeleton)]
    makers.append(
        _Maker(
            key=made_of if root is not None else [*made_of, "without bytecode"],
            comment="server",
            write=lambda: _merged(machine, "server", server, (*skeleton, *_code(plan, root, machine))),
            machine=machine,
        )
    )
    example = digest.of_bytes(plan.model.example_request or b"")
    contract = digest.of_bytes(plan.model.contract)
    key = ["model", plan.files.digest, example, contract, digest.of_bytes(plan.lock_text)]
    makers.append(_Maker(key=key, comment="model", write=plan.model_entries, machine=machine))
    return makers


def _system(plan: ImagePlan, machine: Machine) -> list[_Maker]:
    """Return the layer of Debian packages, which lies on the base and below all that may need them."""
    addition = plan.addition
    if addition is None or not addition.packages:
        return []
    from envbuilder.bases import debian_addition  # noqa: PLC0415 - slow to import, and few models need it

    return [
        _Maker(
            key=["system", addition.digest],
            comment=f"system: {' '.join(plan.system.names)}",
            write=lambda: debian_addition.entries(addition, machine=machine),
            machine=machine,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Environment:
    """What lies below the environment's prefix."""

    trees: tuple[Tree, ...]
    """In the order in which they would be installed: where several own a path, the last one's file counts."""

    skeleton: tuple[layer.Entry, ...] = ()
    contested: tuple[tuple[str, str], ...] = ()
    """Paths that several trees own, each with the key of the tree whose file counts."""

    def decided(self, large: list[Tree]) -> tuple[layer.Entry, ...]:
        """Return the files that count where a large tree, whose layer is below, owns the path too."""
        directories = {tree.key: tree.directory for tree in self.trees}
        below = [tree.directory for tree in large]
        return tuple(
            _entry(path, directories[key] / path)
            for path, key in self.contested
            if any(os.path.lexists(directory / path) for directory in below)
        )


def _by_key(trees: Iterable[Tree]) -> tuple[Tree, ...]:
    return tuple(sorted(trees, key=lambda tree: tree.key))


def _environment(plan: ImagePlan, root: _Lower | None, machine: Machine) -> _Environment:
    trees = wheels.grow(
        plan.lock.packages,
        prefix=ENVIRONMENT_PREFIX,
        interpreter=plan.base.interpreter,
        lower=root,
        machine=machine,
    )
    return _Environment(trees=_by_key(trees), skeleton=prefix_entries(ENVIRONMENT_PREFIX, plan.base.interpreter))


def _conda_environment(plan: ImagePlan, root: _Lower, machine: Machine) -> _Environment:
    """Return conda's packages and the wheels beside them; the prefix brings its own Python, and no skeleton."""
    lock = plan.lock
    fetch = conda_environment.fetcher(plan.spec, machine)
    # Sizes decide the layers, so all files are here, also those of trees that were made long ago.
    fetch(lock.conda_packages)
    interpreter = conda_environment.interpreter(lock, plan.base)
    packages = conda_packages.grow(
        lock.conda_packages,
        prefix=ENVIRONMENT_PREFIX,
        interpreter=interpreter,
        lower=root,
        fetch=fetch,
        machine=machine,
    )
    needed = conda_packages.closure(lock.conda_packages, ("python",))
    runtime = [tree for tree in packages if tree.package.name in needed]
    beside = wheels.grow(
        lock.packages,
        prefix=ENVIRONMENT_PREFIX,
        interpreter=interpreter,
        lower=lambda: (*root(), _merged(machine, "python", runtime, ())),
        machine=machine,
    )
    trees = (*packages, *beside)
    named = {tree.key: f"{tree.package.name} {tree.package.version}" for tree in trees}
    try:
        contested = merge_trees.contested([(tree.key, tree.directory) for tree in trees])
    except merge_trees.ClashError as cause:
        owners = " and ".join(named[key] for key in cause.owners)
        raise BuildFailedError(
            f"`/{cause.path}` is a directory in one of {owners}, and something else in another",
            fix="leave one of these packages out, or choose other versions",
        ) from cause
    for path, keys in contested.items():
        owners = " and in ".join(named[key] for key in keys)
        machine.reporter.warning(f"`/{path}` is in {owners}: the last one's is taken")
    return _Environment(trees=trees, contested=tuple((path, keys[-1]) for path, keys in contested.items()))


def _entry(path: str, file: Path) -> layer.Entry:
    if file.is_symlink():
        return layer.Entry(path=path, mode=0o777, link=str(file.readlink()))
    mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
    return layer.Entry(path=path, mode=mode, content=file.read_bytes())


class _Lower:
    """The directories of the image whose Python writes the bytecode, unpacked when first asked for."""

    def __init__(self, image: Image, machine: Machine) -> None:
        self._image = image
        self._machine = machine
        self._found: tuple[Path, ...] | None = None

    def __call__(self) -> tuple[Path, ...]:
        if self._found is None:
            machine = self._machine
            self._found = (snapshot.of_chain(self._image.layers, store=machine.store, snapshots=machine.snapshots),)
        return self._found


def _meaning(entries: tuple[layer.Entry, ...]) -> list[list[str | int | None]]:
    return [[entry.path, entry.mode, entry.link, _digest_of(entry)] for entry in entries]


def _code(plan: ImagePlan, root: _Lower | None, machine: Machine) -> tuple[layer.Entry, ...]:
    """Return the server's own modules with their bytecode, as entries held in memory."""
    top = f"{SERVER_PREFIX.lstrip('/')}/{plan.site_packages}"
    with disk.temporary_directory(machine.trees) as work:
        for path, content in plan.kit.files:
            disk.write_file(work / "server" / top / path, content)
        if root is not None:
            wheels.compile_bytecode(work, ["server"], interpreter=plan.base.interpreter, lower=root())
        return tuple(
            entry if not isinstance(entry.content, Path) else _in_memory(entry, entry.content)
            for entry in layer.tree_entries(work / "server")
        )


def _in_memory(entry: layer.Entry, path: Path) -> layer.Entry:
    return layer.Entry(path=entry.path, mode=entry.mode, content=path.read_bytes())


def _merged(machine: Machine, name: str, trees: Iterable[Tree], extra: tuple[layer.Entry, ...]) -> Path:
    """Return a directory with the files of all trees (hard links), the last winning, and the extra entries."""
    trees = tuple(trees)
    contents = [[tree.key for tree in trees], _meaning(extra)]
    target = machine.trees / f"{name}-{digest.short(digest.of_json(contents))}"
    if not target.is_dir():
        with disk.new_directory(target) as directory:
            merge_trees.merge([(tree.key, tree.directory) for tree in trees], directory)
            for entry in extra:
                _write(entry, directory / entry.path)
    return target


def _digest_of(entry: layer.Entry) -> str | None:
    return digest.of_bytes(entry.content) if isinstance(entry.content, bytes) else None


def _write(entry: layer.Entry, path: Path) -> None:
    if entry.link is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(entry.link)
    elif isinstance(entry.content, bytes):
        disk.write_file(path, entry.content)
        path.chmod(entry.mode)
    else:
        path.mkdir(parents=True, exist_ok=True)
