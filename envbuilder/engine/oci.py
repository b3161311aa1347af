"""The embedded engine: image layers straight from the lock, no daemon, no root; tried and run in a namespace sandbox.

Layers from the base up: one for each large wheel, one for all small ones with the skeleton of the environment, the
server, the model. Each is kept under what it was made from, so that only what changed is made again.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import bases, digest, disk, docker_archive, layer, process, sandbox, smoke, snapshot
from envbuilder.base_image import BaseImage, Interpreter
from envbuilder.engine import BuiltImage, BuiltLayer, Running, probe
from envbuilder.errors import BaseImageError
from envbuilder.image_plan import ENVIRONMENT_PREFIX, MODEL_DIRECTORY, SERVER_PREFIX, prefix_entries
from envbuilder.installer import wheels
from envbuilder.oci_image import Descriptor, Image, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from envbuilder.bases import BaseReference
    from envbuilder.image_plan import ImagePlan
    from envbuilder.installer.wheels import Tree
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform
    from envbuilder.smoke import SmokeReport

_LARGE: Final = 4_000_000
"""Bytes of a wheel from which on it gets a layer of its own."""

_MOST_LARGE: Final = 40
"""Engines take at most 127 layers; the base brings some."""


def available(machine: Machine) -> str | None:
    """Return None when this machine lets us make sandboxes, which trying and running an image needs."""
    del machine
    return sandbox.is_allowed()


def base_image(reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
    """Bring the base into the store and ask its Python what it is, once per digest."""
    found, image = bases.fetch(reference, platform=platform, machine=machine)
    return BaseImage(
        reference=reference.text,
        pinned=reference.name_in_engine(found) if reference.is_assembled else f"{reference.text}@{found}",
        digest=found,
        platform=image.platform,
        interpreter=_interpreter(reference.text, image, machine),
        environ=image.config.env,
        labels=image.config.labels,
        image=image,
    )


def build(plan: ImagePlan, *, machine: Machine) -> BuiltImage:
    """Make the layers that are not in the store yet, then the manifest."""
    base = plan.base.image
    if base is None:
        raise BaseImageError(f"`{plan.base.reference}` is held by another engine", fix="choose that engine")
    # A layer with a comment is one of ours.
    made: list[tuple[Layer, bool]] = [(replace(item, comment=""), True) for item in base.layers]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made += pool.map(lambda make: make(), _makers(plan, base, machine))
    image = Image(platform=base.platform, config=plan.config, layers=tuple(item for item, _ in made))
    descriptor = machine.store.add_image(image)
    return _built(descriptor, image, reused=tuple(reused for _, reused in made))


def try_image(image: BuiltImage, plan: ImagePlan, *, machine: Machine) -> SmokeReport:
    """Run the image's own smoke test in a sandbox: no network, read-only root, no capabilities."""
    value = machine.store.image(image.digest)
    box = _sandbox(value, machine, command=smoke.COMMAND)
    try:
        finished = sandbox.run(box, timeout=smoke.TIMEOUT, on_line=lambda line: machine.reporter.line("smoke", line))
    except TimeoutError:
        return smoke.read(b"", (f"no answer within {smoke.TIMEOUT} s",), model=str(plan.model.directory))
    return smoke.read(finished.stdout, finished.tail, model=str(plan.model.directory))


def tag(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> None:
    """Name the image in the store's index."""
    value = machine.store.image(image.digest)
    machine.store.tag(value.descriptor(), *references)


def find(reference: str, *, machine: Machine) -> BuiltImage | None:
    """Return the image with this name, if it is in the store with all its layers."""
    descriptor = machine.store.references().get(reference)
    if descriptor is None or not machine.store.has(descriptor.digest):
        return None
    image = machine.store.image(descriptor.digest)
    if not all(machine.store.has(item.blob.digest) for item in image.layers):
        return None
    return _built(descriptor, image, reused=(True,) * len(image.layers))


def archive(image: BuiltImage, references: tuple[str, ...], *, machine: Machine) -> Iterable[bytes]:
    """Give the bytes of an archive that `docker load` reads."""
    return docker_archive.stream(machine.store.image(image.digest), references, machine.store)


@contextmanager
def running(image: BuiltImage, *, port: int, machine: Machine) -> Iterator[Running]:
    """Serve on 127.0.0.1:`port` from a sandbox that shares this machine's network."""
    value = machine.store.image(image.digest)
    box = _sandbox(value, machine, command=("serve", "--host", "127.0.0.1", "--port", str(port)), network=True)
    with (
        sandbox.command_of(box) as command,
        process.started(command, environ={}, on_line=lambda line: machine.reporter.line("run", line)) as child,
    ):
        yield Running(url=f"http://127.0.0.1:{port}", wait=child.wait)


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
    makers.append(_Maker(key=["model", plan.model_digest], comment="model", write=plan.model_entries, machine=machine))
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


def _sandbox(image: Image, machine: Machine, *, command: tuple[str, ...], network: bool = False) -> sandbox.Sandbox:
    config = image.config
    environ = dict(config.env)
    return sandbox.Sandbox(
        lower=_unpacked(image, machine),
        command=(*config.entrypoint, *command),
        environ=tuple(environ.items()),
        network="host" if network else "none",
        cwd=config.working_dir or MODEL_DIRECTORY,
    )


def _unpacked(image: Image, machine: Machine) -> tuple[Path, ...]:
    """Return the image's directories: one for the base, one for each layer that envbuilder made."""
    ours = [item for item in image.layers if item.comment]
    base = [item for item in image.layers if not item.comment]
    chain = snapshot.of_chain(base, store=machine.store, snapshots=machine.snapshots)
    return (
        chain,
        *(snapshot.of_layer(item, store=machine.store, snapshots=machine.snapshots) for item in ours),
    )


def _interpreter(reference: str, image: Image, machine: Machine) -> Interpreter:
    def ask() -> bytes:
        root = snapshot.of_chain(image.layers, store=machine.store, snapshots=machine.snapshots)
        box = sandbox.Sandbox(
            lower=(root,),
            command=(_python(reference, image, root), *probe.ARGUMENTS),
            environ=image.config.env,
        )
        finished = sandbox.run(box, timeout=60)
        if not finished.ok:
            raise probe.does_not_run(reference, finished.tail)
        return finished.stdout

    diff_ids = [item.diff_id for item in image.layers]
    return probe.interpreter(reference, diff_ids=diff_ids, environ=image.config.env, ask=ask, machine=machine)


def _python(reference: str, image: Image, root: Path) -> str:
    """Return the first `python3` on the image's PATH."""
    for folder in dict(image.config.env).get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        candidate = f"{folder.rstrip('/')}/python3"
        if os.path.lexists(root / candidate.lstrip("/")):
            return candidate
    raise probe.no_python(reference)


def _built(descriptor: Descriptor, image: Image, *, reused: tuple[bool, ...]) -> BuiltImage:
    return BuiltImage(
        identity=descriptor.digest,
        digest=descriptor.digest,
        layers=tuple(
            BuiltLayer(comment=item.comment or "base", digest=item.blob.digest, size=item.blob.size, reused=known)
            for item, known in zip(image.layers, reused, strict=True)
        ),
    )


__all__ = ["archive", "available", "base_image", "build", "find", "running", "tag", "try_image"]
