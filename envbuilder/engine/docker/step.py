"""Steps in a container: files go in and out through the engine, which may be on another machine."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from docker.errors import ImageNotFound

from envbuilder import layer
from envbuilder.build_step import MAX_OUTPUT, OUTPUT, PLACE, USER, StepEnded
from envbuilder.engine.docker import container as docker_container
from envbuilder.errors import BaseImageError, BuildFailedError, Source
from envbuilder.process import TAIL_LINES
from envbuilder.source_tree import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

    from envbuilder.base_image import BaseImage
    from envbuilder.build_step import Step
    from envbuilder.machine import Machine

_LIMITS: Final[dict[str, Any]] = {
    "network_mode": "none",
    "pids_limit": 1024,
    "mem_limit": "4g",
    # Whatever a program prints, the engine keeps this much.
    "log_config": {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "1"}},
}


def run(client: DockerClient, base: BaseImage, step: Step, *, machine: Machine) -> StepEnded:
    """Run the step in a container of the base image, which is removed whatever happens."""
    # Anonymous volumes: the only places that are written to, and gone with the container.
    places = [PLACE, *(one.target for one in step.inputs if not one.target.startswith(f"{PLACE}/"))]
    options: dict[str, Any] = {
        **_LIMITS,
        "volumes": places,
        "entrypoint": [step.command[0]],
        "command": list(step.command[1:]),
        "environment": dict(step.environ),
        "user": f"{USER}:{USER}",
        "working_dir": "/",
    }
    try:
        with docker_container.created(client, base.pinned, options) as container:
            for place in places:
                with tempfile.TemporaryFile() as packed:
                    _pack(step, place, packed)
                    packed.seek(0)
                    container.put_archive(place, cast("bytes", packed))
            container.start()
            code = docker_container.wait(client, container, step.timeout)
            tail = tuple(container.logs(tail=TAIL_LINES).decode(errors="replace").splitlines())
            for line in tail:
                machine.reporter.line("build", line)
            if code is not None:
                _collect(container, step.output)
            return StepEnded(code=code, tail=tail)
    except ImageNotFound as cause:
        raise BaseImageError(
            f"the engine has no image `{base.pinned}` any more",
            where=Source(file=base.reference),
            fix="build again: the base is brought back then",
        ) from cause


def _pack(step: Step, place: str, packed: IO[bytes]) -> None:
    """Write what the volume at `place` holds at first: copies belong to the step's user, the rest to root."""
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if OUTPUT.startswith(f"{place}/"):
            _add(tar, layer.Entry(path=OUTPUT.removeprefix(f"{place}/"), mode=0o755), USER)
        for one in step.inputs:
            if one.target != place and not one.target.startswith(f"{place}/"):
                continue
            owner = USER if one.is_copied else 0
            inside = one.target.removeprefix(place).lstrip("/")
            top = [layer.Entry(path=inside, mode=0o755)] if inside else []
            for entry in layer.with_parents([*top, *layer.tree_entries(one.directory, inside)]):
                _add(tar, entry, owner)


def _add(tar: tarfile.TarFile, entry: layer.Entry, owner: int) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode, info.mtime, info.uid, info.gid = entry.mode, EPOCH, owner, owner
    if entry.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
    elif isinstance(entry.content, Path):
        info.size = entry.content.stat().st_size
        with entry.content.open("rb") as stream:
            tar.addfile(info, stream)
    else:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)


def _collect(container: Container, target: Path) -> None:
    chunks, _ = container.get_archive(OUTPUT)
    left = MAX_OUTPUT
    with tarfile.open(fileobj=cast("IO[bytes]", io.BufferedReader(_Chunks(chunks))), mode="r|") as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            stream = tar.extractfile(member) if member.isreg() and name and "/" not in name else None
            if stream is None:
                continue
            left -= member.size
            if left < 0:
                raise BuildFailedError(
                    f"the build left more than {MAX_OUTPUT} bytes behind",
                    where=Source(file=OUTPUT),
                    fix="offer a wheel of the package in an index",
                )
            with (target / name).open("wb") as file:
                shutil.copyfileobj(stream, file)


class _Chunks(io.RawIOBase):
    """The engine's chunks as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever bytes can be put into
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
