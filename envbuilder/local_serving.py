"""A model served on this machine without an image: the same front and workers, in the environment that is locked."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from envbuilder import local_front, process, stages
from envbuilder.engine import Running
from envbuilder.errors import ServingFailedError, Source
from envbuilder.reporter import Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from envbuilder.choices import Choices
    from envbuilder.machine import Machine

_POLL: Final = 0.1


@contextmanager
def serve(
    model: str | Path,
    choices: Choices,
    *,
    port: int = 8080,
    workers: int = 1,
    variables: Mapping[str, str] = MappingProxyType({}),
    machine: Machine,
) -> Iterator[Running]:
    """Serve a model on 127.0.0.1:`port` while the block lasts; `variables` are the settings of the server.

    Raises what `reproduce` raises, and ServingFailedError where the server ends before it answers.
    """
    stages.check_free(port)
    timings = Timings(machine.reporter)
    own = {"ENVBUILDER_PORT": str(port), "MLFLOW_MODELS_WORKERS": str(workers)}
    told = machine.reporter
    with (
        local_front.ready(model, choices, machine=machine, timings=timings) as front,
        process.started(
            (*front.command, "serve"),
            environ={**front.environ, **variables, **own},
            on_line=lambda line: told.line("run", line),
        ) as child,
    ):
        with timings.stage("start"):
            _wait(child.poll, port)
        yield Running(url=f"http://127.0.0.1:{port}", wait=child.wait)


def _wait(poll: Callable[[], int | None], port: int) -> None:
    """Wait until the model is loaded; raises ServingFailedError where the server ends before."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        code = poll()
        if code is not None:
            raise ServingFailedError(
                f"the server ended with exit code {code} before it answered",
                where=Source(file="serve"),
                fix="read its log above: the model does not load in its own environment",
            )
        try:
            with opener.open(f"http://127.0.0.1:{port}/ping", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL)


__all__ = ["serve"]
