"""Files of an image that a Docker engine holds, as the engine gives them out of a container that is never started."""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from docker.errors import NotFound

from envbuilder import found_files
from envbuilder.engine.docker import container as docker_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker import DockerClient

    from envbuilder.file_state import FileState

_CHUNK: Final = 1 << 20


def read(client: DockerClient, image: str, path: str) -> bytes | None:
    """Return a file; None where there is none."""
    with _archive(client, image, path) as tar:
        for member in tar or ():
            content = tar.extractfile(member) if tar is not None and member.isreg() else None
            return content.read() if content is not None else None
    return None


def below(client: DockerClient, image: str, path: str) -> dict[str, FileState]:
    """Return the files and links below a directory."""
    with _archive(client, image, path) as tar:
        return found_files.of_tar(tar, path.rpartition("/")[2]) if tar is not None else {}


@contextmanager
def _archive(client: DockerClient, image: str, path: str) -> Iterator[tarfile.TarFile | None]:
    with docker_container.created(client, image, {"command": ["-"]}) as container:
        try:
            chunks, _ = container.get_archive(path, chunk_size=_CHUNK)
        except NotFound:
            yield None
            return
        with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks), _CHUNK), mode="r|") as tar:
            yield tar


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._chunks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
