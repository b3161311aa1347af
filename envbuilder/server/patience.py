"""HTTP connections that do not wait for ever for the rest of a request's headers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from typing import ClassVar


FIRST_SECONDS = 1.0
"""What a client that has connected has to send its request, once the server is to end."""


class Patient(HttpToolsProtocol):
    """A connection that is closed where a request's headers take longer than `header_seconds`."""

    header_seconds: ClassVar[float] = 20.0
    _is_last = False
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End with the request in flight, or with the first one, which a client that has just connected is sending."""
        if self._has_no_request and not self._is_last:
            self._is_last = True
            asyncio.get_running_loop().call_later(FIRST_SECONDS, self._end_without_request)
        else:
            super().shutdown()

    @property
    def _has_no_request(self) -> bool:
        # uvicorn's own type says that there always is one.
        return getattr(self, "cycle", None) is None

    def on_message_begin(self) -> None:
        """Begin to wait for the headers; between requests it is the keep-alive time that counts."""
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no more."""
        self._stop()
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def _wait(self) -> None:
        self._stop()
        self._limit = asyncio.get_running_loop().call_later(self.header_seconds, self._give_up)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _end_without_request(self) -> None:
        if self._has_no_request:
            self._give_up()

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
