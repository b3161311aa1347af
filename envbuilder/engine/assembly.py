"""The layers that the embedded engine puts on a base: straight from the lock, each kept under what it was made from.

From the base up: one for each large wheel, one for all small ones with the skeleton of the environment, the server,
the model. So only what changed is made again, and models share what they have in common.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, layer, snapshot
from envbuilder.image_plan import ENVIRONMENT_PREFIX, SERVER_PREFIX, prefix_entries
from envbuilder.installer import wheels
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


def layers(plan: ImagePlan, base: Image, *, machine: Machine) -> list[tuple[Layer, bool]]:
    """Return the plan's layers from the base up, each with True when it was there already; makes those that are not."""
    makers = _makers(plan, base, machine)
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
        record = self.machine.layers / f"{digest.hex_of(digest.of_json([self.key, layer.LAYOUT_VERSION]))}.json"
        known = _recorded(record, self.comment)
        if known is not None and self.machine.store.has(known.blob.digest):
            return known, True
        content = self.write()
        with disk.full_disk_named(self.machine.settings.cache_dir):
            entries = layer.tree_entries(content) if isinstance(content, Path) else content
            made = layer.write_layer(self.machine.store, entries, comment=self.comment)
        if isinstance(content, Path):
            snapshot.keep(made, content, snapshots=self.machine.snapshots)
        disk.write_file(record, json.dumps({"blob": made.blob.to_dict(), "diff_id": made.diff_id}).encode())
        return made, False


def _recorded(record: Path, comment: str) -> Layer | None:
    try:
        value = json.loads(record.read_bytes())
        return Layer(blob=Descriptor.parse(value["blob"]), diff_id=digest.parse(value["diff_id"]), comment=comment)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _makers(plan: ImagePlan, base: Image, machine: Machine) -> list[_Maker]:
    interpreter = plan.base.interpreter
    wheels.fetch((*plan.lock.packages, *plan.server_packages), machine)
    grown: list[tuple[Tree, ...]] = []
    # The base is unpacked only when a package is new.
    root = _Lazy(lambda: snapshot.of_chain(base.layers, store=machine.store, snapshots=machine.snapshots))
    for packages, prefix in ((plan.lock.packages, ENVIRONMENT_PREFIX), (plan.server_packages, SERVER_PREFIX)):
        grown.append(wheels.grow(packages, prefix=prefix, interpreter=interpreter, root=root, machine=machine))
    environment, server = grown
    large = sorted((tree for tree in environment if tree.size >= _LARGE), key=lambda tree: (-tree.size, tree.key))
    large = large[:_MOST_LARGE]
    small = [tree for tree in environment if tree not in large]
    makers = [
        _Maker(
            key=["tree", tree.key],
            comment=f"{tree.package.name} {tree.package.version}",
            write=lambda tree=tree: tree.directory,  # type: ignore[misc]
            machine=machine,
        )
        for tree in large
    ]
    skeleton = prefix_entries(ENVIRONMENT_PREFIX, interpreter)
    makers.append(
        _Maker(
            key=["environment", sorted(tree.key for tree in small), _meaning(skeleton)],
            comment=f"environment: {len(small)} small packages" if large else f"environment: {len(small)} packages",
            write=lambda: _merged(machine, "environment", small, skeleton),
            machine=machine,
        )
    )
    skeleton_server = prefix_entries(SERVER_PREFIX, interpreter)
    makers.append(
        _Maker(
            key=["server", plan.kit.digest, sorted(tree.key for tree in server), _meaning(skeleton_server)],
            comment="server",
            write=lambda: _merged(machine, "server", server, (*skeleton_server, *_code(plan, root(), machine))),
            machine=machine,
        )
    )
    example = digest.of_bytes(plan.model.example_request or b"")
    key = ["model", plan.files.digest, example]
    makers.append(_Maker(key=key, comment="model", write=plan.model_entries, machine=machine))
    return makers


class _Lazy:
    """A value that is made when first asked for."""

    def __init__(self, make: Callable[[], Path]) -> None:
        self._make = make
        self._value: Path | None = None

    def __call__(self) -> Path:
        if self._value is None:
            self._value = self._make()
        return self._value


def _meaning(entries: tuple[layer.Entry, ...]) -> list[list[str]]:
    return [
        [entry.path, entry.link or (entry.content.decode() if isinstance(entry.content, bytes) else "")]
        for entry in entries
    ]


def _code(plan: ImagePlan, root: Path, machine: Machine) -> tuple[layer.Entry, ...]:
    """Return the server's own modules with their bytecode, as entries held in memory."""
    top = f"{SERVER_PREFIX.lstrip('/')}/{plan.site_packages}"
    with disk.temporary_directory(machine.trees) as work:
        for path, content in plan.kit.files:
            disk.write_file(work / "server" / top / path, content)
        wheels.compile_bytecode(work, ["server"], interpreter=plan.base.interpreter, root=root)
        return tuple(
            entry if not isinstance(entry.content, Path) else _in_memory(entry, entry.content)
            for entry in layer.tree_entries(work / "server")
        )


def _in_memory(entry: layer.Entry, path: Path) -> layer.Entry:
    return layer.Entry(path=entry.path, mode=entry.mode, content=path.read_bytes())


def _merged(machine: Machine, name: str, trees: Iterable[Tree], extra: tuple[layer.Entry, ...]) -> Path:
    """Return a directory with the files of all trees (hard links) and the extra entries."""
    trees = sorted(trees, key=lambda tree: tree.key)
    contents = [[entry.path, entry.link, _digest_of(entry)] for entry in extra]
    target = machine.trees / f"{name}-{digest.short(digest.of_json([[tree.key for tree in trees], contents]))}"
    if not target.is_dir():
        with disk.new_directory(target) as directory:
            for tree in trees:
                shutil.copytree(tree.directory, directory, symlinks=True, dirs_exist_ok=True, copy_function=_link_over)
            for entry in extra:
                _write(entry, directory / entry.path)
    return target


def _digest_of(entry: layer.Entry) -> str | None:
    return digest.of_bytes(entry.content) if isinstance(entry.content, bytes) else None


def _link_over(source: str, target: str) -> None:
    """Hard-link, taking the place of a file that another package put there: the later name wins, as in one folder."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        Path(target).unlink()
        os.link(source, target, follow_symlinks=False)


def _write(entry: layer.Entry, path: Path) -> None:
    if entry.link is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(entry.link)
    elif isinstance(entry.content, bytes):
        disk.write_file(path, entry.content)
    else:
        path.mkdir(parents=True, exist_ok=True)
