"""One blob on its way into a repository: there already, mounted from another one, or uploaded.

An upload that breaks off goes on where the registry says that it ended, else from the start. It is one PATCH, as
Docker sends it: registries that take chunks refuse the pieces of a broken one, and some take no chunks at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urljoin

import requests

from envbuilder import digest
from envbuilder.errors import RegistryRefusedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Descriptor
    from envbuilder.registry.repository import Repository

Outcome = Literal["present", "mounted", "uploaded"]

_CHUNK: Final = 1 << 18
_BYTES: Final = "application/octet-stream"


@dataclass(slots=True, kw_only=True)
class Upload:
    """Brings one blob there; after a failure, `attempt` goes on where the last one ended."""

    repository: Repository
    blob: Descriptor
    store: ImageStore
    other: str | None
    """Another repository of the registry, which has the blob."""

    stopped: threading.Event
    on_bytes: Callable[[int], None]
    location: str | None = None
    was_sent: bool = False

    def attempt(self) -> Outcome:
        """Bring the blob there; raises UnreachableError where another attempt can succeed."""
        if self._is_there():
            return "uploaded" if self.was_sent else "present"
        offset = self._received() if self.location is not None else 0
        if self.location is None:
            response = self._start()
            if response is None:
                return "mounted"
            self.location = response
        content = _Content(self, offset)
        headers = {"Content-Type": _BYTES}
        if offset:
            headers["Content-Range"] = f"{offset}-{self.blob.size - 1}"
        self.was_sent = True
        try:
            self.location = self._follow(self.repository.request("PATCH", self.location, headers=headers, body=content))
        except RegistryRefusedError as cause:
            if not offset:
                raise
            self.location = None
            raise self.repository.cut("the upload cannot be taken up again") from cause
        separator = "&" if "?" in self.location else "?"
        with self.repository.request("PUT", f"{self.location}{separator}digest={self.blob.digest}", body=bytes):
            return "uploaded"

    def _is_there(self) -> bool:
        with self.repository.request("HEAD", f"blobs/{self.blob.digest}", is_optional=True) as response:
            return bool(response.status_code == requests.codes.ok)

    def _start(self) -> str | None:
        """Return where to send the blob; None when the registry took it from the other repository."""
        if self.other is not None:
            other, self.other = self.other, None
            try:
                asked = f"blobs/uploads/?mount={self.blob.digest}&from={other}"
                with self.repository.request("POST", asked, body=bytes) as response:
                    if response.status_code == requests.codes.created:
                        return None
                    return self._follow(response)
            except RegistryRefusedError:
                # Not allowed to read there: that does not forbid to upload.
                pass
        return self._follow(self.repository.request("POST", "blobs/uploads/", body=bytes))

    def _received(self) -> int:
        """Return how much of the blob the registry has; forgets an upload that it does not know any more."""
        location, self.location = self.location or "", None
        try:
            with self.repository.request("GET", location, is_optional=True) as response:
                if response.status_code == requests.codes.not_found:
                    return 0
                last = int(response.headers["Range"].rpartition("-")[2])
        except (RegistryRefusedError, KeyError, ValueError):
            return 0
        # `0-0` is also what an empty upload is called.
        received = last + 1 if last > 0 else 0
        if received > self.blob.size:
            return 0
        self.location = urljoin(response.url, response.headers.get("Location", location))
        return received

    def _follow(self, response: requests.Response) -> str:
        with response:
            location = response.headers.get("Location")
        if location is None:
            raise RegistryRefusedError(
                f"the registry `{self.repository.host}` names no place for an upload",
                where=self.repository.where,
                fix="check that it is a container registry that takes images",
            )
        return urljoin(response.url, location)


class _Content:
    """The bytes of a blob from `offset` on, checked against its digest before the last of them leaves."""

    def __init__(self, upload: Upload, offset: int) -> None:
        self._upload = upload
        self._offset = offset

    def __call__(self) -> _Content:
        return self

    def __len__(self) -> int:
        return self._upload.blob.size - self._offset

    def __iter__(self) -> Iterator[bytes]:
        blob = self._upload.blob
        place = self._upload.store.blob_path(blob.digest)
        state, left, skipped = hashlib.sha256(), blob.size, self._offset
        try:
            stream = place.open("rb")
        except FileNotFoundError as cause:
            raise self._upload.store.dropped(blob.digest) from cause
        with stream:
            while left:
                chunk = stream.read(min(_CHUNK, left))
                state.update(chunk)
                left -= len(chunk)
                is_whole = left > 0 or digest.of_hex(state.hexdigest()) == blob.digest
                if not chunk or not is_whole:
                    raise self._upload.store.dropped(blob.digest)
                if self._upload.stopped.is_set():
                    raise self._upload.repository.cut("the upload was stopped")
                rest = chunk[skipped:]
                skipped -= len(chunk) - len(rest)
                if rest:
                    yield rest
                    self._upload.on_bytes(len(rest))
