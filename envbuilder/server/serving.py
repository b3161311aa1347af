"""The `serve` command: the front and its workers until a signal, or until the model proves not to load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

import uvicorn

from . import contract, front, runner
from .closing import turn_away
from .patience import Patient
from .pool import Pool

if TYPE_CHECKING:
    from typing import Iterator, Mapping

    from .settings import Settings
    from .worker_process import Failure

# Longer than the idle time of the usual load balancers, so that they, not the server, close a connection.
KEEP_ALIVE = 75
ACCEPTING = 0.3
"""Seconds from a stop signal until nobody is accepted any more."""

log = logging.getLogger("envbuilder.server")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which end the process by the signal instead of with code 0."""

    _is_stopping = False

    def install_signal_handlers(self) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def stop(self, sockets: list[socket.socket]) -> None:
        """Let requests in flight end, those that have only connected too; when asked again, do not wait for them."""
        if self._is_stopping:
            self.force_exit = self.should_exit = True
            return
        self._is_stopping = True
        # Whoever waits to be accepted when a socket is closed is reset: so nobody else may come, who waits is accepted.
        for listener in sockets:
            turn_away(listener)
        asyncio.get_running_loop().call_later(ACCEPTING if sockets else 0, self._end)

    def _end(self) -> None:
        self.should_exit = True


async def serve(settings: Settings, environment: Mapping[str, str], uds: str | None) -> Failure | None:
    """Serve until a stop signal; returns why the model could not be loaded, if that ended it."""
    pool = Pool(settings, environment)
    Patient.header_seconds = settings.header_timeout
    config = uvicorn.Config(
        front.application(pool, settings, contract.find(environment)),
        http=Patient,
        uds=uds,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, int(settings.grace)),
    )
    server = _Server(config)
    sockets = None if uds else [_listen(settings.host, settings.port)]
    runner.on_stop(lambda: server.stop(sockets or []))
    pool.failed.add_done_callback(lambda _: server.stop([]))
    runner.adopt_orphans()
    pool.start()
    helpers = [asyncio.ensure_future(runner.reap_orphans(pool)), asyncio.ensure_future(_announce(pool, sockets))]
    try:
        await server.serve(sockets=sockets)
    finally:
        for helper in helpers:
            helper.cancel()
        await pool.close()
    return pool.failed.result() if pool.failed.done() else None


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket whose connections send small answers at once.

    asyncio sets TCP_NODELAY only where the socket says that it is TCP. One made with the default protocol does not,
    and each request on a kept connection then waits 40 ms for a delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


async def _announce(pool: Pool, sockets: list[socket.socket] | None) -> None:
    await pool.loaded.wait()
    for listener in sockets or []:
        host, port = listener.getsockname()[:2]
        log.info("ready on http://%s:%d/invocations", f"[{host}]" if ":" in host else host, port)
